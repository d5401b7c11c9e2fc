"""Rows in, logged answers out: forecasts of several requests at once, in the log before anyone sees them.

Requests that wait at the same moment are forecast together and written in one statement: their commits, and most of
their forecasts, cost as much as those of one. Nobody is made to wait for more to come.

Usual rows (see :mod:`ml.quick`) take the short way, a fraction of a millisecond. Others are forecast as a frame, on a
thread of their own; large requests, and dates outside the horizon, go their own way so that they delay nobody.

As long as the disk takes a record at once, few usual rows are settled where they arrive, on the loop itself: what comes
while it is busy is settled together next. Handing them to a thread and back would take longer than all of that.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson
import polars as pl

from api.columns import Told, read_columns
from api.loading import Loaded
from api.rows import CONTRACT, Form, Input
from ml.closures import NAMES
from ml.copying import Logged, LogRows
from ml.errors import ServiceDown
from ml.records import LEVELS
from ml.support import level

SMALL = 64  # rows of one request that may share a frame with others
AT_ONCE = 512  # rows that are forecast at once
FEW, ON_LOOP = 16, 64  # usual rows of a request that is settled on the loop, and how many such requests at once
LARGE_THREADS = 2
TYPES = {"date": pl.Date, "store": pl.String, "product": pl.String, "price": pl.Float64, "promotion": pl.Float64}
Found = list[dict[str, Any]]
Parts = dict[str, Any]  # an answer, as ml.records.Answer names its fields


@dataclass(frozen=True)
class QuickRows:
    """Usual rows with their positions."""

    inputs: Sequence[Input]
    places: np.ndarray

    @property
    def height(self) -> int:
        return len(self.inputs)

    @staticmethod
    def forecast(loaded: Loaded, parts: Sequence[QuickRows]) -> Found:
        assert loaded.quick is not None
        rows = [row for part in parts for row in part.inputs]
        return loaded.quick.forecast(rows, np.concatenate([part.places for part in parts]))


@dataclass(frozen=True)
class FrameRows:
    """Any rows."""

    frame: pl.DataFrame

    @property
    def height(self) -> int:
        return self.frame.height

    @staticmethod
    def forecast(loaded: Loaded, parts: Sequence[FrameRows]) -> Found:
        rows = parts[0].frame if len(parts) == 1 else pl.concat([part.frame for part in parts], how="diagonal")
        return loaded.forecaster.forecast(rows).rows(named=True)


@dataclass(frozen=True)
class Work:
    """One request: rows for one model, and who waits for the answers."""

    loaded: Loaded
    rows: QuickRows | FrameRows
    source: str
    request_id: str
    done: Future[list[Parts]] | asyncio.Future[list[Parts]] = field(default_factory=Future)


class Log(Protocol):
    """Where answers are written down, durably, before they are given. ``prompt``: that hardly takes time."""

    @property
    def prompt(self) -> bool: ...

    def log(self, rows: Sequence[Logged]) -> None: ...

    def keep(self, rows: LogRows) -> None: ...


class Line:
    """A thread that settles what waits for it, as much of it at once as belongs together."""

    def __init__(self, settle: Callable[[list[Work]], None], name: str) -> None:
        self._settle = settle
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.put = self._waiting.put
        self.start = self._thread.start

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group, following = self._gathered(first)
            self._settle(group)
            if following is not None:
                self._waiting.put(following)
        self._refuse_waiting()

    def _gathered(self, first: Work) -> tuple[list[Work], Work | None]:
        """What waits right now and fits beside ``first``; a work for another model is handed back."""
        group, rows = [first], first.rows.height
        while rows < AT_ONCE:
            try:
                other = self._waiting.get_nowait()
            except queue.Empty:
                break
            if other is None:
                self._waiting.put(None)
                break
            if other.loaded is not first.loaded:
                return group, other
            group.append(other)
            rows += other.rows.height
        return group, None

    def _refuse_waiting(self) -> None:
        while not self._waiting.empty():
            if (work := self._waiting.get()) is not None:
                work.done.set_exception(ServiceDown("api", "it is being stopped"))


class Scorer:
    """Forecasts and logs. Raises what the model or the log raise; nothing is answered that is not in the log.

    ``logged`` is told of which version and how many the rows were.
    """

    def __init__(self, log: Log, logged: Callable[[str, int], None] = lambda version, rows: None) -> None:
        self._log, self._logged = log, logged
        self._here: list[Work] = []
        self._quick, self._frames = Line(self._taken, "quick"), Line(self._taken, "scorer")
        self._large = ThreadPoolExecutor(LARGE_THREADS, thread_name_prefix="large")

    def start(self) -> None:
        self._quick.start()
        self._frames.start()

    def stop(self) -> None:
        self._quick.stop()
        self._frames.stop()
        self._large.shutdown()

    async def score(self, loaded: Loaded, inputs: Sequence[Input], source: str, request_id: str) -> list[Parts]:
        """Answers in the order of the rows, each of them in the log."""
        places = loaded.quick.places(inputs) if loaded.quick else None
        if places is not None:
            return await self.score_quick(loaded, inputs, places, source, request_id)
        return await self._scored(Work(loaded, FrameRows(frame_of(loaded, inputs)), source, request_id))

    async def score_quick(
        self, loaded: Loaded, inputs: Sequence[Input], places: np.ndarray, source: str, request_id: str
    ) -> list[Parts]:
        """As :meth:`score`, for rows whose places are known already."""
        rows = QuickRows(inputs, places)
        if rows.height > FEW or not self._log.prompt:
            return await self._scored(Work(loaded, rows, source, request_id))
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Parts]] = loop.create_future()
        if not self._here:
            loop.call_soon(self._settle_here)
        self._here.append(Work(loaded, rows, source, request_id, done))
        return await done

    async def score_now(
        self, loaded: Loaded, inputs: Sequence[Input], places: np.ndarray, source: str, request_id: str
    ) -> list[Parts]:
        """As :meth:`score_quick`, when nothing else has arrived that could be settled together with these rows."""
        if not self._log.prompt:
            return await self.score_quick(loaded, inputs, places, source, request_id)
        (found,) = self._answered([Work(loaded, QuickRows(inputs, places), source, request_id)])
        return found

    def _settle_here(self) -> None:
        """What has arrived since the loop was last free, as much of it at once as belongs together."""
        waited_for, self._here = [work for work in self._here if not work.done.cancelled()], []
        for _, group in itertools.groupby(waited_for, key=lambda work: id(work.loaded)):
            works = list(group)
            for start in range(0, len(works), ON_LOOP):
                self._settle(works[start : start + ON_LOOP])

    async def score_columns(self, loaded: Loaded, body: bytes, source: str, request_id: str) -> bytes | None:
        """The whole answer to a body of many plain and usual rows, which are in the log; None for any other body."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._large, self._columns, loaded, body, source, request_id)

    def _columns(self, loaded: Loaded, body: bytes, source: str, request_id: str) -> bytes | None:
        quick = loaded.quick
        rows = read_columns(Form.of(loaded), body) if quick else None
        if quick is None or rows is None or (places := quick.places_of(rows)) is None:
            return None
        told = Told(loaded, quick.begin_columns(rows, places), request_id, dt.datetime.now(dt.UTC))
        sent = told.sent()
        self._log.keep(told.logged(source))
        self._logged(loaded.ref.version, len(places))
        return sent

    async def score_frame(self, loaded: Loaded, rows: pl.DataFrame, source: str, request_id: str) -> list[Parts]:
        """As :meth:`score`, for rows that are a frame already."""
        return await self._scored(Work(loaded, FrameRows(rows), source, request_id))

    async def _scored(self, work: Work) -> list[Parts]:
        if work.rows.height > SMALL or not _usual(work):
            self._large.submit(self._taken, [work])
        elif isinstance(work.rows, QuickRows):
            self._quick.put(work)
        else:
            self._frames.put(work)
        assert isinstance(work.done, Future)
        return await asyncio.wrap_future(work.done)

    def _taken(self, group: list[Work]) -> None:
        """Settle what is still waited for: a caller who has gone is not answered, and not logged."""
        if waited_for := [work for work in group if _begun(work)]:
            self._settle(waited_for)

    def _settle(self, group: list[Work]) -> None:
        """Give every work of the group its answers or its error."""
        try:
            answers = self._answered(group)
        except Exception as error:
            if len(group) == 1:
                group[0].done.set_exception(error)
                return
            for work in group:  # one request's trouble is not another's
                self._settle([work])
            return
        for work, found in zip(group, answers, strict=True):
            work.done.set_result(found)

    def _answered(self, group: list[Work]) -> list[list[Parts]]:
        loaded, rows = group[0].loaded, [work.rows for work in group]
        found = type(rows[0]).forecast(loaded, rows)  # type: ignore[arg-type]
        now, start, parts = dt.datetime.now(dt.UTC), 0, []
        for work in group:
            part = found[start : start + work.rows.height]
            parts.append([answer(loaded, row, work.request_id, now) for row in part])
            start += work.rows.height
        self._log.log([Logged(a, w.source) for w, part in zip(group, parts, strict=True) for a in part])
        self._logged(loaded.ref.version, sum(map(len, parts)))
        return parts


