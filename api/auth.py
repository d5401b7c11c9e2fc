"""Who calls: the console's own key, a key from the database, or this machine where no key is set. Deny by default.

A route says with :func:`needs` which role it takes; a test fails for one that says nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request

from ml.access import allows
from ml.errors import Forbidden
from ml.records import UserRole

OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"})
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Caller:
    """Who a request comes from. ``key_id``: of a key from the database; the other two: of a person's session."""

    name: str
    role: UserRole
    key_id: str | None = None
    account_id: str | None = None
    session_id: str | None = None

    def named(self, claimed: str | None) -> str:
        """Who stands in an audit: a person as themselves, a key's program with whom it says it acts for."""
        if self.account_id is not None or not claimed:
            return self.name
        return f"{claimed} (key {self.name})" if self.key_id else claimed


CONSOLE = Caller("console", "admin")  # CONTROL_ROOM_API_TOKEN
NOBODY = Caller("nobody", "viewer")  # on the open paths, which show the state of the parts and nothing else
THIS_MACHINE = Caller("this machine", "admin")  # no key is set, and the call comes from here


def sent_key(headers: Mapping[str, str]) -> str:
    """The key of a request; empty when it has none."""
    sent = headers.get("x-api-key", "")
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if not sent and scheme.lower() == "bearer" else sent


def is_token(sent: str, token: str) -> bool:
    """Whether the console's own key was sent, compared in constant time."""
    return bool(token) and hmac.compare_digest(sent.encode(), token.encode())


def needs(role: UserRole) -> list[Any]:
    """What a route declares as ``dependencies``: callers below the role are refused."""

    async def check(request: Request) -> None:
        caller: Caller = request.scope["caller"]
        if not allows(caller.role, role):
            whose = "you have" if caller.account_id else "this key has"
            raise Forbidden(f"This takes the role {role}; {whose} the role {caller.role}.")

    check.needed = role  # type: ignore[attr-defined]
    return [Depends(check)]


def console_only() -> list[Any]:
    """What a route declares that only the console's own key opens: it vouches for who signs in."""

    async def check(request: Request) -> None:
        if request.scope["caller"] is not CONSOLE:
            raise Forbidden("Only the console may do this, with the key of CONTROL_ROOM_API_TOKEN.")

    check.needed = "console"  # type: ignore[attr-defined]
    return [Depends(check)]


def foreign(token: str, own_host: str, method: str, headers: Mapping[str, str]) -> str | None:
    """Why a browser on somebody else's page must not reach an API that asks for no key; None when all is well.

    Without a key the only guard is where the call comes from: the Host must be a local name (else a foreign name was
    rebound to this machine), and a page of another origin must not change anything.
    """
    if token:
        return None
    host = (urlsplit("//" + headers.get("host", "")).hostname or "").lower()
    if host not in LOCAL_HOSTS | {own_host}:
        return "An API without a key answers to local names only: set CONTROL_ROOM_API_TOKEN to open it to others."
    origin = headers.get("origin")
    if method not in ("GET", "HEAD", "OPTIONS") and origin and urlsplit(origin).netloc != headers.get("host"):
        return "A page of another origin may not change anything here."
    return None
