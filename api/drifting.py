"""Drift of the logged predictions: looked at again when there is new data, and every ten minutes."""

from __future__ import annotations

import threading
import time

from ml.errors import ControlRoomError
from ml.livedrift import prediction_drift
from ml.records import Drift, Snapshot
from ml.store import Store

FRESH_SECONDS = 600.0


class Drifting:
    """Keeps the last answer."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._known: tuple[str, float, Drift] | None = None

    def of(self, snapshot: Snapshot) -> Drift | None:
        """None while the database is away or slow."""
        with self._lock:
            if self._known and self._known[0] == snapshot.data_version and not _old(self._known[1]):
                return self._known[2]
            try:
                found = prediction_drift(self.store, snapshot.date_to, snapshot.frequency)
            except ControlRoomError:
                return None
            self._known = (snapshot.data_version, time.monotonic(), found)
            return found


def _old(at: float) -> bool:
    return time.monotonic() - at > FRESH_SECONDS