def _begun(work: Work) -> bool:
    """Whether the caller still waits; from now on nobody can cancel the work."""
    assert isinstance(work.done, Future)
    return work.done.set_running_or_notify_cancel()


def _usual(work: Work) -> bool:
    # Beyond the horizon and in the past features are computed for the request: such rows delay nobody else's.
    if isinstance(work.rows, QuickRows):
        return True
    if NAMES[0] in work.loaded.forecaster.manifest.features:
        return False  # the days that one request closes are not closed for another
    first, last = work.loaded.usual_dates
    return bool(work.rows.frame["date"].is_between(first, last).all())


def frame_of(loaded: Loaded, rows: Sequence[Input]) -> pl.DataFrame:
    """Inputs as the frame that the forecaster takes: one type per column, null where nothing was said."""
    texts = loaded.forecaster.columns.text
    regressors = loaded.forecaster.manifest.regressors
    schema: dict[str, Any] = {name: TYPES.get(name, pl.Int8) for name in CONTRACT}
    schema |= {name: pl.String if name in texts else pl.Float64 for name in regressors}
    return pl.DataFrame(rows, schema=schema)


def answer(loaded: Loaded, row: dict[str, Any], request_id: str, created_at: dt.datetime) -> Parts:
    """One forecast row as what is logged and sent: what :meth:`ml.records.Answer.model_dump` would give.

    Not an Answer: of a thousand rows, making and writing them would take as long as forecasting them.
    """
    similar, siblings = row["similar_days"], row["similar_sibling_days"]
    return {
        "date": row["date"],
        "store": row["store"],
        "product": row["product"],
        "prediction": row["prediction"],
        "unit": loaded.forecaster.unit,
        "interval": {str(share): (row[f"low_{share}"], row[f"high_{share}"]) for share in LEVELS},
        "support": {
            "similar_days": similar,
            "level": level(similar, siblings),
            "similar_sibling_days": siblings,
            "outside": row["outside"],
        },
        "inputs": {name: row[name] for name in loaded.forecaster.inputs},
        "model": loaded.named,
        "data_version": loaded.data_version,
        "request_id": request_id,
        "created_at": created_at,
        "warnings": row["warnings"],
    }


def written(answers: Any) -> bytes:
    """Answers as the JSON that is sent."""
    return orjson.dumps(answers, option=orjson.OPT_UTC_Z)
