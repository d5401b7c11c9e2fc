"""The audit on the API & access page: who did what, and when, for administrators."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from control_room import address, asked, parts, session, words
from control_room.i18n import clock, date_form, gettext, number
from ml.records import AuditEntry, AuditPage

ROWS = 50
MOST_EXPORTED = 20_000
TRAIL = "audit-trail"  # in the session state: the cursors of the pages before


def show() -> None:
    if not session.may("admin"):
        return
    parts.section(
        gettext("Who did what"),
        gettext("Accounts, sign-ins, keys, webhooks, runs, uploads and every move of the champion, newest first."),
    )
    chosen = _filters()
    cursor = st.query_params.get("after")
    seen = asked.audit(chosen, cursor, ROWS)
    page = parts.need(seen, "audit")
    if page is None:
        return
    if not page.items:
        parts.empty(gettext("Nothing fits these filters.") if chosen else gettext("Nothing has been done yet."))
    else:
        st.dataframe(_frame(page.items), hide_index=True, alt=gettext("Who did what"))
    parts.source(seen, "GET /v1/audit")
    with st.container(horizontal=True):
        _pages(page, cursor)
        if page.items:
            _downloads(chosen)


def _filters() -> dict[str, Any]:
    """In the address, so that a link opens the same view; another filter starts from the newest row again."""
    actors, actions = asked.audit_words().value or ((), ())
    with st.container(horizontal=True):
        with st.container(width=230):
            actor = address.select(gettext("Who"), ["", *actors], "", "by", lambda name: name or gettext("all"))
        with st.container(width=230):
            action = address.select(gettext("What"), ["", *actions], "", "did", _action_name)
        with st.container(width=160):
            since = st.date_input(
                gettext("From"), value=None, format=date_form(), key="audit-from", bind="query-params"
            )
        with st.container(width=160):
            until = st.date_input(gettext("To"), value=None, format=date_form(), key="audit-to", bind="query-params")
    chosen = {"actor": actor, "action": action, "from": since, "to": until}
    if st.session_state.setdefault("audit-filters", chosen) != chosen:
        st.session_state["audit-filters"] = chosen
        st.session_state[TRAIL] = []
        st.query_params.pop("after", None)
    return {name: value for name, value in chosen.items() if value}


def _pages(page: AuditPage, cursor: str | None) -> None:
    trail: list[str | None] = st.session_state.setdefault(TRAIL, [])
    if cursor and st.button(gettext("Newer"), icon=":material/chevron_left:", key="audit-newer"):
        _go(trail.pop() if trail else None)
    if page.next_cursor and st.button(gettext("Older"), icon=":material/chevron_right:", key="audit-older"):
        trail.append(cursor)
        _go(page.next_cursor)


def _go(cursor: str | None) -> None:
    if cursor:
        st.query_params["after"] = cursor
    else:
        st.query_params.pop("after", None)
    st.rerun()


def _downloads(chosen: dict[str, Any]) -> None:
    """All rows that fit the filters, not only those that are shown."""
    api = session.services().api  # the download runs in another thread, which has no session

    def everything() -> pd.DataFrame:
        items: list[AuditEntry] = []
        cursor = None
        while len(items) < MOST_EXPORTED:
            page = api.audit(chosen, cursor, 1000)
            items += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        return _frame(tuple(items))

    told = ", ".join(f"{name} = {value}" for name, value in chosen.items())
    cover = {gettext("What"): gettext("Who did what"), gettext("Filters"): told or gettext("all")}
    parts.downloads(everything, "audit", cover, "audit")
    st.caption(gettext("Files hold the newest {count} rows that fit.").format(count=number(MOST_EXPORTED)))


def _frame(items: tuple[AuditEntry, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                gettext("When"): clock(item.at),
                gettext("Who"): item.actor,
                gettext("What"): _action_name(item.action),
                gettext("On"): item.subject,
                gettext("More"): ", ".join(f"{name}: {value}" for name, value in item.facts.items()),
                gettext("Number"): item.entry_id,
            }
            for item in items
        ]
    )


def _action_name(code: str) -> str:
    return words.word(words.AUDIT_ACTIONS, code) if code else gettext("all")
