"""The work on one job: its file read once, then chunk by chunk forecast, kept and logged.

While a chunk is forecast, those before it are being written: PostgreSQL and the object store work beside XGBoost.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from api.filerows import Reading, read_rows
from api.loading import Loaded
from ml.closures import NAMES
from ml.copying import TYPES, batch
from ml.features import SERIES
from ml.jobboard import FileClaim, JobBoard
from ml.lake import Lake
from ml.records import LEVELS
from ml.store import REQUEST_ROWS

CHUNK_ROWS = REQUEST_ROWS // 2  # a chunk of whole series may be larger, and is still found whole by a replay
FORECASTERS = 2  # of chunks at once: the features of one beside the trees of the other
WRITERS = 2  # of chunks at once: one connection keeps one core of PostgreSQL busy, and it has most of the work
SOURCE = "job"
BOUNDS = tuple(f"{side}_{level}" for level in LEVELS for side in ("low", "high"))


def folder_of(job_id: str) -> str:
    """Where everything of a job lies in the lake."""
    return f"jobs/{job_id}"


def refused_key(job_id: str) -> str:
    return f"{folder_of(job_id)}/refused.parquet"


def part_key(job_id: str, number: int, kind: str = "parts") -> str:
    return f"{folder_of(job_id)}/{kind}/{number:05d}.parquet"


@dataclass(frozen=True)
class JobWork:
    """A claimed job with the model that was pinned for it. ``stopped``: asked between chunks whether to go on."""

    claim: FileClaim
    loaded: Loaded
    board: JobBoard
    lake: Lake
    stopped: Callable[[], bool] = lambda: False

    def run(self) -> bool:
        """All that is left of the job; False when it was stopped before the end.

        Raises
        ------
        RowsRefused
            The file as a whole can't be used.
        JobLost, JobCancelled, ServiceDown
        """
        chunks = self._chunks()
        if not self._worked_off(chunks):
            return False
        self._in_order(len(chunks))
        self.board.finish(self.claim)
        return True

    def _worked_off(self, chunks: list[pl.DataFrame]) -> bool:
        """Forecast and write what is not finished; False when it was stopped."""
        done = self.board.finished_chunks(self.claim.job_id)
        left = deque(number for number in range(len(chunks)) if number not in done)
        coming: deque[tuple[int, Future[pl.DataFrame]]] = deque()
        writing: deque[Future[None]] = deque()
        with (
            ThreadPoolExecutor(FORECASTERS, thread_name_prefix="forecast") as forecasters,
            ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as writers,
        ):
            while (left or coming) and not self.stopped():
                while left and len(coming) < FORECASTERS:
                    number = left.popleft()
                    coming.append((number, forecasters.submit(self._forecast, chunks[number])))
                number, forecast = coming.popleft()
                found = forecast.result()
                if len(writing) == WRITERS:
                    writing.popleft().result()
                writing.append(writers.submit(self._write, number, found))
            while writing:
                writing.popleft().result()
        return not left and not coming

    def _chunks(self) -> list[pl.DataFrame]:
        """The rows of the file, cut; what is refused is kept, and both are counted."""
        claim = self.claim
        how = Reading(claim.options, claim.mapping, claim.asked_on)
        rows = read_rows(self.loaded, self.lake.get(claim.file_key), claim.filename, how)
        self.lake.put_frame(refused_key(claim.job_id), rows.refused)
        chunks = cut(rows.good, self._whole_series)
        self.board.note_file(claim, rows=rows.good.height, refused=rows.refused.height, chunks=len(chunks))
        return chunks

    @property
    def _whole_series(self) -> bool:
        """Whether a row's answer depends on the other rows of its series: where closed days are marked."""
        return NAMES[0] in self.loaded.forecaster.manifest.features

    def _forecast(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self.loaded.forecaster.forecast(rows.drop("row")).insert_column(0, rows["row"])

    def _write(self, number: int, found: pl.DataFrame) -> None:
        """The chunk's part of the result first: what the log says is finished is there."""
        self.lake.put_frame(part_key(self.claim.job_id, number), result_rows(self.loaded, found))
        logged = log_rows(self.loaded, found, self.claim.job_id)
        self.board.finish_chunk(self.claim, number, logged.height, logged)

    def _in_order(self, chunks: int) -> None:
        """Parts of whole series are not in the order of the file: written once more, in it."""
        if not self._whole_series:
            return
        keys = [part_key(self.claim.job_id, number) for number in range(chunks)]
        rows = pl.concat([self.lake.get_frame(key) for key in keys]).sort("row") if keys else pl.DataFrame()
        for number, part in enumerate(rows.iter_slices(CHUNK_ROWS)):
            self.lake.put_frame(part_key(self.claim.job_id, number, "ordered"), part)


def cut(rows: pl.DataFrame, whole_series: bool) -> list[pl.DataFrame]:
    """Rows in chunks of about ``CHUNK_ROWS``, the same ones whenever the same rows are cut.

    ``whole_series``: no series is cut; then they are sorted by series.

    Examples
    --------
    >>> [part.height for part in cut(pl.DataFrame({"row": range(120_000)}), whole_series=False)]
    [50000, 50000, 20000]
    """
    if not whole_series:
        return list(rows.iter_slices(CHUNK_ROWS))
    rows = rows.sort(SERIES, maintain_order=True).with_row_index("at")
    rows = rows.with_columns(pl.col("at").first().over(SERIES) // CHUNK_ROWS)
    return rows.partition_by("at", maintain_order=True, include_key=False)


def result_rows(loaded: Loaded, found: pl.DataFrame) -> pl.DataFrame:
    """Forecast rows as a person gets them: plain columns, nothing nested."""
    texts = [pl.col(name).list.join(" ").alias(name) for name in ("outside", "warnings")]
    return found.select(
        "row",
        "date",
        *SERIES,
        *loaded.forecaster.inputs,
        "prediction",
        *BOUNDS,
        pl.lit(loaded.forecaster.unit).alias("unit"),
        "similar_days",
        "similar_sibling_days",
        *texts,
        pl.lit(loaded.ref.version).alias("model_version"),
        pl.lit(loaded.data_version).alias("data_version"),
    )


def log_rows(loaded: Loaded, found: pl.DataFrame, request_id: str) -> pl.DataFrame:
    """Forecast rows as they go into the log: one column per entry of ``ml.copying.TYPES``, ``inputs`` as JSON text.

    Sorted by series, as rows are that come with many others (:mod:`ml.copying`).
    """
    constant = {
        "created_at": dt.datetime.now(dt.UTC),
        "unit": loaded.forecaster.unit,
        "model_version": loaded.ref.version,
        "model_alias": loaded.ref.alias,
        "run_id": loaded.ref.run_id,
        "data_version": loaded.data_version,
        "source": SOURCE,
        "request_id": request_id,
    }
    return found.sort(SERIES).select(
        "date",
        *SERIES,
        pl.struct(loaded.forecaster.inputs).struct.json_encode().alias("inputs"),
        "prediction",
        *BOUNDS,
        "similar_days",
        pl.when(pl.col("warnings").list.len() > 0).then("warnings"),
        *(pl.lit(value, TYPES[name]).alias(name) for name, value in constant.items()),
        batch(found.height),
    )
