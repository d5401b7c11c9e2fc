"""The data health page: freshness, missing days, unusual sales, drift beside importance."""

from __future__ import annotations

import datetime as dt
from typing import Any

import streamlit as st

from control_room import address, asked, charts, checks, parts, session, tables, words
from control_room.i18n import date_form, day, gettext, ngettext, number, percent
from control_room.live import Seen
from control_room.words import SEVERITIES, span
from ml.errors import NotFound
from ml.records import DataHealth, Drift, FeatureDrift, Snapshot

STALE_DAYS = 14  # from here on half of the forecasts' days lie before today
MISSING_SHARE = 0.05  # as the checks of the ETL
EVIDENCE = "evidence"  # ?evidence=<data version> on the Retrain page


# ---------------------------------------------------------------- what is true now


def lead() -> None:
    title, seen = gettext("Data health"), asked.snapshot()
    if isinstance(seen.problem, NotFound):
        parts.lead(title, gettext("There is no sales data yet: load a file to begin."), "attention")
        parts.empty(
            gettext("Freshness, gaps and drift are shown as soon as sales are published."), "pages/upload.py",
            gettext("Load your sales"),
        )  # fmt: skip
    elif seen.value is None:
        parts.lead(title, gettext("It cannot be said now how the data is."), "bad")
        parts.need(seen, "snapshot", still=gettext("Forecasts go on with the present champion."))
    else:
        sentence, tone = _sentence(seen.value)
        parts.lead(title, sentence, tone, _more(seen.value), stale=seen.stale)


def _sentence(snapshot: Snapshot) -> tuple[str, parts.Tone]:
    moved = _moved(snapshot.drift)
    text = gettext("Sales are known up to {date}, {age}.").format(date=day(snapshot.date_to), age=_age(snapshot))
    if moved:
        names = ", ".join(words.word(words.INPUT_NAMES, item.feature) for item in moved)
        text += " " + gettext("Drifted beyond chance: {names}.").format(names=parts.plain(names))
    found = [check for check in snapshot.checks if check.severity != "info"]
    good = not moved and not found and _days_old(snapshot) <= STALE_DAYS
    return text, "good" if good else "attention"


def _days_old(snapshot: Snapshot) -> int:
    return (dt.datetime.now(dt.UTC).date() - snapshot.date_to).days


def _age(snapshot: Snapshot) -> str:
    old = _days_old(snapshot)
    if old <= 0:
        return gettext("which is up to date")
    return ngettext("{count} day ago", "{count} days ago", old).format(count=number(old))


def _moved(drift: Drift | None) -> list[FeatureDrift]:
    return [item for item in drift.features if item.level != "none"] if drift else []


def _more(snapshot: Snapshot) -> str:
    gaps = {
        "zero": gettext("Days without a row count as nothing sold."),
        "unknown": gettext("Days without a row count as not recorded."),
    }
    version = gettext("Data version {data}.").format(data=parts.plain(snapshot.data_version[:12]))
    return f"{version} {gaps[snapshot.missing_days]}"


# ---------------------------------------------------------------- figures and checks


def figures() -> None:
    seen = asked.snapshot()
    if seen.value is None:
        return
    snapshot, found = seen.value, asked.data_health().value
    with st.grid(6, min_column_width=125):
        st.metric(gettext("Age in days"), number(max(_days_old(snapshot), 0)), border=True)
        st.metric(gettext("Rows"), number(snapshot.rows), border=True)
        st.metric(gettext("Series"), number(snapshot.series), border=True)
        st.metric(gettext("Rows left out"), number(snapshot.rows_rejected), border=True)
        st.metric(gettext("Lately missing"), percent(_missing_share(found)), border=True)
        st.metric(gettext("Unusual sales"), number(len(found.outliers) if found else None), border=True)
    parts.source(seen, "GET /v1/snapshot, GET /v1/data-health")


def _missing_share(found: DataHealth | None) -> float | None:
    rows = sum(item.rows for item in found.days) if found else 0
    return sum(item.missing for item in found.days) / rows if found and rows else None


def checked() -> None:
    """What the checks of the ETL run that published this data noticed."""
    snapshot = asked.snapshot().value
    if snapshot is None:
        return
    parts.section(gettext("What the checks noticed"))
    if not snapshot.checks:
        st.markdown(":material/check_circle: " + gettext("The checks of the ETL found nothing to say."))
    for check in snapshot.checks:
        message, hint = (parts.plain(text) for text in checks.told(check))
        icon, _, colour = SEVERITIES["info" if check.severity == "info" else "row"]
        st.markdown(f":{colour}[{icon}] {message} {hint}")


# ---------------------------------------------------------------- missing days


def _found(key: str) -> tuple[Seen[DataHealth], DataHealth | None]:
    seen = asked.data_health()
    if asked.snapshot().value is None:  # said at the top
        return seen, None
    return seen, parts.need(seen, key)


def missing() -> None:
    """Per day how many rows are not known, per store since when and how often."""
    seen, found = _found("data-health")
    if found is None or not found.days:
        return
    note = gettext("Rows whose sales are not known, {span}.").format(span=span(found.days[0].date, found.days[-1].date))
    parts.section(gettext("Missing days"), note)
    if any(item.missing for item in found.days):
        parts.chart(charts.missing_chart(found.days, dark=session.dark()), "missing")
    else:
        st.markdown(":material/check_circle: " + gettext("No row is missing."))
    frame = tables.store_days(found.stores)
    config = {
        gettext("Newest day"): st.column_config.DateColumn(format=date_form()),
        gettext("Missing"): st.column_config.NumberColumn(format="percent"),
    }
    st.dataframe(frame, hide_index=True, column_config=config, placeholder="–", alt=gettext("Missing days"))
    parts.source(seen, "GET /v1/data-health")
    parts.downloads(lambda: frame, "missing-days", _cover(gettext("Missing days"), found), "missing-days")


