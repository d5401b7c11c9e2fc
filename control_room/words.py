"""Codes and states -> the words a person reads. Text only; nothing is drawn here."""

from __future__ import annotations

from typing import Literal

from control_room.findings import FINDINGS, KINDS
from control_room.i18n import N_, NOTHING, amount, day, gettext, ngettext, number, percent
from ml.records import (
    Alert,
    Choice,
    Contribution,
    Decision,
    Evaluation,
    Explanation,
    Finding,
    Gate,
    Progress,
    Segment,
    Support,
    Total,
)

# ---------------------------------------------------------------- states: icon, words, colour (never colour alone)

PART_STATES = {
    "ok": (":material/check_circle:", N_("works"), "green"),
    "degraded": (":material/warning:", N_("works in part"), "orange"),
    "down": (":material/error:", N_("does not answer"), "red"),
    "absent": (":material/do_not_disturb_on:", N_("not there yet"), "gray"),
}
RUN_STATES = {
    "queued": (":material/schedule:", N_("queued"), "gray"),
    "running": (":material/autorenew:", N_("running"), "blue"),
    "success": (":material/check_circle:", N_("done"), "green"),
    "failed": (":material/error:", N_("failed"), "red"),
}
JOB_STATES = {
    "queued": (":material/schedule:", N_("queued"), "gray"),
    "running": (":material/autorenew:", N_("running"), "blue"),
    "done": (":material/check_circle:", N_("done"), "green"),
    "failed": (":material/error:", N_("failed"), "red"),
    "cancelled": (":material/cancel:", N_("cancelled"), "gray"),
}
TASK_STATES = {
    **RUN_STATES,
    "scheduled": (":material/schedule:", N_("queued"), "gray"),
    "up_for_retry": (":material/replay:", N_("tries again soon"), "orange"),
    "restarting": (":material/replay:", N_("restarting"), "orange"),
    "upstream_failed": (":material/block:", N_("not reached"), "gray"),
    "skipped": (":material/skip_next:", N_("skipped"), "gray"),
    "removed": (":material/block:", N_("removed"), "gray"),
}
WAITING = (":material/radio_button_unchecked:", N_("waits"), "gray")
UPLOAD_STATES = {
    "received": (":material/inbox:", N_("to be decided"), "orange"),
    "accepted": (":material/task_alt:", N_("accepted, waits for ETL"), "blue"),
    "processed": (":material/check_circle:", N_("in the data"), "green"),
    "failed": (":material/error:", N_("failed"), "red"),
}
SUPPORT_LEVELS = {
    "ok": (":material/verified:", N_("well supported"), "green"),
    "thin": (":material/warning:", N_("thin support"), "orange"),
    "none": (":material/error:", N_("extrapolation"), "red"),
}
SEVERITIES = {
    "reject": (":material/block:", N_("The file is refused"), "red"),
    "row": (":material/playlist_remove:", N_("Rows left out"), "orange"),
    "fix": (":material/build:", N_("Repaired"), "blue"),
    "info": (":material/info:", N_("Good to know"), "gray"),
}
VERDICT_TONES: dict[str, Literal["good", "bad", "attention", "plain"]] = {
    "first": "good",
    "better": "good",
    "worse": "bad",
    "too_close": "attention",
    "unchanged": "plain",
}
GATE_STATES = {
    "passed": (":material/check_circle:", N_("passed"), "green"),
    "failed": (":material/cancel:", N_("not passed"), "red"),
}
PART_NAMES = {
    "api": N_("API"),
    "champion": N_("Model"),
    "airflow": N_("Airflow (pipelines)"),
    "mlflow": N_("MLflow (experiments)"),
    "object store": N_("Object store (files)"),
    "database": N_("Database"),
    "prediction log": N_("Prediction log"),
    "worker": N_("Worker (large files)"),
}
DAG_NAMES = {"process_etl_sales_data": N_("ETL"), "retrain_sales_model": N_("Retraining")}
TASK_NAMES = {
    "collect": N_("collect the uploads"),
    "validate": N_("check the rows"),
    "clean": N_("clean and complete"),
    "split": N_("split train and test"),
    "check": N_("look for what is odd"),
    "publish": N_("publish the data"),
    "tidy": N_("tidy up"),
    "snapshot": N_("take the data"),
    "tune": N_("look for settings"),
    "train": N_("train the challenger"),
    "backtest": N_("test on past weeks"),
    "decide": N_("decide"),
    "promote": N_("promote"),
    "confirm": N_("confirm it serves"),
}
PROGRESS = {
    "trial": N_("trial {number} of {total}"),
    "fold": N_("past block {number} of {total}, up to {ahead} periods ahead"),
}
MODEL_NAMES = {
    "challenger": N_("Challenger"),
    "champion": N_("Champion"),
    "seasonal_naive": N_("Seasonal naive"),
    "moving_average": N_("Moving average"),
    "model": N_("Predictions"),
    "override": N_("Manual override"),
    "linear": N_("Linear model"),
    "xgboost": N_("Boosted trees"),
}
ROLE_NAMES = {
    "date": N_("Date"),
    "store": N_("Store"),
    "product": N_("Product"),
    "sales": N_("Sales"),
    "price": N_("Price"),
    "promotion": N_("Promotion"),
    "holiday": N_("Holiday"),
    "regressor": N_("Known in advance"),
    "ignore": N_("Not used"),
}
SEGMENT_NAMES = {
    "store": N_("Store"),
    "product": N_("Product"),
    "promotion": N_("Promotion"),
    "horizon": N_("Weeks ahead"),
}
# What a prediction is to be taken with care for.
WARNINGS = {
    "new_series": N_("This store has not sold this product before: the answer rests on similar ones."),
    "unseen_in_training": N_("The model has not learned this store or product yet: retrain to get its forecast."),
    "past_date": N_("The day lies in the past; what really sold is known or should be."),
    "beyond_horizon": N_("The day lies beyond the horizon the model was tested for; take it as a rough idea."),
    "closed": N_("The shop is usually closed on such a day."),
    "off_calendar": N_("The data is weekly; the answer is for the week of this day."),
    "no_similar_days": N_("History has no day with such a price and promotion: this is an extrapolation."),
    "ended_series": N_("This store sells this product no more: the answer rests on similar ones."),
    "siblings_only": N_("Only similar products or stores have had such a price and promotion, not this one."),
    "price_outside": N_("The price lies beyond all that was ever asked for this here: take the answer with care."),
    "promotion_outside": N_("This has never been on promotion here: how it responds is inferred from others."),
    "regressor_outside": N_("A value known in advance lies beyond all that was seen: take the answer with care."),
}
# How the reader names what separates columns: the fact ``separator``.
SEPARATOR_NAMES = {"comma": N_("comma"), "semicolon": N_("semicolon"), "tab": N_("tab")}
# Over what a total runs, and how long; the spans for daily and for weekly data.
TOTAL_OVER = {
    "series": N_("one product in one store"),
    "store": N_("one store"),
    "product": N_("one product"),
    "all": N_("everything"),
}
TOTAL_SPANS = {
    "D": {"period": N_("one day"), "week": N_("one week"), "horizon": N_("all days ahead")},
    "W": {"period": N_("one week"), "week": N_("four weeks"), "horizon": N_("all weeks ahead")},
}
# What moves a forecast. The level itself is the base of the sentence.
DRIVERS = {
    "level": N_("level of sales"),
    "trend": N_("recent trend"),
    "weekday": N_("day of the week"),
    "season": N_("season of the year"),
    "holiday": N_("holidays"),
    "price": N_("price"),
    "promotion": N_("promotion"),
    "series": N_("this product and store"),
    "closed": N_("closed day"),
    "closures": N_("closed days around it"),
    "day": N_("what is special about the day"),
    "other": N_("other inputs"),
}
EXPLANATIONS = {
    "usual": N_("About as much as usual ({base} {unit})."),
    "raised": N_("More than the usual {base} {unit}, because of {drivers}."),
    "lowered": N_("Less than the usual {base} {unit}, because of {drivers}."),
    "mixed": N_("Usual are {base} {unit}; what moves it: {drivers}."),
    "closed": N_("The shop is closed on such a day."),
}
ACCOUNT_STATES = {
    "active": (":material/check_circle:", N_("may sign in"), "green"),
    "disabled": (":material/block:", N_("disabled"), "gray"),
}
SIGN_IN_KINDS = {"local": N_("a password here"), "oidc": N_("the identity provider")}
AUDIT_ACTIONS = {
    "account.created": N_("account made"),
    "account.role": N_("role changed"),
    "account.disabled": N_("account disabled"),
    "account.enabled": N_("account enabled"),
    "account.password_reset": N_("new password given"),
    "account.password_changed": N_("own password changed"),
    "session.opened": N_("signed in"),
    "session.closed": N_("signed out"),
    "session.refused": N_("too many failed sign-ins"),
    "key.created": N_("key made"),
    "key.revoked": N_("key revoked"),
    "webhook.created": N_("webhook made"),
    "webhook.removed": N_("webhook removed"),
    "run.started": N_("run started"),
    "run.cancelled": N_("run cancelled"),
    "pipeline.paused": N_("pipeline paused"),
    "pipeline.unpaused": N_("pipeline unpaused"),
    "upload.accepted": N_("upload accepted"),
    "model.promote": N_("model promoted"),
    "model.rollback": N_("model rolled back"),
    "model.reject": N_("model rejected"),
    "model.retire": N_("model's files given up"),
}
ACTIONS = {
    "promote": N_("promoted"),
    "rollback": N_("rolled back"),
    "reject": N_("rejected"),
    "retire": N_("files given up"),
}
ALERT_KINDS = {
    "outside_band": (":material/target:", N_("outside the interval"), "orange"),
    "bias": (":material/balance:", N_("errs to one side"), "orange"),
    "jump": (":material/trending_up:", N_("a jump is expected"), "blue"),
    "missing": (":material/event_busy:", N_("days are missing"), "red"),
    "unseen": (":material/new_label:", N_("not learned yet"), "gray"),
}
DRIFT_LEVELS = {
    "none": (":material/check:", N_("within chance"), "green"),
    "moderate": (":material/trending_up:", N_("moderate drift"), "orange"),
    "strong": (":material/priority_high:", N_("strong drift"), "red"),
}
INPUT_NAMES = {
    "sales": N_("Sales"),
    "price": N_("Price"),
    "promotion": N_("Promotion"),
    "store": N_("Mix of stores"),
    "product": N_("Mix of products"),
}
USER_ROLE_NAMES = {
    "viewer": N_("viewer"),
    "planner": N_("planner"),
    "analyst": N_("analyst"),
    "manager": N_("manager"),
    "admin": N_("administrator"),
}
KEY_STATES = {
    "valid": (":material/check_circle:", N_("valid"), "green"),
    "ended": (":material/timer_off:", N_("ended"), "gray"),
    "revoked": (":material/key_off:", N_("revoked"), "red"),
}
UNITS = {"units/day": N_("units/day"), "units/week": N_("units/week"), "units": N_("units")}


