"""The API & access page: address and snippets, keys and roles, limits, errors, the audit of champions."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import streamlit as st

from control_room import address, asked, parts, session, snippets, words
from control_room.i18n import N_, gettext, moment, ngettext, number, percent
from control_room.problems import ANSWERED
from ml.records import USER_ROLES, ApiKey, NewApiKey, Reign

SNIPPETS = {"curl": N_("cURL"), "python": N_("Python"), "excel": N_("Excel (Power Query)")}
SNIPPET_DAYS = 14
EXPIRIES = {30: N_("in 30 days"), 90: N_("in 90 days"), 365: N_("in a year"), 0: N_("never")}
USUAL_EXPIRY = 365
# Who may do what; each role may also do what those before it may.
RIGHTS = {
    "viewer": N_("reads everything: history, models, runs, data"),
    "planner": N_("uploads files, starts the ETL, predicts, keeps scenarios"),
    "analyst": N_("starts a retraining"),
    "manager": N_("promotes a model and rolls back"),
    "admin": N_("makes and revokes keys and accounts, reads the audit"),
}
LIMITS = {
    "requests_per_minute": (N_("Requests of one key per minute"), ""),
    "upload_mb": (N_("A file that is uploaded"), " MB"),
    "predict_rows": (N_("Rows of one POST /predict"), ""),
    "predict_mb": (N_("Body of one POST /predict"), " MB"),
    "forecast_rows": (N_("Rows of one POST /v1/forecast"), ""),
    "explain_rows": (N_("Rows of one POST /v1/explain"), ""),
    "history_rows": (N_("Rows of one page of the history"), ""),
}
AUDIT_ROWS = 1000


# ---------------------------------------------------------------- what is true now


def lead() -> None:
    me = session.me()
    if me.value is None or me.stale:
        text = gettext("The API does not answer, so no program can call it now.")
        parts.lead(gettext("API & access"), text, "bad")
        return
    url = f"`{session.api_address()}`"  # as code: written out it would become a link to nothing
    if not session.may("admin"):
        text = gettext("The API answers at {url}; it knows you as “{name}” with the role {role}.")
        role = words.word(words.USER_ROLE_NAMES, me.value.role)
        parts.lead(gettext("API & access"), text.format(url=url, name=parts.plain(me.value.name), role=role), "good")
        return
    found = asked.keys()
    parts.lead(gettext("API & access"), _keys_sentence(url, found.value), "good", _openness(), stale=found.stale)


def _keys_sentence(url: str, found: tuple[ApiKey, ...] | None) -> str:
    if found is None:
        return gettext("The API answers at {url}; its keys cannot be read now.").format(url=url)
    count = sum(_state(item) == "valid" for item in found)
    if not count:
        return gettext("The API answers at {url}; no key for a program is valid now.").format(url=url)
    text = ngettext(
        "The API answers at {url}; {count} key of a program is valid.",
        "The API answers at {url}; {count} keys of programs are valid.",
        count,
    )
    return text.format(url=url, count=number(count))


def _openness() -> str:
    if session.services().api.needs_token:
        return gettext("Every call needs a key.")
    return gettext("Calls from this machine need no key; set CONTROL_ROOM_API_TOKEN before others may reach it.")


# ---------------------------------------------------------------- from a program


def from_a_program() -> None:
    """The live address, and one question that can be copied and works as it is."""
    api, url = session.services().api, session.api_address()
    parts.section(gettext("From a program"))
    st.code(url, language=None)
    way = address.segments(gettext("Language"), list(SNIPPETS), "snippet", lambda code: gettext(SNIPPETS[code]))
    catalog = asked.catalog()
    if catalog.problem is not None and catalog.problem.code == "no_data":
        st.caption(gettext("There is no data yet: the answer will come once a model serves."))
    made = {"curl": snippets.curl, "python": snippets.python, "excel": snippets.power_query}[way]
    text = made(url, "/v1/forecast", _question(), api.needs_token)
    st.code(text, language={"curl": "bash", "python": "python", "excel": None}[way], wrap_lines=True)
    st.caption(_how_to_use(way, api.needs_token))
    st.link_button(gettext("All routes, to try out"), f"{url}/docs", icon=":material/menu_book:")


def _question() -> dict[str, Any]:
    """The next two weeks of the best seller; without a catalogue those of everything."""
    catalog = asked.catalog().value
    if catalog is None or not catalog.series:
        return {"horizon": SNIPPET_DAYS}
    best = max(catalog.series, key=lambda item: item.mean_sales)
    return {"stores": [best.store], "products": [best.product], "horizon": min(SNIPPET_DAYS, catalog.horizon)}


def _how_to_use(way: str, needs_token: bool) -> str:
    if way == "excel":
        text = gettext("Data › Get Data › Blank Query › Advanced Editor: paste it. Access: anonymous.")
        more = gettext("Make a parameter ApiKey with your key first (Manage Parameters).")
        return f"{text} {more}" if needs_token else text
    if needs_token:
        return gettext("The key is read from the variable CONTROL_ROOM_API_TOKEN: put your own key there.")
    return gettext("It asks the API of this machine and works as it is.")


# ---------------------------------------------------------------- keys and roles


def keys() -> None:
    """The keys, for those who may see them; the roles for everybody."""
    parts.section(gettext("Keys and roles"), gettext("Each role may also do what those before it may."))
    _roles()
    if not session.may("admin"):
        if session.me().value is not None:
            st.caption(gettext("Keys are made and revoked by an administrator."))
        return
    seen = asked.keys()
    found = parts.need(seen, "keys", still=gettext("Programs that have a key can go on."))
    if found is None:
        return
    _new_key()
    if not found:
        parts.empty(gettext("No key has been made yet. Make one for each program that calls the API."))
        return
    frame = _keys_frame(found)
    st.dataframe(frame, hide_index=True, alt=gettext("Keys of the API"))
    parts.source(seen, "GET /v1/keys")
    with st.container(horizontal=True):
        _revoke([item for item in found if _state(item) == "valid"])
        parts.downloads(lambda: frame, "keys", {gettext("What"): gettext("Keys of the API")}, "keys")


def _roles() -> None:
    rows = [
        {gettext("Role"): words.word(words.USER_ROLE_NAMES, role), gettext("May"): gettext(RIGHTS[role])}
        for role in USER_ROLES
    ]
    with st.expander(gettext("What each role may do"), icon=":material/badge:"):
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt=gettext("What each role may do"))


def _new_key() -> None:
    made: NewApiKey | None = st.session_state.get("new-key")
    if made is not None:
        _shown_once(made)
        return
    with st.form("make-key", border=True):
        with st.grid(3, min_column_width=150):
            name = st.text_input(
                gettext("Name of the program"), key="key-name", max_chars=100, placeholder=gettext("Cash registers")
            )
            role = st.selectbox(
                gettext("Role"), USER_ROLES, format_func=lambda code: words.word(words.USER_ROLE_NAMES, code),
                key="key-role", help=gettext("The least that the program needs."),
            )  # fmt: skip
            days = st.selectbox(
                gettext("It ends"), list(EXPIRIES), index=list(EXPIRIES).index(USUAL_EXPIRY), key="key-days",
                format_func=lambda count: gettext(EXPIRIES[count]),
            )  # fmt: skip
        if st.form_submit_button(gettext("Make a key"), icon=":material/key:", key="make-key-now"):
            _make(name.strip(), role, days or None)


def _make(name: str, role: Any, days: int | None) -> None:
    if not name:
        st.error(gettext("Give the key the name of the program that will use it."))
        return
    made = parts.attempt(lambda: session.services().api.make_key(name, role, days), "make-key")
    if made is not None:
        st.session_state["new-key"] = made
        session.forget("api", "keys")
        st.rerun()


def _shown_once(made: NewApiKey) -> None:
    with st.container(border=True, key="new-key-shown"):
        text = gettext("The key of “{name}”, shown this once. Copy it now: it is kept nowhere.")
        st.markdown(f":material/key: **{text.format(name=parts.plain(made.key.name))}**")
        st.code(made.secret, language=None)
        st.caption(gettext("The program sends it as X-API-Key or as Authorization: Bearer."))
        if st.button(gettext("I have copied it"), type="primary", icon=":material/check:", key="key-copied"):
            del st.session_state["new-key"]
            st.rerun()


def _revoke(valid: list[ApiKey]) -> None:
    if not valid:
        return
    with parts.popover(gettext("Revoke a key"), "revoke-box", icon=":material/key_off:"):
        named = {item.key_id: f"{item.name} · {item.key_id}" for item in valid}
        key_id = st.selectbox(gettext("Key"), list(named), format_func=named.__getitem__, key="revoke-key")
        st.markdown(gettext("Its program is refused within seconds. This cannot be undone."))
        if st.button(gettext("Yes, revoke it"), key="revoke-now", type="primary"):
            revoked = parts.attempt(lambda: session.services().api.revoke_key(key_id), "revoke-key")
            if revoked is not None:
                parts.close("revoke-box")
                session.forget("api", "keys")
                st.rerun()


def _state(item: ApiKey) -> str:
    if item.revoked_at is not None:
        return "revoked"
    return "valid" if item.valid(dt.datetime.now(dt.UTC)) else "ended"


def _keys_frame(found: tuple[ApiKey, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                gettext("Name"): item.name,
                gettext("State"): words.state(words.KEY_STATES, _state(item))[1],
                gettext("Role"): words.word(words.USER_ROLE_NAMES, item.role),
                gettext("Ends"): moment(item.expires_at) if item.expires_at else gettext("never"),
                gettext("Last used"): moment(item.last_used_at) if item.last_used_at else gettext("never"),
                gettext("Made"): moment(item.created_at),
                gettext("Made by"): item.created_by,
                gettext("Revoked by"): item.revoked_by or "–",
                gettext("Key id"): item.key_id,
            }
            for item in found
        ]
    )


# ---------------------------------------------------------------- limits and errors


def limits() -> None:
    parts.section(gettext("Limits"), gettext("What is above is refused as a whole; nothing of it is done."))
    seen = asked.limits()
    found = parts.need(seen, "limits")
    if found is None:
        return
    rows = [
        {gettext("At most"): gettext(title), gettext("Value"): _limit(getattr(found, name), ending)}
        for name, (title, ending) in LIMITS.items()
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt=gettext("Limits"))
    parts.source(seen, "GET /v1/limits")


def _limit(value: int, ending: str) -> str:
    return f"{number(value)}{ending}" if value else gettext("no limit")


def errors() -> None:
    """Every code that the API answers with, and what a program can do about it."""
    parts.section(
        gettext("Errors"),
        gettext("Problem documents (RFC 9457): the code is stable, errors names row and field, request_id finds it."),
    )
    rows = [
        {
            gettext("Code"): code,
            gettext("Status"): str(status),
            gettext("What it means"): gettext(title),
            gettext("What to do"): gettext(advice),
        }
        for code, (status, title, advice) in sorted(ANSWERED.items(), key=lambda item: (item[1][0], item[0]))
    ]
    frame = pd.DataFrame(rows)
    with st.expander(gettext("{count} codes").format(count=number(len(rows))), icon=":material/list:"):
        st.table(frame, border="horizontal", hide_index=True, alt=gettext("Errors"))
        parts.downloads(lambda: frame, "errors", {gettext("What"): gettext("Errors")}, "errors")


# ---------------------------------------------------------------- who moved the champion


def audit() -> None:
    parts.section(gettext("Who was champion when"), gettext("Every promotion and every way back, newest first."))
    seen = asked.champions(AUDIT_ROWS)
    page = parts.need(seen, "champions")
    if page is None:
        return
    if not page.items:
        parts.empty(gettext("Nothing has been promoted yet."), "pages/retrain.py", gettext("Train a model"))
        return
    chosen = _chosen(page.items)
    frame = pd.DataFrame([_reign(item) for item in chosen], columns=list(_reign(page.items[0])))
    st.dataframe(frame, hide_index=True, alt=gettext("Who was champion when"))
    if page.next_cursor is not None:
        st.caption(gettext("The newest {count} are shown.").format(count=number(len(page.items))))
    parts.source(seen, "GET /v1/champions")
    cover = {
        gettext("What"): gettext("Who was champion when"),
        gettext("Filters"): ", ".join(filter(None, map(st.query_params.get, ("moved_by", "move")))) or gettext("all"),
    }
    parts.downloads(lambda: frame, "champions", cover, "champions")


def _chosen(items: tuple[Reign, ...]) -> list[Reign]:
    """The rows that fit the filters, which are in the address."""
    actors = sorted({item.actor for item in items})
    with st.container(horizontal=True):
        with st.container(width=230):
            moves = ["all", *(code for code in ("promote", "rollback") if any(item.action == code for item in items))]
            move = address.select(gettext("What"), moves, "all", "move", _move_name)
        with st.container(width=230):
            actor = address.select(
                gettext("Who"), ["", *actors], "", "moved_by", lambda name: name or gettext("all")
            )  # fmt: skip
    return [item for item in items if move in ("all", item.action) and actor in ("", item.actor)]


def _move_name(code: str) -> str:
    return gettext("all") if code == "all" else words.word(words.ACTIONS, code)


def _reign(item: Reign) -> dict[str, str]:
    return {
        gettext("Version"): f"v{item.version}",
        gettext("From"): moment(item.since),
        gettext("Until"): moment(item.until) if item.until else gettext("now"),
        gettext("What"): words.word(words.ACTIONS, item.action),
        gettext("Before"): f"v{item.previous}" if item.previous else "–",
        gettext("Less error"): percent(item.gain, signed=True),
        gettext("Who"): item.actor,
        gettext("Why"): item.reason,
    }
