"""The history page: filters and cursor pages."""

from __future__ import annotations

import datetime as dt
from typing import Any

import streamlit as st

from control_room import address, asked, grids, parts, session, tables
from control_room.grids import Column
from control_room.i18n import N_, date_form, gettext, moment, number
from control_room.views import jobs, prediction
from control_room.views.choose import choice_field
from ml.records import WHAT_IF, HistoryPage

PAGE_SIZES = (50, 100, 500)
KNOWN = {None: N_("all"), True: N_("only with actual sales"), False: N_("only without")}
SOURCES = ("api", "console", "file", "forecast", WHAT_IF)


def lead() -> None:
    newest = session.ask_api(("history", "newest"), lambda api: api.history({}, limit=1), seconds=5)
    if newest.value is None:
        text = gettext("The predictions cannot be read now.")
        parts.lead(gettext("History"), text, "bad")
    elif not newest.value.items:
        parts.lead(gettext("History"), gettext("No prediction has been asked yet."), "plain")
    else:
        item = newest.value.items[0]
        text = gettext("The newest prediction was asked {time}, answered by v{version}.")
        sentence = text.format(time=moment(item.created_at), version=parts.plain(item.model_version))
        more = gettext("Every answer is kept with what was asked; actual sales are joined when they arrive.")
        parts.lead(gettext("History"), sentence, "good", more, stale=newest.stale)


# ---------------------------------------------------------------- filters


def filters() -> dict[str, Any]:
    """What to show. Every filter is in the address, so that a link opens this very view.

    Their names differ from those of other pages: a store chosen there must not filter here unasked.
    """
    catalog = asked.catalog().value
    models = asked.models().value or ()
    with st.container(border=True), st.grid(min_column_width=170):
        chosen = {
            "from": _date(gettext("Day from"), "from"),
            "to": _date(gettext("Day to"), "to"),
            "store": choice_field(gettext("Store"), catalog.stores if catalog else (), "in_store"),
            "product": choice_field(gettext("Product"), catalog.products if catalog else (), "in_product"),
            "version": choice_field(gettext("Model version"), [model.version for model in models], "by_version"),
            "source": choice_field(gettext("Asked by"), SOURCES, "asked_by"),
            "has_actual": _known(),
            "made_from": _date(gettext("Asked from"), "made_from"),
            "made_to": _date(gettext("Asked to"), "made_to"),
            "supported": _supported(),
            "outside": _outside(),
        }
        st.session_state["limit"] = _page_size()
    return {name: value for name, value in chosen.items() if value is not None}


def _date(label: str, key: str) -> dt.date | None:
    return st.date_input(label, value=None, format=date_form(), key=key, bind="query-params")


def _known() -> bool | None:
    codes = {"all": None, "yes": True, "no": False}
    chosen = address.select(
        gettext("Actual sales"), list(codes), "all", "actual", lambda code: gettext(KNOWN[codes[code]])
    )
    return codes[chosen]


def _supported() -> bool | None:
    codes = {"all": None, "yes": True, "no": False}
    names = {"all": gettext("all"), "yes": gettext("with similar days"), "no": gettext("extrapolations only")}
    return codes[address.select(gettext("Support"), list(codes), "all", "supported", names.__getitem__)]


def _outside() -> str | None:
    names = {
        "all": gettext("all"),
        "80": gettext("sold outside the 80 % interval"),
        "95": gettext("sold outside the 95 % interval"),
    }
    chosen = address.select(gettext("Interval"), list(names), "all", "outside", names.__getitem__)
    return None if chosen == "all" else chosen


def _page_size() -> int:
    return st.selectbox(gettext("Rows per page"), PAGE_SIZES, index=1, key="size", bind="query-params")


# ---------------------------------------------------------------- one page of rows