def progress(told: Progress) -> str:
    """How far a step is: trial 3 of 10."""
    return gettext(PROGRESS[told.unit]).format(
        number=number(told.number), total=number(told.total), ahead=number(told.ahead or 0)
    )


def schedule(code: str | None) -> str:
    """When a pipeline runs by itself."""
    if code is None:
        return gettext("only when it is started")
    if code.startswith("Asset"):
        return gettext("after each ETL that has published")
    return gettext("{cron} (minute, hour, day, month, weekday; UTC)").format(cron=code)


def word(table: dict[str, str], code: str) -> str:
    """The word for a code; an unknown code stands for itself."""
    return gettext(table[code]) if code in table else code


def state(table: dict[str, tuple[str, str, str]], code: str | None) -> tuple[str, str, str]:
    """Icon, word and colour of a state; an unknown one stands for itself."""
    icon, text, colour = table.get(code or "", WAITING if not code else (":material/help:", code, "gray"))
    return icon, gettext(text), colour


def unit(code: str) -> str:
    return word(UNITS, code)


# ---------------------------------------------------------------- the decision about a challenger


def verdict(decision: Decision, challenger: str, champion: str | None) -> str:
    """The decision in one sentence."""
    sentences = {
        "first": _first(decision, champion),
        "better": gettext("Challenger v{challenger} is better than champion v{champion}."),
        "worse": gettext("Challenger v{challenger} is worse than champion v{champion}."),
        "too_close": gettext("Challenger v{challenger} against champion v{champion}: too close to call."),
        "unchanged": gettext("The data has not changed since champion v{champion} was trained, so it stays."),
    }
    return sentences[decision.verdict].format(challenger=challenger, champion=champion or "–")


