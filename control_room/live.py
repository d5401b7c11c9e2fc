"""The last good answer of every question, with its time: a service that is away never blanks a page."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ml.errors import ControlRoomError, ServiceDown

T = TypeVar("T")
# Answers kept per process. A page asks about ten questions; filters make more of them.
KEPT = 512
# After a time-out a service is not asked again for this long, so that one page does not wait once per question.
REST_SECONDS = 8.0
HEALTH = "health"  # the question that every page asks first, and that a service answers at once or not at all


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What is known: the value, when it was had, and why there is nothing newer, if there is not."""

    value: T | None
    at: dt.datetime | None = None
    problem: ControlRoomError | None = None

    @property
    def stale(self) -> bool:
        return self.problem is not None and self.value is not None


class LastGood:
    """Asks through a cache of ``seconds`` and falls back on the last good answer. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, tuple[float, Seen[Any]]] = OrderedDict()
        # Services that did not answer in time: to the question for their health (True), or to any other (False).
        self._resting: dict[tuple[str, bool], tuple[float, ServiceDown]] = {}

    def ask(
        self, service: str, question: Hashable, call: Callable[[], T], seconds: float = 5.0, whose: str = ""
    ) -> Seen[T]:
        """``whose``: who may be shown the same answer; others ask for themselves, and fall back on nothing of it."""
        key = (service, question, whose)
        with self._lock:
            known = self._seen.get(key)
            resting = self._resting.get((service, _topic(question) == HEALTH))
        if known and time.monotonic() - known[0] < seconds:
            return known[1]
        if resting and time.monotonic() - resting[0] < REST_SECONDS:
            return _fallen_back(known, resting[1])
        try:
            seen = Seen(call(), dt.datetime.now(dt.UTC))
        except ControlRoomError as problem:
            return self._failed(service, key, problem)
        self._keep(key, seen)
        return seen

    def forget(self, service: str | None = None, *topics: str) -> None:
        """Ask anew: everything, one service, or its questions about the given topics. Last values stay known."""
        with self._lock:
            self._resting = {key: rest for key, rest in self._resting.items() if service not in (None, key[0])}
            for key, (_at, seen) in self._seen.items():
                if _about(key, service, topics):
                    self._seen[key] = (float("-inf"), seen)

    def _keep(self, key: Hashable, seen: Seen[Any]) -> None:
        with self._lock:
            self._seen[key] = (time.monotonic(), seen)
            self._seen.move_to_end(key)
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)

    def _failed(self, service: str, key: tuple[str, Hashable, str], problem: ControlRoomError) -> Seen[Any]:
        with self._lock:
            if isinstance(problem, ServiceDown) and problem.service == service:
                # One slow question, behind which another service may be away, does not make the whole service be away.
                for health in (True, False) if _topic(key[1]) == HEALTH else (False,):
                    self._resting[service, health] = (time.monotonic(), problem)
            if problem.status < 500:
                # An answer, not an outage: "there is none" must not be covered by what there once was.
                self._seen.pop(key, None)
            return _fallen_back(self._seen.get(key), problem)


def _topic(question: Hashable) -> Hashable:
    return question[0] if isinstance(question, tuple) else question


def _fallen_back(known: tuple[float, Seen[Any]] | None, problem: ControlRoomError) -> Seen[Any]:
    return replace(known[1], problem=problem) if known else Seen(None, None, problem)


def _about(key: Any, service: str | None, topics: tuple[str, ...]) -> bool:
    name, question, _whose = key
    return service in (None, name) and (not topics or _topic(question) in topics)