def _cover(what: str, found: DataHealth, filters: str = "") -> dict[str, object]:
    return {
        gettext("What"): what,
        gettext("Filters"): filters or gettext("all"),
        gettext("Data version"): found.data_version,
    }


# ---------------------------------------------------------------- unusual sales


def unusual() -> None:
    """Sales far from usual; a store can be chosen."""
    seen, found = asked.data_health(), asked.data_health().value
    if found is None or asked.snapshot().value is None:
        return
    note = gettext("Beside the median of the same series on the same weekday; promoted days are not judged.")
    parts.section(gettext("Unusual sales"), note)
    if not found.outliers:
        st.markdown(":material/check_circle: " + gettext("No sales of the last weeks are far from usual."))
        return
    names = sorted({item.store for item in found.outliers})
    with st.container(width=300):
        store = address.select(gettext("Store"), ["", *names], "", "odd_in", lambda name: name or gettext("all"))
    frame = tables.outliers([item for item in found.outliers if store in ("", item.store)])
    config: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="localized") for name in frame.select_dtypes("number").columns
    }
    config[gettext("Day")] = st.column_config.DateColumn(format=date_form())
    st.dataframe(tables.rounded(frame), hide_index=True, column_config=config, alt=gettext("Unusual sales"))
    parts.source(seen, "GET /v1/data-health")
    parts.downloads(lambda: frame, "unusual-sales", _cover(gettext("Unusual sales"), found, store), "unusual")


# ---------------------------------------------------------------- drift


def drifted() -> None:
    """How far each input has moved, beside how much it matters; sent to Retrain as a reason."""
    snapshot, found = asked.snapshot(), asked.data_health().value
    if snapshot.value is None:
        return
    parts.section(gettext("Drift"), _reference(snapshot.value.drift))
    drift = snapshot.value.drift
    if drift is None or not drift.features:
        st.markdown(":material/info: " + _nothing_measured(drift))
        return
    show_drift(drift, found.importance if found else {})
    parts.source(snapshot, "GET /v1/snapshot, GET /v1/data-health")
    frame = tables.drift(drift, found.importance if found else {})
    cover = {gettext("What"): gettext("Drift"), gettext("Model"): f"v{drift.version}"}
    cover[gettext("Data version")] = snapshot.value.data_version
    parts.downloads(lambda: frame, "drift", cover, "drift")
    if found and found.unseen:
        names = parts.plain(", ".join(found.unseen[:8]))
        text = gettext("The champion has not learned these yet: {names}.")
        st.info(text.format(names=names), icon=":material/new_label:")
    if not session.may_act("pages/retrain.py"):
        return
    st.page_link(
        "pages/retrain.py", label=gettext("Send as evidence to Retrain"), icon=":material/send:",
        query_params={EVIDENCE: snapshot.value.data_version},
    )  # fmt: skip


def told_and_sold() -> None:
    """Whether what is predicted has moved, beside what sold."""
    snapshot, seen = asked.snapshot().value, asked.data_health()
    if snapshot is None or seen.value is None:
        return
    told, title = seen.value.predictions, gettext("Drift of predictions and target")
    parts.section(title, gettext("Each beside the level that its series had before."))
    frame = tables.told_and_sold(told, snapshot.drift)
    if not frame.empty:
        config = {name: st.column_config.NumberColumn(format="%.2f") for name in frame.select_dtypes("float").columns}
        st.dataframe(frame, hide_index=True, column_config=config, placeholder="–", alt=title)
        parts.downloads(lambda: frame, "prediction-drift", _cover(title, seen.value), "prediction-drift")
    _said_of(told)
    parts.source(seen, "GET /v1/data-health, GET /v1/snapshot")


def _said_of(told: Drift | None) -> None:
    if told is None:
        st.caption(gettext("Predictions could not be looked at: the database does not answer."))
    elif not told.features:
        st.caption(gettext("There are too few predictions of known days to say whether they have drifted."))
    elif told.reference == "recent":
        st.caption(gettext("The log has no predictions of a year before, so that a season may look like drift."))


def _reference(drift: Drift | None) -> str:
    if drift is None or drift.reference is None:
        return ""
    against = {
        "year_before": gettext("the same weeks a year before"),
        "recent": gettext("the champion's last half year"),
    }[drift.reference]
    text = gettext("{new} beside {against} ({old}); {rows} and {rows_old} rows.")
    return text.format(
        new=span(drift.date_from, drift.date_to), against=against, old=span(drift.reference_from, drift.reference_to),
        rows=number(drift.rows), rows_old=number(drift.rows_reference),
    )  # fmt: skip


def _nothing_measured(drift: Drift | None) -> str:
    if drift is None:
        return gettext("No drift was measured: there was no champion when this data was published.")
    return gettext("There are too few new days since the champion learned to measure drift.")


def show_drift(drift: Drift, importance: dict[str, float]) -> None:
    """Chart and table; also what the Retrain page shows as evidence."""
    if importance:
        parts.chart(charts.drift_chart(drift.features, importance, dark=session.dark()), "drift")
    frame = tables.drift(drift, importance)
    config = {
        name: st.column_config.NumberColumn(format="percent" if name == gettext("Importance") else "%.2f")
        for name in frame.select_dtypes("number").columns
    }
    st.dataframe(frame, hide_index=True, column_config=config, placeholder="–", alt=gettext("Drift"))
    text = gettext(
        "Index: population stability; it counts beyond what chance does. Effect: in deviations, or as a share."
    )
    st.caption(text)