def _first(decision: Decision, champion: str | None) -> str:
    if champion is not None:  # of other stores and products, so that there is nothing to compare
        return _first_for_this_data(decision)
    if decision.promote or decision.needs_approval:
        return gettext("v{challenger} is the first model and at least as good as seasonal naive.")
    return gettext("v{challenger} would be the first model, but it does not reach seasonal naive.")


def _first_for_this_data(decision: Decision) -> str:
    if decision.promote or decision.needs_approval:
        return gettext("v{challenger} is the first model for this data and at least as good as seasonal naive.")
    return gettext("v{challenger} would be the first model for this data, but it does not reach seasonal naive.")


def gain(decision: Decision) -> str:
    """How much smaller the challenger's error is, with its interval; empty without a champion."""
    if decision.gain is None:
        return ""
    text = gettext("Its error on the same rows is {gain} than the champion's (95 % interval: {low} to {high}).")
    return text.format(
        gain=_smaller(decision.gain), low=_smaller(decision.gain_low or 0), high=_smaller(decision.gain_high or 0)
    )


def _smaller(share: float) -> str:
    text = gettext("{share} smaller") if share >= 0 else gettext("{share} larger")
    return text.format(share=percent(abs(share)))


def consequence(decision: Decision) -> str:
    """What follows from the decision."""
    if decision.needs_approval:
        return gettext("Every gate passed; a manager decides.")
    if decision.promote:
        return gettext("Every gate passed, so it was promoted.")
    if decision.verdict == "better":
        return gettext("A gate failed, so the champion stays.")
    if decision.days_to_tell:
        return ngettext(
            "The champion stays. About {count} more day of sales would tell.",
            "The champion stays. About {count} more days of sales would tell.",
            decision.days_to_tell,
        ).format(count=number(decision.days_to_tell))
    return gettext("The champion stays.") if decision.verdict != "first" else gettext("It is not promoted.")


