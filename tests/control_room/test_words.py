"""Decisions, gates and findings in words."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room import words
from ml.explain import GROUPS
from ml.findings import FINDING_CODES, finding
from ml.records import Choice, Contribution, Decision, Explanation, Gate, ModelRef, Support


def decision(**changes) -> Decision:
    return Decision(**{"verdict": "better", "promote": True, "needs_approval": False, "reason": "", **changes})


def test_a_gain_is_said_as_less_error(speak):
    speak("en")
    assert words.gain(decision(gain=0.043, gain_low=0.018, gain_high=0.067)) == (
        "Its error on the same rows is 4.3% smaller than the champion's (95 % interval: 1.8% smaller to 6.7% smaller)."
    )
    assert "5.0% larger than" in words.gain(decision(gain=-0.05, gain_low=-0.08, gain_high=0.01))
    assert words.gain(decision(gain=None)) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "so it was promoted"),
        ({"promote": False, "needs_approval": True}, "a manager decides"),
        ({"promote": False}, "A gate failed"),
        ({"promote": False, "verdict": "too_close", "days_to_tell": 1}, "About 1 more day of sales"),
        ({"promote": False, "verdict": "too_close", "days_to_tell": 41}, "About 41 more days of sales"),
        ({"promote": False, "verdict": "worse"}, "The champion stays."),
        ({"promote": False, "verdict": "first"}, "It is not promoted."),
    ],
)
def test_what_follows(speak, changes, said):
    speak("en")
    assert said in words.consequence(decision(**changes))


def test_a_first_model_that_is_not_good_enough(speak):
    speak("en")
    assert "does not reach seasonal naive" in words.verdict(decision(verdict="first", promote=False), "1", None)


def test_gates(speak):
    speak("es")
    name, value, bound = words.gate(Gate(name="min_gain", passed=False, value=0.008, bound=0.01, note=""))
    assert name.startswith("Error reducido")
    assert (value, bound) == ("+0,8\N{NO-BREAK SPACE}%", "+1,0\N{NO-BREAK SPACE}%")
    assert words.gate(Gate(name="new_gate", passed=True, value=None, bound=None, note=""))[0] == "new gate"


@pytest.mark.parametrize("code", sorted(FINDING_CODES))
def test_findings_say_the_same_as_the_reader(speak, code):
    """With facts as text, the English sentence is the reader's own; the Spanish one is another and complete."""
    import string

    names = {n for _, n, _, _ in string.Formatter().parse(FINDING_CODES[code]) if n} - {"row", "column", "count"}
    made = finding(code, "fix", row=3, column="precio", count=2, **dict.fromkeys(names, "x {y}"))
    speak("en")
    assert words.finding(made)[0] == made.message
    speak("es")
    text, _ = words.finding(made)
    assert text != made.message
    assert not (names and "x {y}" not in text)


def test_a_finding_from_the_future_is_shown_as_it_came(speak):
    speak("es")
    known = finding("file_empty", "reject")
    new = known.model_copy(update={"code": "brand_new"})
    assert words.finding(new) == (known.message, known.hint)
    lacking = finding("date_invalid", "row", column="f", value="x", format="y").model_copy(update={"facts": {}})
    assert words.finding(lacking)[0] == lacking.message


def test_where(speak):
    speak("en")
    made = finding("date_empty", "row", row=1204, column="date", count=3)
    assert words.where(made) == "row 1,204, column “date”, and 2 more like it"
    assert words.where(finding("file_empty", "reject")) == "the whole file"
    assert words.where(finding("header_read_as", "fix", count=4, pairs="a → b")) == "the whole file"


def test_support_is_counted(speak):
    speak("en")
    assert "1 similar day (" in words.badge_help(Support(similar_days=1, level="thin"))
    assert "extrapolation" in words.badge_help(Support(similar_days=0, level="none"))
    leaning = Support(similar_days=0, level="thin", similar_sibling_days=1204)
    assert words.badge_help(leaning).endswith("Similar products or stores have 1,204 such days.")


def told(sentence, *drivers) -> Explanation:
    return Explanation(
        date=dt.date(2026, 1, 5), store="s", product="p", prediction=30.0, unit="units/day", base=21.3,
        contributions=(), sentence=sentence, drivers=tuple(Contribution(group=g, units=u) for g, u in drivers),
        model=ModelRef(name="sales", version="1", alias=None, run_id="r"), data_version="d",
    )  # fmt: skip


def test_a_forecast_is_explained_in_one_sentence(speak):
    speak("en")
    assert words.explanation(told("raised", ("promotion", 7.25), ("regressor:temperature", 1.0))) == (
        "More than the usual 21.3 units/day, because of promotion (+7.2), temperature (+1.0)."
    )
    assert words.explanation(told("usual")) == "About as much as usual (21.3 units/day)."
    speak("es")
    assert "promoción (+7,2)" in words.explanation(told("mixed", ("promotion", 7.25), ("price", -2.0)))
    assert "precio (−2,0)" in words.explanation(told("mixed", ("promotion", 7.25), ("price", -2.0)))


def test_every_group_and_sentence_of_an_explanation_has_words():
    assert set(words.EXPLANATIONS) == set(Explanation.model_fields["sentence"].annotation.__args__)
    assert {group for _, group in GROUPS} | {"closed", "other"} <= set(words.DRIVERS)


def test_unknown_states_stand_for_themselves():
    assert words.state(words.TASK_STATES, "deferred")[1] == "deferred"
    assert words.state(words.TASK_STATES, None)[1] == "waits"


# ---------------------------------------------------------------- which model answers


def made(**changes) -> Choice:
    values = {"kind": "seasonal_naive", "reason": "simpler", "metric": "wape", "periods": 365, "frequency": "D"}
    return Choice.model_validate(values | {"rows": 225, "errors": {"seasonal_naive": 0.21, "xgboost": 0.27}} | changes)


@pytest.mark.parametrize(
    ("choice", "en", "es"),
    [
        (made(), "on 365 days of history nothing beat it (WAPE 21.0%, boosted trees 27.0%)", "365 días de"),
        (made(reason="short", periods=14), "14 days of history is too little", "con 14 días de historia no se puede"),
        (made(reason="short", periods=14, errors={}), "learns.", "uno que aprenda."),
        (made(reason="short", periods=1, frequency="W"), "1 week of history", "1 semana de historia"),
    ],
)  # fmt: skip
def test_a_simple_model_says_why_it_answers(speak, choice, en, es):
    for language, wanted, name in (("en", en, "Seasonal naive answers"), ("es", es, "Referencia estacional")):
        speak(language)
        assert wanted in words.choice(choice)
        assert name in words.choice(choice)


def test_nothing_is_said_of_trees_that_won_or_of_older_models(speak):
    speak("en")
    assert words.choice(made(kind="xgboost", reason="trees")) == ""
    assert words.choice(None) == ""


@pytest.mark.parametrize(("separator", "wanted"), [("semicolon", "punto y coma"), ("tab", "tabulador"), ("|", "|")])
def test_separators_are_named_in_the_readers_language(speak, separator, wanted):
    speak("es")
    said, _ = words.finding(finding("separator_detected", "fix", separator=separator))
    assert wanted in said
    assert "semicolon" not in said


def test_what_has_no_dates_has_no_span(speak):
    speak("es")
    assert words.span(None, None) == "–"
