"""What one browser session has: its services, its reader, who they are and what they may do, its questions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from control_room import i18n
from control_room.cookies import cookie_name
from control_room.live import LastGood, Seen
from ml.records import USER_ROLES, Me, UserRole
from ml.settings import Settings, load_settings

if TYPE_CHECKING:
    from control_room.clients.airflow import AirflowClient
    from control_room.clients.api import ApiClient
    from control_room.clients.mlflow import MlflowClient

T = TypeVar("T")
LANGUAGE_KEY = "lang"
TOKEN_KEY = "session-token"  # of people of an identity provider; others have a cookie
# Pages that are of no use to a role below; the others show what it may see.
NEEDED: dict[str, UserRole] = {"predict": "planner"}
# What pages are linked to for, where it takes more than reading.
ACTING: dict[str, UserRole] = {"upload": "planner", "predict": "planner", "retrain": "analyst"}
KNOWN_SECONDS = 5.0  # so long a role that was changed elsewhere is shown as it was; the API refuses by the new one


@dataclass(frozen=True)
class Services:
    """The three services a page talks to, one client each."""

    settings: Settings
    api: ApiClient
    airflow: AirflowClient
    mlflow: MlflowClient


def connect() -> Services:
    """Make the clients, the API's with the console's own key; nothing is asked yet."""
    from control_room.clients.airflow import AirflowClient
    from control_room.clients.mlflow import MlflowClient

    settings = load_settings()
    return Services(
        settings,
        connect_as(settings, settings.api_token),
        AirflowClient(settings.airflow, settings.airflow_user, settings.airflow_password),
        MlflowClient(settings.mlflow),
    )


def connect_as(settings: Settings, token: str) -> ApiClient:
    from control_room.clients.api import ApiClient

    return ApiClient(settings.api, token)


@st.cache_resource(show_spinner=False)
def console() -> Services:
    """The console as itself: to sign people in, and where nobody signs in."""
    return connect()


@st.cache_resource(show_spinner=False, max_entries=200)
def _speaking_for(token: str) -> ApiClient:
    return connect_as(console().settings, token)


def api_address() -> str:
    """Where programs reach the API, which need not be where the console does."""
    return console().settings.api_shown


def services() -> Services:
    """The clients; the API's speaks for the reader, who may do there what their role may."""
    known = console()
    return known if known.settings.sign_in == "none" else replace(known, api=_speaking_for(token() or "nobody"))


@st.cache_resource(show_spinner=False)
def last_good() -> LastGood:
    """One store per process: what one session saw, another can fall back on that may see the same."""
    return LastGood()


def ask_api(question: Hashable, call: Callable[[ApiClient], T], seconds: float = 5.0) -> Seen[T]:
    api = services().api
    return last_good().ask("api", question, lambda: call(api), seconds, _shared_by())


def ask_airflow(question: Hashable, call: Callable[[AirflowClient], T], seconds: float = 5.0) -> Seen[T]:
    airflow = services().airflow
    return last_good().ask("airflow", question, lambda: call(airflow), seconds)


def ask_mlflow(question: Hashable, call: Callable[[MlflowClient], T], seconds: float = 30.0) -> Seen[T]:
    mlflow = services().mlflow
    return last_good().ask("mlflow", question, lambda: call(mlflow), seconds)


def forget(service: str | None = None, *topics: str) -> None:
    last_good().forget(service, *topics)


# ---------------------------------------------------------------- who reads


def token() -> str:
    """What proves to the API who the reader is; empty where nobody signs in, or nobody has."""
    settings = console().settings
    if settings.sign_in == "accounts":
        return st.context.cookies.get(cookie_name(settings), "")
    return st.session_state.get(TOKEN_KEY, "") if settings.sign_in == "oidc" else ""


def me() -> Seen[Me]:
    """Who the API takes the reader for. Never shared: nobody is shown another's answer."""
    api = services().api
    return last_good().ask("api", "me", api.me, KNOWN_SECONDS, _own())


def may(role: UserRole) -> bool:
    """Whether the reader may do what a role may, as far as is known; the API decides it again."""
    person = me().value
    if person is None:
        return console().settings.sign_in == "none"  # who is at this machine is an administrator
    return USER_ROLES.index(person.role) >= USER_ROLES.index(role)


def may_open(page: str) -> bool:
    """Whether a page is of use to the reader; while who they are is not known none is hidden."""
    return me().value is None or may(NEEDED.get(page, "viewer"))


def may_act(page: str) -> bool:
    """Whether the reader may do what they would be sent to a page for, as ``pages/upload.py``."""
    name = page.removeprefix("pages/").removesuffix(".py")
    return me().value is None or may(ACTING.get(name, "viewer"))


def _own() -> str:
    """A name for the reader's answers that does not tell their token."""
    known = token()
    return hashlib.sha256(known.encode()).hexdigest()[:16] if known else ""


def _shared_by() -> str:
    """Who may be shown the same answers of the API: everybody in local mode, else those of one role."""
    if console().settings.sign_in == "none":
        return ""
    person = me().value
    return person.role if person else _own()


# ---------------------------------------------------------------- how they read


def reader() -> i18n.Reader:
    """Language, locale and zone of this session: what the frame's switch says, else what the browser says."""
    asked = st.session_state.get(LANGUAGE_KEY)
    return i18n.choose(st.context.locale, asked, st.context.timezone)


def dark() -> bool:
    return st.context.theme.type == "dark"


i18n.follow(reader)
