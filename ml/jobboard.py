"""Long work in PostgreSQL: what is asked, who works on it, and which chunks are finished for good.

A worker *claims* a job for the length of a lease, which it renews while it lives; a job whose lease has ended is
claimed by the next. A chunk's predictions go into the log in the transaction that marks the chunk finished, and only
while the job is still the worker's: no row is there twice, whoever was killed when. Times are the database's own.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ml.errors import Conflict, ControlRoomError, NotFound
from ml.records import Job, JobKind, JobProgress, JobState, Mapping, ModelInfo, ModelRef, ReadOptions
from ml.store import HistoryFilter, Store, copy_predictions, job_chunks, job_table, job_workers, note_cause

ACTIVE: tuple[JobState, ...] = ("queued", "running")
LEFT: tuple[JobState, ...] = ("failed", "cancelled")  # the same file may be asked for again
ALIVE_SECONDS = 20.0  # a worker says every few seconds that it lives
FORGOTTEN = dt.timedelta(days=1)
MAX_ATTEMPTS = 10  # claims in a row without a finished chunk: the file kills its workers

_now = sa.func.now()
_c = job_table.c
_FILTERS = TypeAdapter(HistoryFilter)


@dataclass(frozen=True)
class NewJob:
    """What is asked: a file in the lake, how to read it, and the versions that answer."""

    job_id: str
    filename: str
    bytes: int
    sha256: str
    file_key: str
    model: ModelInfo
    alias: str | None
    data_version: str
    created_by: str
    upload_id: str | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    mapping: Mapping | None = None

    @property
    def reading(self) -> dict[str, Any]:
        mapping = None if self.mapping is None else self.mapping.model_dump(mode="json")
        return {"options": self.options.model_dump(mode="json"), "mapping": mapping}


@dataclass(frozen=True)
class NewExport:
    """What is asked: the logged predictions that fit, up to the row ``newest``."""

    job_id: str
    wanted: HistoryFilter
    newest: int
    created_by: str


@dataclass(frozen=True)
class Claim:
    """A job that is a worker's for now."""

    job_id: str
    worker: str
    cancelling: bool
    attempts: int


@dataclass(frozen=True)
class FileClaim(Claim):
    """A file is to be predicted."""

    file_key: str
    filename: str
    options: ReadOptions
    mapping: Mapping | None
    model: ModelInfo
    alias: str | None
    data_version: str
    asked_on: dt.date


@dataclass(frozen=True)
class ExportClaim(Claim):
    """Logged predictions are to be written into a file."""

    wanted: HistoryFilter
    newest: int


@dataclass(frozen=True)
class Queue:
    """How many jobs wait and run, and how many workers are alive."""

    queued: int
    running: int
    workers: int


class JobLost(Exception):
    """The job is another worker's by now, or ended: what was done since the last finished chunk counts for nothing."""


class JobCancelled(Exception):
    """Somebody wants the job to end here."""


