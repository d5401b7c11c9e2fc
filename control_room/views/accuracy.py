"""The accuracy page: logged predictions beside actual sales, as the database adds them up."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from control_room import address, asked, charts, parts, session, tables, words
from control_room.i18n import N_, amount, date_form, gettext, ngettext, number, percent
from control_room.live import Seen
from control_room.views.choose import choice_field
from ml.records import Accuracy, AccuracyRow

WINDOW = dt.timedelta(days=55)
SEGMENTS = ("horizon", "store", "product", "promotion")
MEASURES = {
    "wape": N_("Error (WAPE)"),
    "bias": N_("Bias"),
    "rmse": N_("RMSE, units"),
    "80": N_("Within 80 %"),
    "95": N_("Within 95 %"),
}
WORST = 10
# A day gets a tag when this share of its rows is so, and more than usual by this factor.
TAGGED_SHARE, TAGGED_TIMES = 0.1, 1.5


@dataclass(frozen=True)
class Whole:
    """The accuracy by date under the filters, and the filters."""

    filters: dict[str, Any]
    seen: Seen[Accuracy]
    found: Accuracy | None

    @property
    def total(self) -> AccuracyRow | None:
        return self.found.total if self.found else None


# ---------------------------------------------------------------- what is true now


def opening() -> DeltaGenerator:
    """The page's top, filled once it is known what to say."""
    return st.container()


def lead(top: DeltaGenerator, whole: Whole) -> None:
    title, total = gettext("Accuracy"), whole.total
    with top:
        if whole.found is None:
            parts.lead(title, gettext("It cannot be said now how right the predictions were."), "bad")
        elif total is None or total.wape is None:
            text = gettext("No prediction can be compared with real sales yet.")
            parts.lead(title, text, "attention" if not whole.filters else "plain")
        else:
            better = total.naive_wape is None or (total.wape_beside_naive or 0.0) <= total.naive_wape
            parts.lead(title, _sentence(total), "good" if better else "attention", _more(total), stale=whole.seen.stale)


def _sentence(total: AccuracyRow) -> str:
    if total.naive_wape is None or total.wape_beside_naive is None:
        return gettext("Predictions erred by {wape} (WAPE).").format(wape=percent(total.wape))
    text = (
        gettext("Predictions erred by {wape} (WAPE), seasonal naive by {naive} on the same rows.")
        if total.naive_rows == total.rows
        else gettext(
            "Predictions erred by {wape} (WAPE); where it is known, seasonal naive by {naive}, they by {same}."
        )
    )
    return text.format(wape=percent(total.wape), naive=percent(total.naive_wape), same=percent(total.wape_beside_naive))


def _more(total: AccuracyRow) -> str:
    rows = ngettext(
        "{count} prediction whose day has come; of several for one day the last counts.",
        "{count} predictions whose day has come; of several for one day the last counts.",
        total.rows,
    ).format(count=number(total.rows))
    if "80" not in total.coverage:
        return rows
    return f"{rows} " + gettext("{share} of the days fell in the 80 % interval.").format(
        share=percent(total.coverage["80"])
    )


# ---------------------------------------------------------------- filters


def filters() -> dict[str, Any]:
    """What is judged. Every filter is in the address; the last eight weeks to begin with."""
    catalog, health = asked.catalog().value, asked.health().value
    until = health.data_until if health else None
    with st.container(border=True), st.grid(5, min_column_width=140):
        chosen = {
            "from": _date(gettext("Day from"), "since", until - WINDOW if until else None),
            "to": _date(gettext("Day to"), "until", None),
            "store": choice_field(gettext("Store"), catalog.stores if catalog else (), "in_store"),
            "product": choice_field(gettext("Product"), catalog.products if catalog else (), "in_product"),
            "version": choice_field(
                gettext("Model version"), [model.version for model in asked.models().value or ()], "by_version"
            ),
        }
    return {name: value for name, value in chosen.items() if value is not None}


def _date(label: str, key: str, start: dt.date | None) -> dt.date | None:
    return st.date_input(label, value=start, format=date_form(), key=key, bind="query-params")


def whole(chosen: dict[str, Any]) -> Whole:
    seen = asked.accuracy("date", chosen)
    found = parts.need(seen, "accuracy", still=gettext("Predictions are answered and kept as before."))
    if found is not None and found.total is None:
        _nothing(chosen)
    return Whole(chosen, seen, found)


def _nothing(chosen: dict[str, Any]) -> None:
    text = gettext("Under these filters no predicted day has actual sales yet.")
    if set(chosen) <= {"from"}:
        text = gettext("No predicted day has actual sales yet: they are compared as soon as what was sold is loaded.")
    parts.empty(text, "pages/upload.py", gettext("Load your sales"))


# ---------------------------------------------------------------- over everything