def same_rows(evaluation: Evaluation) -> str:
    """How many rows of which days all models answered."""
    text = gettext("{rows} rows of {folds} past blocks, {span}")
    return text.format(
        rows=number(max(found.rows for found in evaluation.overall.values())),
        folds=number(len(evaluation.folds)),
        span=span(evaluation.folds[0].date_from, evaluation.folds[-1].date_to),
    )


def against(champion: bool) -> str:
    """What a gain week by week is measured from."""
    if champion:
        return gettext("How much smaller the challenger's error was than the champion's; below 0 it was larger.")
    return gettext("How much smaller its error was than that of seasonal naive; below 0 it was larger.")


def gate(item: Gate) -> tuple[str, str, str]:
    """A gate as what was asked, the value seen and the bound."""
    name, form = GATES.get(item.name, (item.name.replace("_", " "), "percent"))
    show = percent if form == "percent" else signed
    return gettext(name) if item.name in GATES else name, show(item.value), show(item.bound)


def alert(item: Alert) -> str:
    """What is out of the ordinary about a series, in one sentence."""
    days = int(item.facts.get("days", 0))
    if item.kind == "outside_band":
        text = gettext("Sales of {outside} of the last {days} known days lie outside the 95 % interval.")
        return text.format(outside=number(int(item.facts["outside"])), days=number(days))
    if item.kind == "bias":
        over = gettext("On each of the last {days} known days the forecast was too high, {units} in all.")
        under = gettext("On each of the last {days} known days the forecast was too low, {units} in all.")
        return (over if float(item.facts["net"]) > 0 else under).format(days=number(days), units=amount(item.units))
    if item.kind == "jump":
        text = gettext("{expected} units are expected {span}; in as many days before it sold {sold}.")
        expected, sold = (amount(float(item.facts[name])) for name in ("expected", "sold"))
        return text.format(expected=expected, sold=sold, span=span(item.date_from, item.date_to))
    if item.kind == "missing":
        text = gettext("Its sales are not known since {date}; about {units} units are missing.")
        return text.format(date=day(item.date_from), units=amount(item.units))
    return gettext("The champion has not learned it yet: its answers rest on similar ones.")


def signed(share: float | None) -> str:
    return percent(share, signed=True)


GATES = {
    "beats_seasonal_naive": (N_("Error (WAPE) below seasonal naive"), "percent"),
    "coverage_80": (N_("The 80 % interval holds about 80 % of the days"), "percent"),
    "coverage_95": (N_("The 95 % interval holds about 95 % of the days"), "percent"),
    "min_gain": (N_("Error reduced by at least the required share"), "signed"),
    "significant": (N_("The reduction is not chance (lower end of its interval above 0)"), "signed"),
    "noise_floor": (N_("The reduction is more than another seed of the same recipe brings"), "signed"),
    "segments": (N_("No important store or promotion state gets much worse"), "signed"),
}


def segment(item: Segment) -> str:
    """A segment's value: promotion yes/no and week ahead in words, names as they are."""
    if item.by == "promotion":
        return gettext("on promotion") if item.value == "yes" else gettext("no promotion")
    if item.by == "horizon" and item.value.startswith("week "):
        return gettext("week {number}").format(number=item.value.removeprefix("week "))
    return item.value


def segment_name(by: str, key: str) -> str:
    """A segment of the accuracy: weeks ahead and promotion in words, names as they are."""
    if by == "horizon":
        return gettext("week {number}").format(number=key)
    known = {"yes": gettext("on promotion"), "no": gettext("no promotion"), "unknown": gettext("not known")}
    return known.get(key, key) if by == "promotion" else key