class JobBoard:
    """The jobs in the application's database. Every method raises ServiceDown when that is away."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- asked by people

    def find(self, new: NewJob) -> Job | None:
        """The job for the same file, reading and versions, unless it has failed or was cancelled."""
        same = (
            _c.sha256 == new.sha256,
            _c.reading == new.reading,
            _c.model_version == new.model.version,
            _c.data_version == new.data_version,
            _c.state.not_in(LEFT),
        )
        with self.store.begin() as connection:
            row = connection.execute(sa.select(job_table).where(*same)).mappings().one_or_none()
        return None if row is None else _job(row)

    def add(self, new: NewJob) -> Job | None:
        """Put a job at the end of the queue; None when the same one is there already."""
        values = {
            "job_id": new.job_id,
            "state": "queued",
            "filename": new.filename,
            "bytes": new.bytes,
            "sha256": new.sha256,
            "upload_id": new.upload_id,
            "file_key": new.file_key,
            "reading": new.reading,
            "model": json.loads(new.model.model_dump_json()),
            "model_version": new.model.version,
            "model_alias": new.alias,
            "data_version": new.data_version,
            "created_at": _now,
            "created_by": new.created_by,
        }
        statement = pg_insert(job_table).values(**values).on_conflict_do_nothing().returning(job_table)
        with self.store.begin() as connection:
            row = connection.execute(statement).mappings().one_or_none()
            note_cause(connection, f"job-{new.job_id}")
        return None if row is None else _job(row)

    def add_export(self, new: NewExport) -> tuple[Job, bool]:
        """Put an export at the end of the queue; False with the one that is worked on for the same person and filters.

        One that is done is not given again: actual sales may have come since.
        """
        filters = _FILTERS.dump_python(new.wanted, mode="json", exclude_none=True)
        sha256 = hashlib.sha256(json.dumps(filters, sort_keys=True).encode()).hexdigest()
        values = {
            "job_id": new.job_id,
            "kind": "export",
            "state": "queued",
            "filename": "predictions",
            "bytes": 0,
            "sha256": sha256,
            "file_key": "",
            "reading": {"filters": filters, "newest": new.newest},
            "created_at": _now,
            "created_by": new.created_by,
        }
        same = (_c.kind == "export", _c.sha256 == sha256, _c.created_by == new.created_by, _c.state.in_(ACTIVE))
        with self.store.begin() as connection:
            known = connection.execute(sa.select(job_table).where(*same).limit(1)).mappings().one_or_none()
            if known is not None:
                return _job(known), False
            row = connection.execute(sa.insert(job_table).values(**values).returning(job_table)).mappings().one()
            note_cause(connection, f"job-{new.job_id}")
        return _job(row), True

    def filters(self, job_id: str) -> dict[str, Any]:
        """What an export was asked for, by the names of the filters; none for any other job."""
        with self.store.begin() as connection:
            reading = connection.scalar(sa.select(_c.reading).where(_c.job_id == job_id)) or {}
        return dict(reading.get("filters", {}))

    def jobs(self, limit: int = 100, kind: JobKind | None = None) -> list[Job]:
        """Newest first."""
        query = sa.select(job_table).order_by(_c.created_at.desc(), _c.job_id.desc()).limit(limit)
        if kind is not None:
            query = query.where(_c.kind == kind)
        with self.store.begin() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        with self.store.begin() as connection:
            row = connection.execute(sa.select(job_table).where(_c.job_id == job_id)).mappings().one_or_none()
        if row is None:
            raise NotFound("There is no job with this id.", job_id=job_id)
        return _job(row)

    def cancel(self, job_id: str) -> Job:
        """End a job that waits at once, one that is worked on after its present chunk; raises Conflict when it ended.

        Finished chunks stay in the log.
        """
        idle = sa.or_(_c.state == "queued", _c.lease_until < _now)
        values = {
            "cancelling": True,
            "state": sa.case((idle, "cancelled"), else_=_c.state),
            "ended_at": sa.case((idle, _now), else_=None),
        }
        mine = sa.and_(_c.job_id == job_id, _c.state.in_(ACTIVE))
        with self.store.begin() as connection:
            row = connection.execute(sa.update(job_table).where(mine).values(**values).returning(job_table)).mappings()
            found = row.one_or_none()
        if found is None:
            raise Conflict(f"This job is {self.job(job_id).state}: there is nothing to cancel.", job_id=job_id)
        return _job(found)

    def queue(self) -> Queue:
        counts = [sa.select(sa.func.count()).where(_c.state == state).scalar_subquery() for state in ACTIVE]
        alive = job_workers.c.seen_at > _now - dt.timedelta(seconds=ALIVE_SECONDS)
        workers = sa.select(sa.func.count()).select_from(job_workers).where(alive).scalar_subquery()
        with self.store.begin() as connection:
            found = connection.execute(sa.select(*counts, workers)).one()
        return Queue(*(int(count) for count in found))

    # -- asked by workers

    def beat(self, worker: str, lease: float) -> None:
        """Say that a worker lives, and renew the lease of what it works on."""
        mine = sa.and_(_c.worker == worker, _c.state == "running")
        seen = pg_insert(job_workers).values(worker=worker, started_at=_now, seen_at=_now)
        with self.store.begin() as connection:
            connection.execute(seen.on_conflict_do_update(index_elements=["worker"], set_={"seen_at": _now}))
            connection.execute(sa.update(job_table).where(mine).values(lease_until=_until(lease)))

    def leave(self, worker: str) -> None:
        """A worker ends; those that were killed long ago are forgotten too."""
        gone = sa.or_(job_workers.c.worker == worker, job_workers.c.seen_at < _now - FORGOTTEN)
        with self.store.begin() as connection:
            connection.execute(sa.delete(job_workers).where(gone))

    def claim(self, worker: str, lease: float) -> Claim | None:
        """The oldest job that nobody works on, for the length of the lease; None when there is none."""
        free = sa.and_(_c.state.in_(ACTIVE), sa.or_(_c.lease_until.is_(None), _c.lease_until < _now))
        first = sa.select(_c.job_id).where(free).order_by(_c.created_at, _c.job_id).limit(1)
        values = {
            "state": "running",
            "worker": worker,
            "lease_until": _until(lease),
            "attempts": _c.attempts + 1,
            "started_at": sa.func.coalesce(_c.started_at, _now),
        }
        chosen = _c.job_id == first.with_for_update(skip_locked=True).scalar_subquery()
        with self.store.begin() as connection:
            row = connection.execute(sa.update(job_table).where(chosen).values(**values).returning(job_table))
            found = row.mappings().one_or_none()
        return None if found is None else _claim(found)

    def finished_chunks(self, job_id: str) -> frozenset[int]:
        query = sa.select(job_chunks.c.number).where(job_chunks.c.job_id == job_id)
        with self.store.begin() as connection:
            return frozenset(connection.scalars(query))

    def note_file(self, claim: Claim, *, rows: int, refused: int, chunks: int) -> None:
        """How many rows will be predicted and how many are refused; raises JobLost or JobCancelled."""
        with self.store.begin() as connection:
            row = _updated(connection, claim, rows_total=rows, rows_refused=refused, chunks_total=chunks)
        if row["cancelling"]:
            raise JobCancelled

    def finish_chunk(self, claim: Claim, number: int, rows: int, logged: pl.DataFrame | None = None) -> None:
        """Its predictions, if it has made any, into the log and the chunk marked finished, or neither.

        Raises
        ------
        JobLost
            Nothing was written.
        JobCancelled
            It was written; nothing more shall be.
        """
        values = {"job_id": claim.job_id, "number": number, "rows": rows, "finished_at": _now}
        done = {"rows_done": _c.rows_done + rows, "chunks_done": _c.chunks_done + 1}
        with self.store.begin() as connection:
            if logged is not None:
                copy_predictions(connection.connection.cursor(), logged)
            # Last, for it holds the job's row, which a person may want to cancel.
            row = _updated(connection, claim, **done, attempts=0, error=None, error_code=None)
            connection.execute(sa.insert(job_chunks).values(**values))
        if row["cancelling"]:
            raise JobCancelled

    def finish(self, claim: Claim) -> None:
        """All chunks are done; raises JobLost."""
        state = sa.case((_c.cancelling, "cancelled"), else_="done")
        self._end(claim, state=state, error=None, error_code=None)

    def cancelled(self, claim: Claim) -> None:
        self._end(claim, state="cancelled")

    def fail(self, claim: Claim, error: ControlRoomError) -> None:
        self._end(claim, state="failed", error_code=error.code, error=str(error))

    def release(self, claim: Claim, after: float = 0.0, waits_for: ControlRoomError | None = None) -> None:
        """Back into the queue, to be claimed again after so many seconds; the worker is not to blame."""
        why = {} if waits_for is None else {"error_code": waits_for.code, "error": str(waits_for)}
        again = {"state": "queued", "worker": None, "lease_until": _until(after), "attempts": 0}
        with self.store.begin() as connection:
            _updated(connection, claim, **again, **why)

    def _end(self, claim: Claim, **values: Any) -> None:
        with self.store.begin() as connection:
            _updated(connection, claim, ended_at=_now, lease_until=None, **values)


def _until(seconds: float) -> Any:
    return _now + dt.timedelta(seconds=seconds)


def _updated(connection: sa.Connection, claim: Claim, **values: Any) -> sa.RowMapping:
    """Change a job that is the worker's; raises JobLost when it is not."""
    mine = sa.and_(_c.job_id == claim.job_id, _c.worker == claim.worker, _c.state == "running")
    statement = sa.update(job_table).where(mine).values(**values).returning(job_table)
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise JobLost(f"Job {claim.job_id} is not this worker's any more.")
    return row


