"""How the services around us are: asked side by side, at most a second, at most every two seconds."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait

from ml.errors import ControlRoomError
from ml.jobboard import Queue
from ml.records import PartHealth, PartState

PATIENCE_SECONDS = 1.0
FRESH_SECONDS = 2.0

Ask = Callable[[], object]


class Parts:
    """Asks each part by a function that returns (or returns a PartHealth) when it is well and raises when not."""

    def __init__(self, asks: Mapping[str, Ask]) -> None:
        self._asks = dict(asks)
        # One question per part is out at any time, however long it takes and however many want to know.
        self._out: dict[str, Future[PartHealth]] = {}
        self._known: dict[str, PartHealth] = {}
        self._lock = threading.Lock()
        self._asked_at = -FRESH_SECONDS

    def now(self) -> tuple[PartHealth, ...]:
        """State of every part; never raises, takes at most a second."""
        with self._lock:
            if time.monotonic() - self._asked_at >= FRESH_SECONDS:
                self._known = self._measured()
                self._asked_at = time.monotonic()
            return tuple(self._known.values())

    def _measured(self) -> dict[str, PartHealth]:
        for name, ask in self._asks.items():
            if name not in self._out or self._out[name].done():
                self._out[name] = _started(name, ask)
        wait(self._out.values(), timeout=PATIENCE_SECONDS)
        return {name: future.result() if future.done() else _silent(name) for name, future in self._out.items()}


def _started(name: str, ask: Ask) -> Future[PartHealth]:
    """The question in a daemon thread: a part that never answers must not keep the process from ending."""
    future: Future[PartHealth] = Future()
    threading.Thread(target=lambda: future.set_result(_asked(name, ask)), name=f"ask {name}", daemon=True).start()
    return future


def _asked(name: str, ask: Ask) -> PartHealth:
    begin = time.perf_counter()
    try:
        answer = ask()
    except ControlRoomError as error:
        return PartHealth(name=name, state="down", checked_at=dt.datetime.now(dt.UTC), detail=str(error))
    except Exception as error:
        return PartHealth(name=name, state="down", checked_at=dt.datetime.now(dt.UTC), detail=type(error).__name__)
    if isinstance(answer, PartHealth):
        return answer
    latency = (time.perf_counter() - begin) * 1000
    return PartHealth(name=name, state="ok", latency_ms=latency, checked_at=dt.datetime.now(dt.UTC))


def _silent(name: str) -> PartHealth:
    detail = f"no answer within {PATIENCE_SECONDS:g} s"
    return PartHealth(name=name, state="down", checked_at=dt.datetime.now(dt.UTC), detail=detail)


def worker_part(queue: Queue) -> PartHealth:
    """Whether anybody works on jobs, and how many wait."""
    detail = f"{queue.workers} at work; jobs: {queue.queued} waiting, {queue.running} running"
    state: PartState = "ok" if queue.workers else "down"
    return PartHealth(name="worker", state=state, checked_at=dt.datetime.now(dt.UTC), detail=detail)
