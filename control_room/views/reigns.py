"""Who was champion when, over what sold, with the error of what each version forecast."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import streamlit as st

from control_room import address, asked, charts, parts, session, tables
from control_room.i18n import N_, gettext
from ml.records import Reign, VersionWeek

SPANS = {"90": N_("90 days"), "180": N_("180 days"), "365": N_("a year")}
MOST_REIGNS = 100


def timeline() -> None:
    """Champions over the actual sales; the span is in the address."""
    st.caption(gettext("Each version is judged by its own last answer for a day; what-ifs do not count."))
    seen = asked.champions(MOST_REIGNS)
    page = parts.need(seen, "champions")
    if page is None:
        return
    if not page.items:
        st.caption(gettext("There has been no champion yet."))
        return
    days = int(address.segments(gettext("Span"), list(SPANS), "since_days", lambda code: gettext(SPANS[code])))
    catalog = asked.catalog().value
    newest = catalog.date_to if catalog and catalog.date_to else dt.datetime.now(dt.UTC).date()
    since = newest - dt.timedelta(days=days)
    sold = asked.sales(None, None, since)
    weeks = asked.accuracy_weeks(since)
    parts.chart(charts.reign_chart(sold.value or (), page.items, weeks.value or (), dark=session.dark()), "reigns")
    if weeks.value is None:
        parts.need(weeks, "weeks")
    elif not weeks.value:
        st.caption(gettext("No prediction of these days can be compared with what sold yet."))
    parts.source(seen, "GET /v1/champions, GET /v1/accuracy/weeks, GET /v1/sales")
    _table(page.items, weeks.value or ())


def _table(reigns: Sequence[Reign], weeks: Sequence[VersionWeek]) -> None:
    frame = tables.reigns(reigns, weeks)
    config = {gettext("Error in this span"): st.column_config.NumberColumn(format="percent"),
              gettext("Gain when judged"): st.column_config.NumberColumn(format="percent")}  # fmt: skip
    st.dataframe(frame, hide_index=True, column_config=config, placeholder="–", alt=gettext("Champions over what sold"))
    parts.downloads(lambda: frame, "champions", {gettext("What"): gettext("Champions over what sold")}, "champions")
