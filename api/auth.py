"""The key that every call must send when one is set, and the names by which an open API may be called."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

OPEN_PATHS = frozenset({"/health", "/livez", "/readyz"})
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def allowed(token: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a call may pass: deny by default, compared in constant time."""
    if not token or path in OPEN_PATHS:
        return True
    sent = headers.get("x-api-key", "")
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if not sent and scheme.lower() == "bearer":
        sent = bearer.strip()
    return hmac.compare_digest(sent.encode(), token.encode())


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
