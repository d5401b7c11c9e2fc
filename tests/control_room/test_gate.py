"""Before Streamlit: which names are answered, what is open without a cookie, whose claims give which role."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from control_room.cookies import cookie_name
from control_room.door import Door
from control_room.gate import Gate, check_address
from control_room.oidc import fresh, name_of, role_of, secrets_of
from ml.errors import SettingsError
from ml.settings import Settings, load_settings

COOKIE = "scs_0123456789ab_" + "x" * 43
OPEN = Settings()
PEOPLE = Settings(sign_in="accounts", api_token="t")
OUTSIDE = Settings(sign_in="accounts", api_token="t", console_url="https://sales.example")


def asked(settings: Settings, path: str = "/", kind: str = "http", **headers: str) -> Any:
    """Status of the answer, or ``passed`` when Streamlit was reached."""
    said: list[Any] = []

    async def streamlit(scope: Any, receive: Any, send: Any) -> None:
        said.append("passed")

    async def send(message: Any) -> None:
        said.append(message.get("status") or message.get("code"))

    sent = {"host": "127.0.0.1:8501"} | headers
    scope = {
        "type": kind, "method": "GET", "path": path, "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
    }  # fmt: skip
    asyncio.run(Door(Gate(streamlit, settings), settings)(scope, None, send))  # type: ignore[arg-type]
    return said[0]


@pytest.mark.parametrize(
    ("settings", "host", "passes"),
    [
        (OPEN, "127.0.0.1:8501", True),
        (OPEN, "localhost:8501", True),
        (OPEN, "[::1]:8501", True),
        (OPEN, "evil.example:8501", False),  # a name of theirs that leads to this machine
        (OPEN, "127.0.0.1.evil.example", False),
        (OPEN, "", False),
        (OUTSIDE, "sales.example", True),
        (OUTSIDE, "127.0.0.1:8501", True),  # health checks from within
        (OUTSIDE, "evil.example", False),
    ],
)
def test_names_that_are_answered(settings, host, passes):
    headers = {"host": host, "cookie": f"{cookie_name(settings)}={COOKIE}"}
    assert (asked(settings, **headers) == "passed") == passes
    assert (asked(settings, "/_stcore/stream", "websocket", **headers) == "passed") == passes


@pytest.mark.parametrize(
    "cookie", ["", "control_room=", "control_room=x", f"other={COOKIE}", f"control_room={COOKIE}x"]
)
def test_without_a_sessions_cookie_nothing_is_open(cookie):
    for path in ("/", "/upload", "/_stcore/upload_file/a/b", "/media/a.csv", "/sign-in/../", "/_stcore/healthy"):
        assert asked(PEOPLE, path, cookie=cookie) == 401
    assert asked(PEOPLE, "/upload", accept="text/html", cookie=cookie) == 303
    assert asked(PEOPLE, "/_stcore/stream", "websocket", cookie=cookie) == 1008
    for path in ("/sign-in", "/sign-out", "/_stcore/health"):
        assert asked(PEOPLE, path, cookie=cookie) == "passed"


def test_with_it_streamlit_is_reached():
    for kind in ("http", "websocket"):
        assert asked(PEOPLE, "/_stcore/stream", kind, cookie=f"control_room={COOKIE}") == "passed"


@pytest.mark.parametrize("address", ["0.0.0.0", "", None, "::", "192.168.1.5"])
def test_without_sign_in_only_this_machine_may_be_listened_to(address):
    with pytest.raises(SettingsError, match=r"127\.0\.0\.1 only"):
        check_address(OPEN, address)
    check_address(PEOPLE, address)


def test_people_need_an_api_that_tells_the_console_from_others():
    check_address(OPEN, "127.0.0.1")
    with pytest.raises(SettingsError, match="API_TOKEN must be set"):
        check_address(Settings(sign_in="accounts"), "127.0.0.1")


def test_a_server_has_people_who_sign_in():
    given = {
        "CONTROL_ROOM_ENVIRONMENT": "server", "CONTROL_ROOM_API_TOKEN": "t", "CONTROL_ROOM_AIRFLOW_PASSWORD": "p",
        "CONTROL_ROOM_DATABASE_URL": "postgresql://x",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="accounts or oidc"):
        load_settings(given)
    load_settings({**given, "CONTROL_ROOM_SIGN_IN": "accounts"})
    with pytest.raises(SettingsError, match="CONSOLE_URL must be set"):
        load_settings({**given, "CONTROL_ROOM_SIGN_IN": "oidc"})


# ---------------------------------------------------------------- claims

MAPPED = Settings(oidc_role_claim="groups", oidc_roles="buyers=planner,cn=bosses;x=manager")


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["buyers"]}, "planner"),
        ({"groups": "buyers"}, "planner"),
        ({"groups": ["buyers", "cn=bosses;x"]}, "manager"),
        ({"groups": ["admin"]}, None),  # a word of ours is nothing where values are mapped
        ({"groups": [["buyers"], 7, None]}, None),
        ({"groups": {"buyers": True}}, None),
        ({"roles": ["buyers"]}, None),
        ({}, None),
    ],
)
def test_the_claim_gives_the_role(claims, role):
    assert role_of(claims, MAPPED) == role
    lenient = MAPPED.model_copy(update={"oidc_unknown": "viewer"})
    assert role_of(claims, lenient) == (role or "viewer")


def test_without_a_map_the_values_are_roles():
    assert role_of({"roles": ["viewer", "analyst", "boss"]}, Settings()) == "analyst"


@pytest.mark.parametrize("roles", ["a=owner", "a", "a=", "=planner", "a=planner,"])
def test_a_map_that_means_nothing_is_refused(roles):
    with pytest.raises(SettingsError, match="OIDC_ROLES"):
        load_settings({"CONTROL_ROOM_OIDC_ROLES": roles})


def test_an_unchecked_address_is_no_name():
    claims = {"sub": "u-1", "email": "boss@shop.example", "email_verified": False}
    assert name_of(claims) == "u-1"
    assert name_of({**claims, "email_verified": True}) == "boss@shop.example"


def test_what_the_provider_said_long_ago_does_not_count():
    assert fresh({"iat": time.time() - 3600}, Settings(session_hours=12))
    assert not fresh({"iat": time.time() - 13 * 3600}, Settings(session_hours=12))
    assert not fresh({}, Settings())


def test_the_cookies_secret_follows_from_the_consoles_key():
    oidc = Settings(sign_in="oidc", api_token="a")
    first, again = secrets_of(oidc), secrets_of(oidc)
    other = secrets_of(oidc.model_copy(update={"api_token": "b"}))
    assert first == again != other
    assert first is not None
    assert len(first["auth"]["cookie_secret"]) == 64
    assert secrets_of(Settings()) is None
