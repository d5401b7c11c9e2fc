"""The retrain advice in words. Text only; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Mapping

from control_room.i18n import N_, gettext, ngettext, number, percent
from control_room.words import PART_NAMES, driver, word
from ml.records import Advice, AdviceBlocker, AdviceReason

# Verdict: icon, headline, tone of the page.
VERDICTS = {
    "retrain": (":material/model_training:", N_("Advice: retrain now."), "orange"),
    "wait": (":material/hourglass_empty:", N_("Advice: wait, the champion is still up to date."), "green"),
    "blocked": (":material/block:", N_("Advice: not now."), "gray"),
}
WEIGHTS = {
    "strong": (":material/keyboard_double_arrow_up:", N_("strong reason"), "orange"),
    "weak": (":material/keyboard_arrow_up:", N_("reason"), "blue"),
    "none": (":material/check:", N_("no reason"), "gray"),
    "against": (":material/keyboard_arrow_down:", N_("speaks against it"), "gray"),
}
SENTENCES = {
    "no_champion": N_("No champion serves yet: the first good model will."),
    "live_accuracy": N_(
        "Predictions whose day has come erred by {wape} ({low} to {high}; {rows} rows, {days} days); "
        "the backtest promised {expected}, and up to {expected_high} would be usual."
    ),
    "live_few": N_("Only {rows} predictions of {days} days can be compared with real sales so far: too few to judge."),
    "drift": N_(
        "Drift of the inputs, weighted by their importance, is {index} (from 0.10 on worth a look, from 0.25 on "
        "strong); most of it is {feature} ({effect})."
    ),
    "data_changed": N_("The history itself has changed since the champion learned, without newer days."),
    "new_rows": N_("{rows} new rows of {periods} periods: {share} more than the champion has learned from."),
    "age": N_("The champion was trained {days} days ago."),
    "small_gains": N_("The last {retrains} retrainings brought little: at most {high} less error."),
}
CALM_DRIFT = N_("No input has drifted beyond what chance does.")
BLOCKERS = {
    "no_data": N_("There is no data to learn from yet."),
    "run_active": N_("A retraining is running already."),
    "paused": N_("Retraining is paused in Airflow."),
    "airflow_away": N_("Airflow does not answer, so no run can be started."),
    "etl_failed": N_("The last ETL run failed: what it was to bring is not in the data."),
    "checks_failed": N_("The data was published although a check failed: look at it first."),
    "unchanged_data": N_("The champion has learned from exactly this data; the gate never promotes another throw."),
    "few_new_rows": N_("There are only {rows} new rows; fewer than {needed} cannot be told from chance."),
}
SHARES = ("wape", "low", "high", "expected", "expected_high", "share")
INDICES = ("index", "effect")


def reason(item: AdviceReason) -> str:
    """One fact that was weighed, with its numbers."""
    if item.code == "drift" and not item.facts.get("index"):
        return gettext(CALM_DRIFT)
    return gettext(SENTENCES[item.code]).format(**_numbers(item.facts))


def blocker(item: AdviceBlocker) -> str:
    return gettext(BLOCKERS[item.code]).format(**_numbers(item.facts))


def _numbers(facts: Mapping[str, float | int | str]) -> dict[str, str]:
    return {name: _number(name, value) for name, value in facts.items()}


def _number(name: str, value: float | int | str) -> str:
    if isinstance(value, str):
        return driver(value) if name == "feature" else value
    if name in SHARES:
        return percent(value)
    return number(value, 2 if name in INDICES else 0)


def expected(advice: Advice) -> str:
    """What past retrainings let hope for."""
    if advice.expected_gain is None:
        return gettext("No retraining has been judged against a champion yet, so the gain to expect is not known.")
    text = ngettext(
        "The last retraining brought {gain} less error.",
        "The last {count} retrainings brought {gain} less error on average, 0 counted where the champion stayed.",
        advice.past_retrains,
    )
    said = text.format(count=number(advice.past_retrains), gain=percent(advice.expected_gain))
    if advice.expected_gain_low is None or advice.expected_gain_high is None:
        return said
    interval = gettext("95 % interval of the mean: {low} to {high}.").format(
        low=percent(advice.expected_gain_low), high=percent(advice.expected_gain_high)
    )
    return f"{said} {interval}"


def unknown(advice: Advice) -> str:
    """Which parts could not be asked; empty when all answered."""
    if not advice.unknown:
        return ""
    names = ", ".join(word(PART_NAMES, name) for name in advice.unknown)
    return gettext("Not asked, because it does not answer: {names}.").format(names=names)
