"""Who reads: let in or led to the sign-in, shown in the frame with a way out, told politely what is not theirs."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from control_room import oidc, parts, session, words
from control_room.i18n import gettext, reader
from ml.errors import Conflict, ControlRoomError, Forbidden, SignInFailed, Unauthorized
from ml.settings import Settings


def refusal() -> ControlRoomError | None:
    """Why no page may be drawn; None: the reader is let in."""
    settings = session.console().settings
    if settings.sign_in == "none":
        return None
    if settings.sign_in == "oidc" and (refused := _vouched(settings)):
        return refused
    if not session.token():
        return Unauthorized()
    seen = session.me()
    return seen.problem if seen.value is None else None


def frame() -> None:
    """Name, role and the way out; in local mode that there is no sign-in."""
    settings = session.console().settings
    with st.sidebar:
        if settings.sign_in == "none":
            st.caption(
                ":material/lock_open: " + gettext("Local mode: no sign-in, everybody on this machine may do all.")
            )
            return
        known = session.me().value
        if known is None:
            return
        role = words.word(words.USER_ROLE_NAMES, known.role)
        st.caption(f":material/person: **{parts.plain(known.name)}** · {role}")
        if settings.sign_in == "oidc":
            st.button(gettext("Sign out"), key="sign-out", icon=":material/logout:", on_click=_leave)
        else:
            _link("sign-out", gettext("Sign out"))


def not_yours(page: str) -> None:
    """For a page that was opened by its address."""
    needed = words.word(words.USER_ROLE_NAMES, session.NEEDED[page])
    text = gettext("This page is for the role {role} and above; what you may see is in the navigation.")
    parts.lead(gettext("Not for your role"), text.format(role=needed), "plain")


def outside(refused: ControlRoomError) -> None:
    """Why the page is not drawn, and the way to sign in."""
    if not isinstance(refused, Unauthorized | Forbidden):
        parts.lead(gettext("Sign in"), gettext("It cannot be checked now who you are."), "bad")
        parts.problem(refused, "who")
        return
    if isinstance(refused, Forbidden):
        parts.lead(gettext("Sign in"), parts.plain(refused), "attention")
    else:
        ended = gettext("Your session has ended. Sign in again to go on.")
        text = ended if session.token() else gettext("Sign in to open the control room.")
        parts.lead(gettext("Sign in"), text, "plain")
    if session.console().settings.sign_in == "oidc":
        st.button(gettext("Sign in"), key="sign-in", type="primary", icon=":material/login:", on_click=_go_and_prove)
    else:
        _link("sign-in", gettext("Sign in"))


def _link(page: str, label: str) -> None:
    """To a page outside Streamlit, in this tab; its own links to addresses open another one."""
    st.html(f'<a class="{page}" href="/{page}?lang={reader().language}">{label}</a>')


# ---------------------------------------------------------------- people of an identity provider


def _vouched(settings: Settings) -> ControlRoomError | None:
    """Have the API open a session for whom the provider has named, once; why it does not."""
    claims = st.user.to_dict()
    if not claims.get("is_logged_in") or not oidc.fresh(claims, settings):
        st.session_state.pop(session.TOKEN_KEY, None)
        return None
    if session.token():
        return None
    role = oidc.role_of(claims, settings)
    if role is None:
        return Forbidden(gettext("Your account at the identity provider has no role here: ask an administrator."))
    try:
        api, address = session.console().api, st.context.ip_address or ""
        opened = api.sign_in_as(str(claims["iss"]), str(claims["sub"]), oidc.name_of(claims), role, address)
    except SignInFailed:
        return Forbidden(gettext("Your account is disabled here: ask an administrator."))
    except Conflict:
        return Forbidden(gettext("Another account has your name: ask an administrator."))
    except ControlRoomError as error:
        return error
    st.session_state[session.TOKEN_KEY] = opened.token
    return None


def _go_and_prove() -> None:
    st.session_state.pop(session.TOKEN_KEY, None)
    st.login()


def _leave() -> None:
    """The API's session ends first: what the provider's cookie says is then worth nothing here."""
    with suppress(ControlRoomError):  # it ends by itself
        session.services().api.sign_out()
    st.session_state.pop(session.TOKEN_KEY, None)
    st.logout()