def choice(made: Choice | None) -> str:
    """Why a simpler model than the boosted trees answers; empty where they do, or where it is not known."""
    if made is None or made.reason == "trees":
        return ""
    model, history = word(MODEL_NAMES, made.kind), _history(made)
    own, trees = made.errors.get(made.kind), made.errors.get("xgboost")
    facts = {"model": model, "history": history, "metric": made.metric.upper(), "own": percent(own)}
    if made.reason == "simpler" and trees is not None:
        text = gettext("{model} answers: on {history} nothing beat it ({metric} {own}, boosted trees {trees}).")
        return text.format(**facts, trees=percent(trees))
    if own is None:
        return gettext("{model} answers: {history} is too little to train a model that learns.").format(**facts)
    text = gettext("{model} answers: {history} is too little to train a model that learns ({metric} {own}).")
    return text.format(**facts)


def _history(made: Choice) -> str:
    if made.frequency == "W":
        text = ngettext("{count} week of history", "{count} weeks of history", made.periods)
    else:
        text = ngettext("{count} day of history", "{count} days of history", made.periods)
    return text.format(count=number(made.periods))


# ---------------------------------------------------------------- findings of the reader


def finding(item: Finding) -> tuple[str, str]:
    """What was noticed and how to mend it, in the reader's language where the code is known."""
    if item.code not in FINDINGS:
        return item.message, item.hint
    message, hint = FINDINGS[item.code]
    try:
        return gettext(message).format(**_facts(item)), gettext(hint).format(**_facts(item))
    except (KeyError, IndexError, ValueError):
        return item.message, item.hint


def _facts(item: Finding) -> dict[str, str]:
    facts = {name: _fact(name, value) for name, value in item.facts.items()}
    return {"row": number(item.row), "column": item.column or "–", "count": number(item.count), **facts}


def _fact(name: str, value: str | float) -> str:
    if isinstance(value, int | float):
        return number(value, 0 if float(value).is_integer() else 2)
    if name == "kind" and value in KINDS:
        return gettext(value)
    if name == "separator":
        return word(SEPARATOR_NAMES, value)
    return word(ROLE_NAMES, value) if name in ("role", "needed") else value


def where(item: Finding) -> str:
    """Where a finding is: row and column, as the person sees them in the file."""
    parts = []
    if item.row is not None:
        parts.append(gettext("row {row}").format(row=number(item.row)))
    if item.column:
        parts.append(gettext("column “{column}”").format(column=item.column))
    if parts and item.count > 1:
        parts.append(gettext("and {count} more like it").format(count=number(item.count - 1)))
    return ", ".join(parts) or gettext("the whole file")


def span(start: object, end: object) -> str:
    """A span of days; what has no dates has none."""
    if start is None and end is None:
        return NOTHING
    return gettext("{start} to {end}").format(start=day(start), end=day(end))  # type: ignore[arg-type]


def total_interval(total: Total) -> str:
    """How sure the total is, in one sentence."""
    (low, high), (low95, high95) = total.interval["80"], total.interval["95"]
    text = gettext("In 8 of 10 such totals between **{low}** and **{high}**, in 19 of 20 between {low95} and {high95}.")
    return text.format(low=amount(low), high=amount(high), low95=amount(low95), high95=amount(high95))


def driver(group: str) -> str:
    """The name of what moves a forecast; a regressor goes by its own."""
    return group.removeprefix("regressor:") if group.startswith("regressor:") else word(DRIVERS, group)


def explanation(told: Explanation) -> str:
    """Why the forecast is what it is, in one sentence."""
    text = gettext(EXPLANATIONS[told.sentence])
    drivers = ", ".join(_moved(item) for item in told.drivers)
    return text.format(base=amount(told.base), unit=unit(told.unit), drivers=drivers)


def _moved(item: Contribution) -> str:
    sign = "+" if item.units > 0 else "−"
    return f"{driver(item.group)} ({sign}{amount(abs(item.units))})"


def badge_help(support: Support) -> str:
    """What the support badge means for this answer."""
    if support.level == "none":
        return gettext("History has no similar day: the answer is an extrapolation.")
    text = ngettext(
        "History has {count} similar day (same promotion, price within 10 %).",
        "History has {count} similar days (same promotion, price within 10 %).",
        support.similar_days,
    )
    own = text.format(count=number(support.similar_days))
    if support.level == "ok" or not support.similar_sibling_days:
        return own
    others = ngettext(
        "Similar products or stores have {count} such day.",
        "Similar products or stores have {count} such days.",
        support.similar_sibling_days,
    )
    return f"{own} {others.format(count=number(support.similar_sibling_days))}"