def measures(whole: Whole) -> None:
    """The numbers over everything, and what the model adds to the naive forecast."""
    total = whole.total
    if total is None:
        return
    with st.grid(6, min_column_width=125):
        for name, title in MEASURES.items():
            st.metric(gettext(title), tables.measure(total, name), border=True)
        st.metric(
            gettext("Added to naive"),
            _added(total),
            border=True,
            help=gettext("Forecast value added: error of seasonal naive less that of the predictions, in points."),
        )
    parts.source(whole.seen, "GET /v1/accuracy")
    frame = tables.value_added(total)
    if frame is not None:
        parts.section(
            gettext("What each step adds"),
            gettext("Each beside the step before, on the rows that have both; less error is better."),
        )
        st.table(frame, border="horizontal", hide_index=True, alt=gettext("What each step adds"))
        parts.downloads(lambda: frame, "value-added", _cover(whole), "value-added")


def _added(total: AccuracyRow) -> str:
    if total.naive_wape is None or total.wape_beside_naive is None:
        return "–"
    return percent(total.naive_wape - total.wape_beside_naive, signed=True)


def over_time(whole: Whole) -> None:
    if whole.total is None or whole.found is None:
        return
    parts.section(gettext("Day by day"), gettext("By predicted day; only where its sales are known."))
    name = address.segments(gettext("Measure"), list(MEASURES), "measure", lambda code: gettext(MEASURES[code]))
    parts.chart(charts.accuracy_chart(whole.found.items, name, gettext(MEASURES[name]), dark=session.dark()), "days")
    frame = tables.accuracy(whole.found)
    parts.downloads(lambda: frame, "accuracy-by-day", _cover(whole), "by-day")


def by_segment(whole: Whole) -> None:
    if whole.total is None:
        return
    parts.section(gettext("Where it is right, where wrong"))
    by = address.segments(
        gettext("Compare by"), SEGMENTS, "segment", lambda code: words.word(words.SEGMENT_NAMES, code)
    )
    seen = asked.accuracy(by, whole.filters)
    found = parts.need(seen, "segments")
    if found is None or not found.items:
        return
    parts.chart(charts.accuracy_dots(found, dark=session.dark()), "segments")
    frame = tables.accuracy(found)
    shares = tables.shares(frame)
    config = {
        name: st.column_config.NumberColumn(format="percent" if name in shares else "localized")
        for name in frame.columns[1:]
    }
    shown = frame.round({name: 3 if name in shares else 1 for name in frame.columns[1:]})
    st.dataframe(shown, hide_index=True, column_config=config, placeholder="–", alt=gettext("Accuracy by segment"))
    parts.source(seen, "GET /v1/accuracy")
    parts.downloads(lambda: frame, f"accuracy-by-{by}", _cover(whole), "by-segment")


# ---------------------------------------------------------------- the worst days


def worst_days(whole: Whole) -> None:
    """Where most units were missed, with what was special about the day."""
    if whole.found is None or whole.total is None:
        return
    parts.section(gettext("Worst days"), gettext("Where most units were missed, and what was special about the day."))
    worst = sorted(whole.found.items, key=lambda row: row.error, reverse=True)[:WORST]
    frame = pd.DataFrame([_worst(row, whole) for row in worst])
    rows = gettext("Rows in History")
    config = {
        gettext("Day"): st.column_config.DateColumn(format=date_form()),
        rows: st.column_config.LinkColumn(display_text=gettext("show")),
    }
    st.dataframe(frame, hide_index=True, column_config=config, alt=gettext("Worst days"))
    parts.downloads(lambda: frame.drop(columns=rows), "worst-days", _cover(whole), "worst")


def _worst(row: AccuracyRow, whole: Whole) -> dict[str, Any]:
    day = dt.date.fromisoformat(str(row.key))
    about = {name: whole.filters[field] for field, name in _HISTORY_NAMES.items() if field in whole.filters}
    query = urlencode({"from": day, "to": day, "actual": "yes", **about})
    return {
        gettext("Day"): day,
        gettext("Units missed"): amount(row.error),
        gettext("Error (WAPE)"): percent(row.wape),
        gettext("Bias"): percent(row.bias, signed=True),
        gettext("Seasonal naive"): percent(row.naive_wape),
        gettext("Special"): ", ".join(_tags(row, whole.total)) or "–",
        gettext("Rows in History"): f"history?{query}",
    }


_HISTORY_NAMES = {"store": "in_store", "product": "in_product", "version": "by_version"}
TAGS = {
    "promoted": N_("many promotions"),
    "holidays": N_("holiday"),
    "unsupported": N_("days like no other in history"),
}


def _tags(row: AccuracyRow, total: AccuracyRow | None) -> list[str]:
    """What was more common that day than usual."""
    if total is None:
        return []
    found = []
    for name, text in TAGS.items():
        share, usual = getattr(row, name) / row.rows, getattr(total, name) / total.rows
        if share >= TAGGED_SHARE and share >= TAGGED_TIMES * usual:
            found.append(gettext(text))
    if row.wape is None:
        found.append(gettext("nothing was sold"))
    return found


def _cover(whole: Whole) -> dict[str, object]:
    version = whole.filters.get("version")
    return {
        gettext("What"): gettext("Accuracy of logged predictions"),
        gettext("Filters"): ", ".join(f"{name} = {value}" for name, value in whole.filters.items()) or gettext("all"),
        gettext("Model"): f"v{version}" if version else gettext("all"),
        gettext("Rows"): whole.total.rows if whole.total else 0,
    }
