"""The advice on the retrain page, in both languages and in every state."""

from __future__ import annotations

import pytest

from control_room import reasons
from control_room.i18n import Reader, speaking
from ml import records as r
from ml.advice import Error, Facts, advise

TODAY = Facts(
    champion="7", new_periods=35, new_rows=12_600, trained_rows=90_000, age_days=40.2, gains=(0.03, 0.0, 0.02),
    drift={"price": (0.31, 2.0), "promotion": (0.02, 1.0)}, live=Error(0.31, 0.27, 0.35, 900, 28),
    expected=Error(0.2, 0.17, 0.23, 9000),
)  # fmt: skip


def texts(app) -> str:
    return "\n".join([item.value for item in app.markdown] + [item.value for item in app.caption])


def unescaped(text: str) -> str:
    return text.replace("\\", "")


@pytest.mark.parametrize(
    ("language", "headline", "live"),
    [
        ("en", "Advice: retrain now.", "erred by 31.0%"),
        ("es", "Consejo: reentrenar ahora.", "31,0"),
    ],
)
def test_the_advice_comes_first_with_its_numbers(console, world, language, headline, live):
    world.advice = advise(TODAY)
    app = console("retrain", language=language)
    said = unescaped(texts(app))
    assert headline in said
    assert live in said
    assert not app.exception


def test_what_is_in_the_way_is_said_with_what_is_wanted_all_the_same(console, world):
    world.advice = advise(Facts(champion="7", same_data=True, age_days=120.0, blockers=("run_active",)))
    said = unescaped(texts(console("retrain")))
    for part in ("Advice: not now.", "A retraining is running already", "exactly this data", "trained 120 days ago",
                 "as soon as nothing is in its way"):  # fmt: skip
        assert part in said


def test_without_data_the_next_step_is_to_load_some(console, world):
    world.empty = True
    assert "There is no data to learn from yet" in unescaped(texts(console("retrain")))


def test_a_service_that_is_away_is_named(console, world):
    world.down = {"airflow"}
    said = unescaped(texts(console("retrain")))
    assert "no run can be started" in said
    assert "Not asked, because it does not answer: Airflow (pipelines)." in said


def test_an_api_that_is_away_takes_only_the_advice_away(console, world):
    world.down = {"api"}
    app = console("retrain")
    assert not app.exception
    assert any(button.key == "retry-advice" for button in app.button)
    assert "Settings of the run" in [item.value for item in app.subheader]


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_code_has_words_in_both_languages(language):
    facts = dict.fromkeys(("wape", "low", "high", "expected", "expected_high", "share", "index", "effect"), 0.123)
    facts |= {"rows": 5, "days": 3, "periods": 2, "needed": 28, "retrains": 4, "feature": "price", "importance": 0.5}
    with speaking(Reader(language, language)):
        for code in r.AdviceReason.model_fields["code"].annotation.__args__:
            assert "{" not in reasons.reason(r.AdviceReason(code=code, weight="weak", facts=facts))
        for code in r.AdviceBlocker.model_fields["code"].annotation.__args__:
            assert "{" not in reasons.blocker(r.AdviceBlocker(code=code, facts=facts))
        for advice in (advise(TODAY), advise(Facts()), advise(Facts(gains=(0.01,)))):
            assert "{" not in reasons.expected(advice)
