"""Answers on this machine's disk before anyone sees them, and soon after in PostgreSQL, each exactly once.

An answer is acknowledged when it is synced here (:mod:`api.journal`); several at a time then go into the log with one
COPY. While the database is away they wait. After a connection broke, or a process ended, nobody can say whether the log
took the last ones: those that it turns out to have are left out. Before the log is read, what waits is put into it.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import orjson

from api.journal import Segment
from ml.copying import WRITTEN, Layout, Logged, LogRows, log_rows
from ml.errors import InputError, ServiceDown
from ml.records import Answer
from ml.store import Store

GATHER_SECONDS = 0.05  # what is answered meanwhile goes into the log at once
AWAY_SECONDS = 1.0  # after the log refused rows, so long it is not asked again
LOOK_SECONDS = 2.0  # how often what other processes have left is looked for
SETTLE_SECONDS = 2.0  # how long a reader waits for a log that takes its time
PROMPT_SECONDS = 0.005  # a sync that takes longer is not waited for on the loop that serves everybody
SEGMENT_BYTES = 8 << 20
MOST_BYTES = 256 << 20  # of all segments: half a million rows
SUFFIX = ".journal"

log = logging.getLogger("api")


class Spool:
    """Keeps and drains; safe to use from several threads, and folders may be shared by processes."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._segments: list[Segment] = []  # all that are ours, with what waits in them
        self._open: Segment | None = None  # the one that is written to
        self._writing, self._draining = threading.Lock(), threading.Lock()
        self._sure = True  # that the log has none of what waits
        self._sync_seconds = 0.0
        self._look_at = self._away_until = 0.0
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        with suppress(ServiceDown):  # it is looked for again
            self._find()
        with suppress(OSError), self._writing:  # what the disk does not take is said when there is an answer for it
            self._open = self._made(SEGMENT_BYTES)
            self._made(SEGMENT_BYTES)
        self._thread.start()

    def stop(self) -> None:
        """What the log does not take now is left to the next process."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        with suppress(ServiceDown):
            self.drain()
        with self._writing:
            for segment in self._segments:
                segment.close() if segment.waiting else segment.remove()
            self._segments, self._open = [], None

    # -- rows in

    @property
    def prompt(self) -> bool:
        """Whether the disk is so fast that waiting for it keeps nobody."""
        return self._sync_seconds < PROMPT_SECONDS

    def log(self, rows: Sequence[Logged]) -> None:
        """As :meth:`keep`, for answers."""
        self.keep(log_rows(rows))

    def keep(self, rows: LogRows) -> None:
        """Onto the disk, or where that takes nothing into the log: durable on return.

        Raises
        ------
        ServiceDown
            Neither takes them.
        """
        try:
            self._append(orjson.dumps([rows.keys, rows.rows]) + b"\n" + rows.data)
        except OSError as error:
            self._put_directly(rows, error.strerror or str(error))

    def _append(self, record: bytes) -> None:
        with self._writing:
            segment = self._room(len(record))
            begin = time.perf_counter()
            try:
                segment.append(record)
            except OSError:
                self._open = None  # nobody knows what it holds behind its end
                raise
            self._sync_seconds += (time.perf_counter() - begin - self._sync_seconds) / 8
        self._wake.set()

    def _room(self, length: int) -> Segment:
        """A segment that the record fits into."""
        now = self._open
        if now is not None and not now.waiting:
            now.rewind()
        if now is None or not now.fits(length):
            free = (s for s in self._segments if not s.found and not s.waiting and s is not now)
            now = self._open = next((s for s in free if s.fits(length)), None) or self._made(
                max(SEGMENT_BYTES, length + 64)
            )
        return now

    def _made(self, room: int) -> Segment:
        if sum(segment.size for segment in self._segments) + room > MOST_BYTES:
            raise OSError(None, f"{MOST_BYTES >> 20} MB wait already")
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}{SUFFIX}"
        segment = Segment.make(self.folder / name, room, orjson.dumps(WRITTEN._asdict()))
        self._segments.append(segment)
        return segment

    def _put_directly(self, rows: LogRows, reason: str) -> None:
        log.warning("this machine's disk takes no answers (%s): they go into the log one by one", reason)
        try:
            self.store.log_rows([rows])
        except ServiceDown as error:
            raise ServiceDown(
                "prediction log", f"the database is away, and this machine's disk takes nothing ({reason})"
            ) from error

    # -- rows out

    def waiting(self) -> int:
        """How many batches wait, as one answers them together."""
        return sum(segment.waiting for segment in self._segments)

    def waiting_bytes(self) -> int:
        return sum(segment.end - segment.taken for segment in self._segments)

    @property
    def behind(self) -> bool:
        """Whether what waits does so because the log did not take it."""
        return not self._sure and self.waiting() > 0

    def settle(self) -> None:
        """Before the log is read: what was answered until now is in it, unless it is away or takes very long."""
        if not self.waiting() or time.monotonic() < self._away_until:
            return
        if self._draining.acquire(timeout=SETTLE_SECONDS):
            try:
                with suppress(ServiceDown):  # whoever reads will see that for himself
                    self._drain()
            finally:
                self._draining.release()

    def drain(self) -> int:
        """Put what waits into the log, what other processes have left included; how many rows that were.

        Raises ServiceDown, and then what waits still waits.
        """
        with self._draining:
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + LOOK_SECONDS
                self._find()
            return self._drain()

    def _find(self) -> None:
        known = {segment.path for segment in self._segments}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path not in known and (segment := Segment.left(path)) is not None:
                if segment.waiting:
                    log.warning("%d batches of answers were left by a process that ended", segment.waiting)
                with self._writing:
                    self._segments.append(segment)

        self._take_over()

    def _take_over(self) -> None:
        """Put into the log what versions before this one kept, a file of JSON lines for each request."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                count = self.store.log_missing([log_rows([_logged(line) for line in file.read().splitlines()])])
                path.unlink(missing_ok=True)
                log.warning("%d answers of an earlier version's spool are in the log now", count)

    def _drain(self) -> int:
        rows = 0
        for segment in list(self._segments):
            with self._writing:
                start, end = segment.taken, segment.end
            records, whole = segment.read(start, end) if start < end else ([], True)
            if records:
                rows += self._put(segment, [_batch(record) for record in records])
            with self._writing:
                if records:
                    segment.take(len(records), end)
                self._give_back(segment) if whole else self._set_file_aside(segment)
        self._sure = True
        return rows

    def _give_back(self, segment: Segment) -> None:
        """Keep room for the next records, but not all that a bad time has needed."""
        spare = [s for s in self._segments if not s.waiting and s is not self._open]
        if segment in spare and (segment.found or segment.size > SEGMENT_BYTES + (1 << 20) or len(spare) > 1):
            self._segments.remove(segment)
            segment.remove()
        elif segment in spare:
            segment.rewind()

    def _set_file_aside(self, segment: Segment) -> None:
        """What it still holds cannot be read any more: nobody writes behind it, and a person is told."""
        self._segments.remove(segment)
        self._open = None if segment is self._open else self._open
        log.error("answers on the disk have been damaged there; their file is kept: %s", segment.set_aside())

    def _put(self, segment: Segment, batches: Sequence[LogRows]) -> int:
        """Into the log; how many rows it did not have yet. What it refuses for good is set aside and keeps no other."""
        layout = _layout(segment)
        try:
            if segment.found or not self._sure:
                return self.store.log_missing(batches, layout)
            return self.store.log_rows(batches, layout)
        except InputError as error:
            if len(batches) > 1:
                return sum(self._put(segment, [batch]) for batch in batches)
            self._set_aside(batches[0], layout, error)
            return 0
        except Exception as error:
            if self._sure:
                log.warning("%s; answers wait on the disk", error)
            self._sure, self._away_until = False, time.monotonic() + AWAY_SECONDS
            raise

    def _set_aside(self, batch: LogRows, layout: Layout, error: InputError) -> None:
        path = self.folder / f"refused-{uuid.uuid4().hex}.copy"
        path.write_bytes(layout.stream([batch]))
        log.error("the log refuses %d answers (%s); they are kept in %s", batch.rows, error, path)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._wake.wait(LOOK_SECONDS):
                self._stop.wait(GATHER_SECONDS)
            self._wake.clear()
            try:
                self.drain()
            except ServiceDown:
                self._stop.wait(AWAY_SECONDS)
                self._wake.set()
            except Exception:
                log.exception("what waits on the disk cannot be put into the log")
                self._stop.wait(AWAY_SECONDS)


def _logged(line: bytes) -> Logged:
    found = orjson.loads(line)
    return Logged(Answer.model_validate_json(orjson.dumps(found["answer"])), found["source"])


def _layout(segment: Segment) -> Layout:
    """What its records are; before there was a binary form only the columns were named."""
    found = orjson.loads(segment.label)
    return Layout(**found) if isinstance(found, dict) else Layout(found, binary=False)


def _batch(record: bytes) -> LogRows:
    """``[keys, rows]`` and the data; of text only the keys were kept, for its rows are its lines."""
    told, _, data = record.partition(b"\n")
    found = orjson.loads(told)
    keys, rows = found if isinstance(found[-1], int) else (found, data.count(b"\n"))
    return LogRows([(request_id, created_at) for request_id, created_at in keys], rows, data)