def _claim(row: sa.RowMapping) -> Claim:
    reading = row["reading"]
    claim = {name: row[name] for name in ("job_id", "worker", "cancelling", "attempts")}
    if row["kind"] == "export":
        return ExportClaim(**claim, wanted=_FILTERS.validate_python(reading["filters"]), newest=reading["newest"])
    return FileClaim(
        **claim,
        file_key=row["file_key"],
        filename=row["filename"],
        options=ReadOptions.model_validate(reading["options"]),
        mapping=None if reading["mapping"] is None else Mapping.model_validate(reading["mapping"]),
        model=ModelInfo.model_validate(row["model"]),
        alias=row["model_alias"],
        data_version=row["data_version"],
        asked_on=row["created_at"].date(),
    )


def _job(row: sa.RowMapping) -> Job:
    model, ref = row["model"], None
    if model is not None:
        facts = {name: model[name] for name in ("name", "run_id")}
        ref = ModelRef(**facts, version=row["model_version"], alias=row["model_alias"])
    names = (name for name in Job.model_fields if name in row and name != "model")
    return Job(**{name: row[name] for name in names}, model=ref, progress=_progress(row))


def _progress(row: sa.RowMapping) -> JobProgress:
    names = ("rows_done", "rows_total", "chunks_done", "chunks_total")
    share = 1.0 if row["state"] == "done" else row["rows_done"] / (row["rows_total"] or 1)
    return JobProgress(**{name: row[name] for name in names}, share=share)
