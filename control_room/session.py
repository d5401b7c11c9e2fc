"""What one browser session has: its services, its reader, its questions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from control_room import i18n
from control_room.live import LastGood, Seen
from ml.records import USER_ROLES, Me, UserRole
from ml.settings import Settings, load_settings

if TYPE_CHECKING:
    from control_room.clients.airflow import AirflowClient
    from control_room.clients.api import ApiClient
    from control_room.clients.mlflow import MlflowClient

T = TypeVar("T")
LANGUAGE_KEY = "lang"


@dataclass(frozen=True)
class Services:
    """The three services a page talks to, one client each."""

    settings: Settings
    api: ApiClient
    airflow: AirflowClient
    mlflow: MlflowClient


def connect() -> Services:
    """Make the clients; nothing is asked yet."""
    from control_room.clients.airflow import AirflowClient
    from control_room.clients.api import ApiClient
    from control_room.clients.mlflow import MlflowClient

    settings = load_settings()
    return Services(
        settings,
        ApiClient(settings.api, settings.api_token),
        AirflowClient(settings.airflow, settings.airflow_user, settings.airflow_password),
        MlflowClient(settings.mlflow),
    )


@st.cache_resource(show_spinner=False)
def services() -> Services:
    return connect()


@st.cache_resource(show_spinner=False)
def last_good() -> LastGood:
    """One store per process: what one session saw, another can fall back on. All sessions use the same API key."""
    return LastGood()


def ask_api(question: Hashable, call: Callable[[ApiClient], T], seconds: float = 5.0) -> Seen[T]:
    api = services().api
    return last_good().ask("api", question, lambda: call(api), seconds)


def ask_airflow(question: Hashable, call: Callable[[AirflowClient], T], seconds: float = 5.0) -> Seen[T]:
    airflow = services().airflow
    return last_good().ask("airflow", question, lambda: call(airflow), seconds)


def ask_mlflow(question: Hashable, call: Callable[[MlflowClient], T], seconds: float = 30.0) -> Seen[T]:
    mlflow = services().mlflow
    return last_good().ask("mlflow", question, lambda: call(mlflow), seconds)


def me() -> Seen[Me]:
    """Who the API takes the reader for."""
    return ask_api("me", lambda api: api.me(), seconds=30.0)


def may(role: UserRole) -> bool:
    """Whether the reader may do what a role may, as far as is known; the API decides it again."""
    person = me().value
    return person is not None and USER_ROLES.index(person.role) >= USER_ROLES.index(role)


def forget(service: str | None = None, *topics: str) -> None:
    last_good().forget(service, *topics)


def reader() -> i18n.Reader:
    """Language, locale and zone of this session: what the frame's switch says, else what the browser says."""
    asked = st.session_state.get(LANGUAGE_KEY)
    return i18n.choose(st.context.locale, asked, st.context.timezone)


def dark() -> bool:
    return st.context.theme.type == "dark"


i18n.follow(reader)
