"""An integrator: makes a key, sends the page's question with it, finds the answer in the history, revokes the key."""

import re
import subprocess

import pytest
import requests


@pytest.fixture(scope="module")
def secret():
    """Filled in by the first test."""
    return {}


def test_a_key_is_made_and_shown_once(visitor, secret):
    visitor.go("access")
    visitor.fill("Name of the program", "Cash registers")
    visitor.choose("Role", "planner")
    visitor.click("Make a key")
    secret["key"] = visitor.page.locator(".st-key-new-key-shown code").inner_text().strip()
    visitor.shot("integrator-1-key")
    visitor.click("I have copied it")
    visitor.page.wait_for_function("key => !document.documentElement.outerHTML.includes(key)", arg=secret["key"])
    visitor.see("1 key of a program is valid")


def test_the_key_predicts_and_the_answer_stands_in_the_history(visitor, stack, secret):
    visitor.go("access")
    shown = visitor.page.locator("code.language-bash").first.inner_text()
    assert "/v1/forecast" in shown
    with_key = shown.replace("curl ", f"curl -H 'X-API-Key: {secret['key']}' ", 1)
    done = subprocess.run(["bash", "-c", with_key], capture_output=True, text=True, timeout=60, check=True)
    assert '"predictions":[' in done.stdout.replace(" ", "")
    (newest,) = visitor.api("/historical-predictions?limit=1")["items"]

    visitor.go("history", in_store=newest["store"], in_product=newest["product"])
    row = visitor.page.frame_locator("iframe").first.locator(".ag-row").first
    row.wait_for()
    assert f"{newest['prediction']:,.1f}"[:4] in row.inner_text()
    visitor.shot("integrator-2-history")


def test_all_that_was_asked_of_a_store_is_taken_along(visitor):
    (newest,) = visitor.api("/historical-predictions?limit=1")["items"]
    visitor.go("history", in_store=newest["store"])
    visitor.click("Export all that fit")
    visitor.see("predictions were written", 60)
    job = re.search(r"job=(\w+)", visitor.page.url)[1]
    visitor.page.reload()  # nothing is lost by it
    visitor.see("predictions were written")
    visitor.shot("integrator-4-export")
    result, about = visitor.sheet(f"get-predictions-{job}-xlsx").values()
    assert result["prediction_id"].max() == newest["prediction_id"]
    assert set(result["store"]) == {newest["store"]}
    assert f"store = {newest['store']}" in str(about.rows())


def test_a_revoked_key_is_refused(visitor, stack, secret):
    visitor.go("access")
    visitor.click("Revoke a key")
    visitor.see("Its program is refused within seconds")
    visitor.click("Yes, revoke it")
    visitor.see("no key for a program is valid")
    visitor.shot("integrator-3-revoked")
    refused = requests.get(f"{stack.settings.api}/v1/me", headers={"X-API-Key": secret["key"]}, timeout=10)
    assert refused.status_code == 401
    assert secret["key"] not in refused.text
