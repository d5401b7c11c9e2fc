"""One logged prediction: what was asked, where it comes from, made again, and what people put beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from control_room import asked, parts, session
from control_room.i18n import amount, day, gettext, moment, number, weekday
from control_room.words import ROLE_NAMES, unit, word
from ml.records import HistoryItem, Judgement, NewJudgement, Replay

OPENED = "prediction"  # ?prediction=<id>


def detail() -> None:
    """The prediction that the address names."""
    named = st.query_params.get(OPENED)
    if not named or not named.isdecimal():
        return
    seen = asked.prediction(int(named))
    item = parts.need(seen, "prediction")
    if item is None:
        return
    name = f"{item.store} · {item.product} · {weekday(item.date)}"
    parts.section(gettext("Prediction {id}").format(id=item.prediction_id), parts.plain(name))
    grid = st.grid(3, min_column_width=240)
    with grid.cell(), st.container(border=True, height="stretch"):
        parts.facts(_answer_facts(item), "answer")
    with grid.cell(), st.container(border=True, height="stretch"):
        parts.facts(_inputs(item), "inputs")
    with grid.cell(), st.container(border=True, height="stretch"):
        parts.facts(_lineage(item), "lineage")
    _again(item)
    _override(item)


def _answer_facts(item: HistoryItem) -> dict[str, str]:
    bounds = {
        gettext("{level} % interval").format(level=level): f"{amount(low)} – {amount(high)}"
        for level, (low, high) in item.interval.items()
    }
    return {
        gettext("Forecast"): f"**{amount(item.prediction)} {unit(item.unit)}**",
        **bounds,
        gettext("Actual"): amount(item.actual) if item.actual is not None else gettext("not known yet"),
        gettext("Error"): amount(item.error) if item.error is not None else "–",
        gettext("Similar days"): number(item.support),
    }


def _inputs(item: HistoryItem) -> dict[str, str]:
    """What was asked with, in words where it has some; a name that is not ours is shown as it is."""
    return {parts.plain(word(ROLE_NAMES, name)): _input(name, value) for name, value in item.inputs.items()}


def _input(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return parts.plain(value)
    return number(value, 2 if name == "price" or not float(value).is_integer() else 0)


# ---------------------------------------------------------------- where it comes from


def _lineage(item: HistoryItem) -> dict[str, str]:
    """Files, the run that published them, the model and the run that trained it, the answer."""
    return {
        gettext("Files"): _files(item),
        gettext("Data version"): f"`{parts.plain(item.data_version)}` {_etl(item)}".strip(),
        gettext("Model"): _model(item),
        gettext("Asked by"): parts.plain(item.source),
        gettext("Asked at"): moment(item.created_at),
        gettext("Request id"): f"`{parts.plain(item.request_id)}`",
    }


def _files(item: HistoryItem) -> str:
    """The uploads that are in this version of the data, as far as is known."""
    snapshot = asked.snapshot().value
    if snapshot is not None and snapshot.data_version == item.data_version:
        wanted = set(snapshot.sources)
        names = [file.filename for file in asked.uploads().value or () if file.upload_id in wanted]
    else:
        names = [file.filename for file in asked.uploads().value or () if file.data_version == item.data_version]
    return parts.plain(", ".join(names)) if names else gettext("not known any more, or the demo")


def _etl(item: HistoryItem) -> str:
    runs = asked.experiment_runs().value or ()
    found = next((run for run in runs if run.params.get("data_version") == item.data_version
                  and "rows_in" in run.metrics), None)  # fmt: skip
    return gettext("by run {run}").format(run=parts.plain(found.name)) if found else ""


def _model(item: HistoryItem) -> str:
    info = next((one for one in asked.models().value or () if one.version == item.model_version), None)
    version = parts.plain(item.model_version)
    if info is None:
        return f"v{version}"
    text = gettext("v{version}, trained {time} on sales up to {date}")
    return text.format(version=version, time=moment(info.created_at), date=day(info.trained_until))


# ---------------------------------------------------------------- made again


def _again(item: HistoryItem) -> None:
    """The same model on the same data: says whether it would answer the same today."""
    if st.button(gettext("Make it again"), icon=":material/replay:", key="replay"):
        with st.spinner(gettext("Its model answers …")):
            made = parts.attempt(lambda: session.services().api.replay(item.prediction_id), "replay")
        st.session_state["replayed"] = made
    again: Replay | None = st.session_state.get("replayed")
    if again is None or again.prediction_id != item.prediction_id:
        return
    facts = {"now": amount(again.now), "then": amount(again.then), "version": parts.plain(again.model_version)}
    if again.agrees:
        text = gettext("v{version} says {now} today as it did then, from the same data.")
        st.success(text.format(**facts), icon=":material/verified:")
    else:
        text = gettext("v{version} says {now} today, then it said {then}: what answers has changed since.")
        st.warning(text.format(**facts), icon=":material/warning:")


# ---------------------------------------------------------------- what people put beside it


def overrides_of(items: Sequence[HistoryItem]) -> dict[tuple[str, str, str], Judgement]:
    """Those that count for the days of these predictions, by store, product and date."""
    days = [item.date for item in items]
    found = asked.overrides(min(days), max(days)).value or ()
    return {judged.key: judged for judged in found}


def _override(item: HistoryItem) -> None:
    parts.section(
        gettext("A number of your own"),
        gettext("Kept beside the model's, with its reason, never over it; Accuracy says what such numbers add."),
    )
    now = overrides_of([item]).get((item.store, item.product, item.date.isoformat()))
    if now is not None:
        text = gettext("{units} {unit}, by {who} {time}: {reason}")
        facts = {"who": parts.plain(now.made_by), "time": moment(now.made_at), "reason": parts.plain(now.reason)}
        st.markdown(text.format(units=f"**{amount(now.units)}**", unit=unit(item.unit), **facts))
    if not session.may("planner"):
        st.caption(gettext("Giving one takes the role of a planner."))
        return
    with st.form(f"override-{item.prediction_id}", border=True):
        start = now.units if now and now.units is not None else round(item.prediction, 1)
        units = st.number_input(gettext("Units"), 0.0, None, start, key=f"override-units-{item.prediction_id}")
        reason = st.text_input(gettext("Reason"), key=f"override-reason-{item.prediction_id}", max_chars=500)
        keep = st.form_submit_button(gettext("Keep this number"), icon=":material/edit_note:")
        back = now is not None and st.form_submit_button(gettext("Take it back"), icon=":material/undo:")
    if keep or back:
        _put(item, None if back else units, reason.strip())


def _put(item: HistoryItem, units: float | None, reason: str) -> None:
    if not reason:
        st.warning(gettext("Say why: the reason is kept with the number."), icon=":material/edit:")
        return
    wanted = NewJudgement(date=item.date, store=item.store, product=item.product, units=units, reason=reason)
    done: Any = parts.attempt(lambda: session.services().api.put_override(wanted), "override")
    if done is not None:
        session.forget("api", "overrides")
        st.toast(gettext("Kept beside the forecast."), icon=":material/check_circle:")
        st.rerun()
