"""A manager: compares the challenger with the champion, takes the memo, promotes with a reason, and takes it back."""


def test_a_challenger_is_promoted_and_rolled_back(visitor):
    champion = visitor.api("/health")["champion"]["version"]
    models = visitor.api("/v1/models")["items"]
    challenger = max(models, key=lambda model: model["created_at"])["version"]
    assert challenger != champion

    visitor.go("experiments", version=challenger)
    visitor.see("Gates")
    visitor.see("Side by side")
    memo, paper = visitor.download("memo-html").decode(), visitor.download("memo-pdf")
    assert f"v{challenger}" in memo
    assert "data:image/svg+xml" in memo
    assert paper.startswith(b"%PDF-")

    visitor.click(f"Promote v{challenger}")
    visitor.fill("Your name", "Marta")
    visitor.fill("Reason", "Learns from this year only")
    visitor.page.locator(".st-key-promote button").click()
    visitor.see(f"v{challenger} is the champion")
    assert visitor.api("/health")["champion"]["version"] == challenger
    visitor.shot("manager-1-promoted")

    visitor.click(f"Roll back to v{champion}")
    visitor.fill("Your name", "Marta")
    visitor.fill("Reason", "The shop in the harbour complained")
    visitor.page.locator(".st-key-rollback button").click()
    visitor.see(f"Promote v{challenger}")
    assert visitor.api("/health")["champion"]["version"] == champion
    visitor.shot("manager-2-rolled-back")
    moves = visitor.api("/v1/promotions")["items"]
    assert [(move["action"], move["version"], move["actor"]) for move in moves][:2] == [
        ("rollback", champion, "Marta"),
        ("promote", challenger, "Marta"),
    ]