def page(chosen: dict[str, Any]) -> HistoryPage | None:
    """The rows at the cursor in the address; another filter starts from the newest row again."""
    signature = (tuple(sorted((name, str(value)) for name, value in chosen.items())), st.session_state["limit"])
    if st.session_state.setdefault("history-filters", signature) != signature:
        st.session_state["history-filters"] = signature
        st.session_state["history-trail"] = []
        st.query_params.pop("cursor", None)
    cursor, limit = st.query_params.get("cursor"), st.session_state["limit"]
    question = ("history", signature, cursor)
    seen = session.ask_api(question, lambda api: api.history(chosen, cursor, limit), seconds=10)
    found = parts.need(seen, "history", still=gettext("New predictions are answered and kept as before."))
    if found is not None:
        parts.source(seen, "GET /historical-predictions")
    return found


def table(found: HistoryPage | None, chosen: dict[str, Any]) -> None:
    if found is None:
        return
    if not found.items:
        _nothing(bool(chosen))
        return
    given = prediction.overrides_of(found.items)
    frame = tables.history(found.items, given)
    picked = grids.grid(frame, _columns(), "history-grid", dark=session.dark(), height=460)
    parts.downloads(lambda: tables.history_export(found.items, given), "history", _cover(found, chosen), "history")
    if picked:
        st.query_params[prediction.OPENED] = str(picked["id"])
    elif prediction.OPENED not in st.query_params:
        st.caption(gettext("Click a row to see everything that is known about it."))


def everything(found: HistoryPage | None, chosen: dict[str, Any]) -> None:
    """All rows that fit: a worker writes them, however many they are."""
    if found is None or not found.items:
        return
    help = gettext("All pages of this table in one file, as CSV, XLSX or Parquet. It is written in the background.")
    if st.button(gettext("Export all that fit"), key="history-all", icon=":material/download_for_offline:", help=help):
        jobs.export(chosen)
    jobs.followed()
    jobs.recent("export")


def _nothing(filtered: bool) -> None:
    if filtered:
        parts.empty(gettext("No prediction fits these filters. Clear one of them."))
    else:
        parts.empty(gettext("Nothing has been asked yet."), "pages/predict.py", gettext("Ask for a prediction"))


def _columns() -> list[Column]:
    kinds: dict[str, dict[str, Any]] = {
        "created_at": {"kind": "moment"},
        "date": {"kind": "date"},
        "store": {"width": 140},
        "product": {"width": 165},
        "support": {"kind": "number", "digits": 0},
        **{name: {"kind": "number"} for name in ("prediction", "low_80", "high_80", "override", "actual", "error")},
    }
    return [Column(name, gettext(title), **kinds.get(name, {})) for name, title in tables.HISTORY.items()]


def _cover(found: HistoryPage, chosen: dict[str, Any]) -> dict[str, object]:
    return {
        gettext("What"): gettext("Predictions with actual sales"),
        gettext("Filters"): ", ".join(f"{name} = {value}" for name, value in chosen.items()) or gettext("all"),
        gettext("Model"): ", ".join(sorted({f"v{item.model_version}" for item in found.items})),
        gettext("Data version"): ", ".join(sorted({item.data_version for item in found.items})),
        gettext("Rows"): len(found.items),
    }


# ---------------------------------------------------------------- turning pages


def turn(found: HistoryPage | None) -> None:
    trail: list[str] = st.session_state.setdefault("history-trail", [])
    cursor = st.query_params.get("cursor")
    if not cursor and (found is None or not found.items):
        return  # no page to turn to
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(gettext("Newest"), icon=":material/first_page:", disabled=cursor is None, key="first"):
            _go(None, [])
        if st.button(gettext("Newer"), icon=":material/chevron_left:", disabled=not trail, key="newer"):
            _go(trail[-1] or None, trail[:-1])
        older = found.next_cursor if found else None
        if st.button(gettext("Older"), icon=":material/chevron_right:", disabled=older is None, key="older"):
            _go(older, [*trail, cursor or ""])
        st.caption(gettext("Page {number}").format(number=number(len(trail) + 1)) if trail or not cursor else "")


def _go(cursor: str | None, trail: list[str]) -> None:
    st.session_state["history-trail"] = trail
    if cursor is None:
        st.query_params.pop("cursor", None)
    else:
        st.query_params["cursor"] = cursor
    st.rerun()
