"""The history page: filters, cursor pages, one prediction in detail."""

from __future__ import annotations

import datetime as dt
from typing import Any

import streamlit as st

from control_room import address, asked, grids, parts, session, tables
from control_room.grids import Column
from control_room.i18n import N_, amount, date_form, gettext, moment, number, weekday
from control_room.views.choose import choice_field
from control_room.words import ROLE_NAMES, unit, word
from ml.records import WHAT_IF, HistoryItem, HistoryPage

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
    picked = grids.grid(tables.history(found.items), _columns(), "history-grid", dark=session.dark(), height=460)
    parts.downloads(lambda: tables.history_export(found.items), "history", _cover(found, chosen), "history")
    if picked:
        item = next((item for item in found.items if str(item.prediction_id) == str(picked["id"])), None)
        if item:
            _detail(item)
    else:
        st.caption(gettext("Click a row to see everything that is known about it."))


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
        **{name: {"kind": "number"} for name in ("prediction", "low_80", "high_80", "actual", "error")},
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


def _detail(item: HistoryItem) -> None:
    name = f"{item.store} · {item.product} · {weekday(item.date)}"
    parts.section(gettext("Prediction {id}").format(id=item.prediction_id), parts.plain(name))
    grid = st.grid(3, min_column_width=240)
    with grid.cell(), st.container(border=True, height="stretch"):
        parts.facts(_answer_facts(item), "answer")
    with grid.cell(), st.container(border=True, height="stretch"):
        parts.facts(_inputs(item), "inputs")
    with grid.cell(), st.container(border=True, height="stretch"):
        parts.facts(_lineage(item), "lineage")


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


def _lineage(item: HistoryItem) -> dict[str, str]:
    return {
        gettext("Model"): f"v{parts.plain(item.model_version)}",
        gettext("Data version"): f"`{parts.plain(item.data_version)}`",
        gettext("Asked by"): parts.plain(item.source),
        gettext("Asked at"): moment(item.created_at),
        gettext("Request id"): f"`{parts.plain(item.request_id)}`",
    }


# ---------------------------------------------------------------- turning pages


def turn(found: HistoryPage | None) -> None:
    trail: list[str] = st.session_state.setdefault("history-trail", [])
    cursor = st.query_params.get("cursor")
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
