"""Whose a key or a session is: asked of the database every few seconds at most, and while it is away what was known."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from api.auth import Caller
from ml.access import proves
from ml.errors import ServiceDown
from ml.records import ApiKey, Session

FRESH = 5.0  # seconds after which a key is looked up again: so long a revoked one may still pass
AWAY = 600.0  # seconds that a known key goes on to pass while the database does not answer
NOTED_EVERY = 30.0  # seconds between two notes of the last uses
MOST = 10_000  # ids that are remembered, unknown ones among them

log = logging.getLogger("api")


Known = ApiKey | Session


class Book(Protocol):
    """Where keys or sessions are kept."""

    def id_of(self, secret: str, /) -> str | None: ...

    def find(self, key_id: str, /) -> tuple[Known, str] | None: ...

    def used(self, when: Mapping[str, dt.datetime]) -> None: ...


Kept = TypeVar("Kept", bound=Book)


def caller_of(known: Known) -> Caller:
    if isinstance(known, Session):
        return Caller(known.name, known.role, None, known.account_id, known.session_id)
    return Caller(known.name, known.role, known.key_id)


@dataclass(frozen=True)
class _Seen:
    """``at``: when the database said so; ``asked``: when it was last asked, answer or not."""

    key: Known | None
    sha256: str
    at: float
    asked: float


class KeyRing(Generic[Kept]):
    """Remembers keys for a moment; safe to ask from many requests at once. A session is a key that ends by itself."""

    def __init__(self, keys: Kept) -> None:
        self.keys = keys
        self._seen: dict[str, _Seen] = {}
        self._used: dict[str, dt.datetime] = {}
        self._noted = time.monotonic()
        self._noting = threading.Lock()

    async def caller(self, secret: str) -> Caller | None:
        """Who sent this key; None: nobody who may call.

        Raises
        ------
        ServiceDown
            The database is away, and the key is not known from before.
        """
        key_id = self.keys.id_of(secret)
        if key_id is None:
            return None
        seen = self._seen.get(key_id)
        if seen is None or time.monotonic() - seen.asked > FRESH:
            seen = await asyncio.to_thread(self._looked_up, key_id)
        now = dt.datetime.now(dt.UTC)
        if seen.key is None or not proves(secret, seen.sha256) or not seen.key.valid(now):
            return None
        self._used[key_id] = now
        if time.monotonic() - self._noted > NOTED_EVERY:
            self._noted = time.monotonic()
            asyncio.get_running_loop().run_in_executor(None, self.note)
        return caller_of(seen.key)

    def forget(self, key_id: str) -> None:
        """Look this one up anew at its next use."""
        self._seen.pop(key_id, None)

    def forget_all(self) -> None:
        """Look every one up anew: an account has changed, and it may have several sessions."""
        self._seen.clear()

    def note(self) -> None:
        """Write the last uses down; what cannot be written now is tried again with the next."""
        with self._noting:
            used, self._used = self._used, {}
            try:
                if used:
                    self.keys.used(used)
            except ServiceDown:
                self._used = used | self._used

    def _looked_up(self, key_id: str) -> _Seen:
        now, before = time.monotonic(), self._seen.get(key_id)
        try:
            found = self.keys.find(key_id)
        except ServiceDown:
            if before is None or before.key is None or now - before.at > AWAY:
                raise
            log.warning("the database is away; key %s is taken as it was known", key_id)
            seen = self._seen[key_id] = replace(before, asked=time.monotonic())  # not waited for at each request
            return seen
        if len(self._seen) >= MOST:
            self._seen.clear()
        key, sha256 = found or (None, "")
        seen = self._seen[key_id] = _Seen(key, sha256, now, now)
        return seen
