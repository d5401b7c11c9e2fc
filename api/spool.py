"""Answers that PostgreSQL could not take, on this machine's disk until it can: acknowledged means written down.

A batch is a file of its own, written beside, synced and renamed, so it is there whole or not at all. What waits is put
into the log in the order in which it was answered; rows that the log turns out to have are left out, for after a
connection broke nobody can say whether it took them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from ml.errors import ServiceDown
from ml.records import Answer
from ml.store import Logged, Store

DRAIN_SECONDS = 2.0
AWAY_SECONDS = 1.0  # after the log refused rows, so long the next ones go to disk without asking it
FILES_AT_ONCE = 200  # in one transaction
LOCK, WAITING = "lock", "*.jsonl"

log = logging.getLogger("api")


class Spool:
    """Keeps and drains; safe to use from several threads, and folders may be shared by processes."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._away_until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    # -- rows in

    def log(self, rows: Sequence[Logged]) -> None:
        """Into the log, or where it is away onto the disk: durable on return.

        Raises
        ------
        ServiceDown
            Neither takes them.
        """
        if time.monotonic() >= self._away_until:
            try:
                return self.store.log_predictions(rows)
            except ServiceDown as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("%s; answers wait on the disk", error)
        self._keep(rows)

    def _keep(self, rows: Sequence[Logged]) -> None:
        lines = (orjson.dumps({"source": row.source, "answer": row.parts}) for row in rows)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        draft = self.folder / f".{name}.new"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(b"\n".join(lines))
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.folder / f"{name}.jsonl")
            self._sync_folder()
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            reason = f"the database is away, and this machine's disk takes nothing ({error.strerror})"
            raise ServiceDown("prediction log", reason) from error

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    # -- rows out

    def waiting(self) -> int:
        """How many batches wait."""
        return sum(1 for _ in self.folder.glob(WAITING))

    def drain(self) -> int:
        """Put what waits into the log; how many rows that were. Raises ServiceDown, and then what waits still waits."""
        count = 0
        with self._alone() as mine:
            files = sorted(self.folder.glob(WAITING)) if mine else []
            for begin in range(0, len(files), FILES_AT_ONCE):
                some = files[begin : begin + FILES_AT_ONCE]
                count += self.store.log_missing([row for path in some for row in _rows(path)])
                for path in some:  # a crash before this: the log has the rows, and leaves them out the next time
                    path.unlink()
        return count

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process may drain now; another one that does is not waited for."""
        if not self.folder.is_dir():
            yield False
            return
        with (self.folder / LOCK).open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _run(self) -> None:
        while not self._stop.wait(DRAIN_SECONDS):
            try:
                if count := self.drain():
                    log.warning("%d answers that had waited on the disk are in the log", count)
            except ServiceDown:
                continue
            except Exception:
                log.exception("what waits on the disk cannot be put into the log")


def _rows(path: Path) -> Iterator[Logged]:
    for line in path.read_bytes().splitlines():
        found = orjson.loads(line)
        yield Logged(Answer.model_validate_json(orjson.dumps(found["answer"])), found["source"])
