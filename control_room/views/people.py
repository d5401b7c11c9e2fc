"""People on the API & access page: their accounts, for administrators; the own password, for everybody who has one."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from control_room import asked, parts, session, words
from control_room.i18n import gettext, moment
from ml.records import USER_ROLES, Account, NewAccount

NEW = "new-account"  # in the session state: what is shown once


def accounts() -> None:
    """The people, and what an administrator may do about them."""
    settings = session.services().settings
    if settings.sign_in == "none" or not session.may("admin"):
        return
    parts.section(gettext("People"), gettext("Who may open this console, and as what."))
    seen = asked.accounts()
    found = parts.need(seen, "accounts", still=gettext("Who is signed in can go on."))
    if found is None:
        return
    if settings.sign_in == "accounts":
        _new()
    if found:
        _table(found)
        parts.source(seen, "GET /v1/accounts")
        with st.container(horizontal=True):
            _change(found)
            parts.downloads(lambda: _frame(found), "people", {gettext("What"): gettext("People")}, "accounts")


def _table(found: tuple[Account, ...]) -> None:
    st.dataframe(_frame(found), hide_index=True, alt=gettext("People"))


def _frame(found: tuple[Account, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                gettext("Name"): item.name,
                gettext("State"): words.state(words.ACCOUNT_STATES, _state(item))[1],
                gettext("Role"): words.word(words.USER_ROLE_NAMES, item.role),
                gettext("Signs in with"): words.word(words.SIGN_IN_KINDS, item.kind),
                gettext("Last sign-in"): moment(item.last_sign_in_at) if item.last_sign_in_at else gettext("never"),
                gettext("Made"): moment(item.created_at),
                gettext("Made by"): item.created_by,
                gettext("Changed"): moment(item.changed_at),
                gettext("Changed by"): item.changed_by,
            }
            for item in found
        ]
    )


def _state(item: Account) -> str:
    return "disabled" if item.disabled_at else "active"


# ---------------------------------------------------------------- a new one


def _new() -> None:
    made: NewAccount | None = st.session_state.get(NEW)
    if made is not None:
        _shown_once(made)
        return
    with st.form("make-account", border=True):
        with st.grid(2, min_column_width=200):
            name = st.text_input(gettext("Name or e-mail"), key="account-name", max_chars=100, placeholder="ana")
            role = st.selectbox(
                gettext("Role"), USER_ROLES, format_func=_role_name, key="account-role",
                help=gettext("The least that the person needs."),
            )  # fmt: skip
        st.caption(gettext("A password is made and shown once; the person can change it on this page."))
        if st.form_submit_button(gettext("Make an account"), icon=":material/person_add:", key="make-account-now"):
            _make(name.strip(), role)


def _make(name: str, role: Any) -> None:
    if not name:
        st.error(gettext("Give the person a name to sign in with."))
        return
    _keep(parts.attempt(lambda: session.services().api.make_account(name, role), "make-account"))


def _keep(made: NewAccount | None) -> None:
    if made is not None:
        st.session_state[NEW] = made
        session.forget("api", "accounts", "audit")
        st.rerun()


def _shown_once(made: NewAccount) -> None:
    with st.container(border=True, key="new-account-shown"):
        text = gettext("The password of “{name}”, shown this once. Hand it over safely: it is kept nowhere.")
        st.markdown(f":material/password: **{text.format(name=parts.plain(made.account.name))}**")
        st.code(made.password, language=None)
        if st.button(gettext("I have copied it"), type="primary", icon=":material/check:", key="password-copied"):
            del st.session_state[NEW]
            st.rerun()


# ---------------------------------------------------------------- a change


def _change(found: tuple[Account, ...]) -> None:
    with parts.popover(gettext("Change an account"), "account-box", icon=":material/manage_accounts:"):
        named = {item.account_id: item for item in found}
        account_id = st.selectbox(
            gettext("Account"), list(named), format_func=lambda code: named[code].name, key="account"
        )
        item = named[account_id]
        if item.kind == "local":
            _change_role(item)
            _reset(item)
        else:
            st.caption(gettext("Name and role come from the identity provider."))
        _disable(item)


def _change_role(item: Account) -> None:
    role = st.selectbox(
        gettext("Role"), USER_ROLES, index=USER_ROLES.index(item.role), format_func=_role_name,
        key=f"role-of-{item.account_id}",
    )  # fmt: skip
    if st.button(gettext("Give this role"), icon=":material/badge:", disabled=role == item.role, key="give-role"):
        _changed(parts.attempt(lambda: session.services().api.change_account(item.account_id, role=role), "role"))


def _reset(item: Account) -> None:
    if st.button(gettext("Make a new password"), icon=":material/lock_reset:", key="reset-password"):
        _keep(parts.attempt(lambda: session.services().api.reset_password(item.account_id), "reset"))


def _disable(item: Account) -> None:
    off = item.disabled_at is None
    label = gettext("Disable, and end every session") if off else gettext("Let sign in again")
    if st.button(label, icon=":material/block:" if off else ":material/how_to_reg:", key="disable-account"):
        api = session.services().api
        _changed(parts.attempt(lambda: api.change_account(item.account_id, disabled=off), "disable"))


def _changed(account: Account | None) -> None:
    if account is not None:
        session.forget("api", "accounts", "audit")
        st.rerun()


def _role_name(code: str) -> str:
    return words.word(words.USER_ROLE_NAMES, code)


# ---------------------------------------------------------------- the own password


def own_password() -> None:
    """For people with a password here."""
    person = session.me().value
    if session.services().settings.sign_in != "accounts" or person is None or person.account_id is None:
        return
    parts.section(gettext("Your password"))
    with st.expander(gettext("Change your password"), icon=":material/lock:"), st.form("own-password", border=False):
        present = st.text_input(gettext("Present password"), type="password", key="password-present", max_chars=256)
        new = st.text_input(
            gettext("New password"), type="password", key="password-new", max_chars=256,
            help=gettext("12 characters or more; a sentence is easier to keep in mind than signs."),
        )  # fmt: skip
        again = st.text_input(gettext("Once more"), type="password", key="password-again", max_chars=256)
        if st.form_submit_button(gettext("Change it"), icon=":material/check:", key="password-change"):
            _set(present, new, again)


def _set(present: str, new: str, again: str) -> None:
    if new != again:
        st.error(gettext("The new password was typed in two different ways."))
    elif parts.attempt(lambda: _done(present, new), "own-password"):
        st.success(gettext("Your password is changed. Everywhere else you are signed out."))


def _done(present: str, new: str) -> bool:
    session.services().api.change_own_password(present, new)
    return True
