"""Many logged predictions in a file: as CSV written while it is sent, or as a job of a worker."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from api.jobwork import BOUNDS, part_key
from ml.jobboard import ExportClaim, JobBoard
from ml.lake import Lake
from ml.records import LEVELS, HistoryItem
from ml.store import EXPORTED

COLUMNS = tuple(EXPORTED)
PLAIN = tuple(name for name in COLUMNS if name not in (*BOUNDS, "inputs"))
TOGETHER = 500  # rows that are sent at once
CHUNK_IDS = 50_000  # rows of the log that one part is taken from, whether they fit or not


@dataclass(frozen=True)
class ExportWork:
    """A claimed export. ``stopped``: asked between parts whether to go on.

    A part holds what fits of a fixed stretch of the log, counted back from the row that was the newest when the export
    was asked for: the same rows in the same part, whoever goes on with it.
    """

    claim: ExportClaim
    board: JobBoard
    lake: Lake
    stopped: Callable[[], bool] = lambda: False

    def run(self) -> bool:
        """All that is left; False when it was stopped before the end. Raises JobLost, JobCancelled or ServiceDown."""
        claim, store = self.claim, self.board.store
        rows, first = store.history_extent(claim.wanted, claim.newest)
        ends = range(claim.newest, first - 1, -CHUNK_IDS)
        self.board.note_file(claim, rows=rows, refused=0, chunks=len(ends))
        done = self.board.finished_chunks(claim.job_id)
        for number, last in enumerate(ends):
            if number in done:
                continue
            if self.stopped():
                return False
            found = store.history_frame(claim.wanted, max(first, last - CHUNK_IDS + 1), last)
            self.lake.put_frame(part_key(claim.job_id, number), found)
            self.board.finish_chunk(claim, number, found.height)
        self.board.finish(claim)
        return True


def as_csv(items: Iterator[HistoryItem]) -> Iterator[str]:
    """Pieces of the file, the headings first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for number, item in enumerate(items, 1):
        writer.writerow(_cells(item))
        if number % TOGETHER == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _cells(item: HistoryItem) -> list[Any]:
    bounds = [item.interval.get(str(level), (None, None))[side] for level in LEVELS for side in (0, 1)]
    return [*(getattr(item, name) for name in PLAIN), *bounds, json.dumps(item.inputs, ensure_ascii=False)]


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
