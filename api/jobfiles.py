"""What goes into a job and what comes out: the file as received, the result and the refused rows as files."""

from __future__ import annotations

import asyncio
import io
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import xlsxwriter
from fastapi import Request

from api.filerows import SUFFIXES
from api.jobwork import folder_of, refused_key
from api.loading import Loaded
from api.receiving import CHECKS, IN_MEMORY, raw_key, rejected_table, spooled
from api.services import Services
from ml.contract import as_plain_text
from ml.errors import Conflict, InputError, NotFound, Retired
from ml.jobboard import NewJob
from ml.lake import Lake
from ml.reading import safe_name
from ml.records import Job, Upload

ResultFormat = Literal["csv", "xlsx", "parquet"]
UNNAMED = ("application/octet-stream", "application/x-www-form-urlencoded", "")  # what clients send unasked
EXCEL_ROWS = 1_048_575  # a sheet's, below the header
PIECE = 1 << 20
NOTHING = {
    "predict": "No row of the file could be predicted: see the rejected rows.",
    "export": "No prediction fits these filters: there is nothing to download.",
}
BOM = b"\xef\xbb\xbf"


async def received(services: Services, request: Request, loaded: Loaded, filename: str, by: str) -> tuple[Job, bool]:
    """The job for the file in the body, and whether it is a new one. Raises TooLarge or InputError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in SUFFIXES and kind not in UNNAMED and not kind.startswith("multipart/"):
        raise InputError(f"The Content-Type is not one of {', '.join(SUFFIXES)}.")
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        sha256 = await spooled(request, services.settings.upload_limit_mb << 20, file)
        return await asyncio.wrap_future(CHECKS.submit(_kept, services, file, sha256, loaded, safe_name(filename), by))


def _kept(services: Services, file: IO[bytes], sha256: str, loaded: Loaded, filename: str, by: str) -> tuple[Job, bool]:
    size = file.seek(0, io.SEEK_END)
    if not size:
        raise InputError("The body is empty: send the file itself (curl --data-binary @file), or name an upload_id.")
    job_id = uuid.uuid4().hex
    new = NewJob(
        job_id=job_id,
        filename=filename,
        bytes=size,
        sha256=sha256,
        file_key=f"{folder_of(job_id)}/file/{filename}",
        model=loaded.info,
        alias=loaded.ref.alias,
        data_version=loaded.data_version,
        created_by=by,
    )
    if (known := services.board.find(new)) is not None:
        return known, False
    file.seek(0)
    services.lake.put(new.file_key, file.read())
    return _added(services, new)


def of_upload(services: Services, upload: Upload, loaded: Loaded, by: str) -> tuple[Job, bool]:
    """The job for a stored upload, read as it was told to be read."""
    new = NewJob(
        job_id=uuid.uuid4().hex,
        filename=upload.filename,
        bytes=upload.bytes,
        sha256=upload.sha256,
        file_key=raw_key(services, upload.upload_id),
        model=loaded.info,
        alias=loaded.ref.alias,
        data_version=loaded.data_version,
        created_by=by,
        upload_id=upload.upload_id,
        options=upload.options,
        mapping=upload.mapping,
    )
    known = services.board.find(new)
    return (known, False) if known is not None else _added(services, new)


def _added(services: Services, new: NewJob) -> tuple[Job, bool]:
    """Into the queue; of two that ask for the same at once, the second gets the job of the first."""
    made = services.board.add(new)
    if made is not None:
        return made, True
    if new.upload_id is None:
        services.lake.delete(new.file_key)
    known = services.board.find(new)
    if known is None:  # the other one has failed meanwhile
        raise Conflict("The same job has just ended: ask again.")
    return known, False


# ---------------------------------------------------------------- out


def result_file(
    lake: Lake, job: Job, format: ResultFormat, filters: Mapping[str, Any] | None = None
) -> Iterator[bytes]:
    """The parts of the result as one file, piece by piece; ``filters`` of an export are told in XLSX, on a sheet of
    what the workbook is.

    Raises
    ------
    Conflict
        The job isn't done, or had no row to predict.
    InputError
        More rows than a sheet of XLSX holds.
    Retired
        The result is no longer kept.
    """
    if job.state != "done":
        raise Conflict(f"This job is {job.state}{_why(job)}: there is a result once it is done.", job_id=job.job_id)
    rows = job.progress.rows_done
    if not rows:
        raise Conflict(NOTHING[job.kind], job_id=job.job_id)
    if format == "xlsx" and rows > EXCEL_ROWS:
        raise InputError(
            f"A sheet of XLSX holds {EXCEL_ROWS:,} rows below its header; this result has {rows:,}: "
            "ask for csv or parquet.",
            field="format",
        )
    keys = _parts(lake, job)
    if format == "xlsx":
        return _xlsx(lake, keys, _about(job, filters or {}))
    return {"csv": _csv, "parquet": _parquet}[format](lake, keys)


def _about(job: Job, filters: Mapping[str, Any]) -> dict[str, Any]:
    """What a workbook says of itself."""
    facts = {"job": job.job_id, "made at (UTC)": f"{job.ended_at:%Y-%m-%d %H:%M:%S}", "rows": job.progress.rows_done}
    if job.model is None:
        told = ", ".join(f"{name} = {value}" for name, value in filters.items()) or "none"
        return {"file": "logged predictions", "filters": told, **facts}
    return {"file": job.filename, "model": f"v{job.model.version}", "data version": job.data_version, **facts}


def refused_file(lake: Lake, job: Job, format: Literal["csv", "xlsx"]) -> bytes:
    """The rows that are left out, with reasons; raises Conflict before the file has been read."""
    if job.rows_refused is None:
        raise Conflict(f"This job is {job.state}{_why(job)}: its file has not been read.", job_id=job.job_id)
    try:
        return rejected_table(lake.get_frame(refused_key(job.job_id)), format)
    except NotFound as error:
        raise _gone(job) from error


def _why(job: Job) -> str:
    return f" ({job.error.rstrip('.')})" if job.error else ""


def _gone(job: Job) -> Retired:
    return Retired("The files of this job are no longer kept: send the file again.", job_id=job.job_id)


def _parts(lake: Lake, job: Job) -> list[str]:
    found = lake.list(f"{folder_of(job.job_id)}/ordered/") or lake.list(f"{folder_of(job.job_id)}/parts/")
    if len(found) < (job.progress.chunks_total or 0):
        raise _gone(job)
    return found


def _frames(lake: Lake, keys: list[str]) -> Iterator[pl.DataFrame]:
    return map(lake.get_frame, keys)


def _csv(lake: Lake, keys: list[str]) -> Iterator[bytes]:
    """UTF-8 with a byte order mark; cells that a spreadsheet would take for a formula are made text."""
    for number, frame in enumerate(_frames(lake, keys)):
        text = as_plain_text(frame).write_csv(include_header=not number).encode()
        yield text if number else BOM + text


def _parquet(lake: Lake, keys: list[str]) -> Iterator[bytes]:
    """One row group per part."""
    sink = io.BytesIO()
    writer = None
    for frame in _frames(lake, keys):
        table = frame.to_arrow()
        writer = writer or pa.parquet.ParquetWriter(_Sink(sink), table.schema, compression="zstd")
        writer.write_table(table)
        yield _taken(sink)
    if writer is not None:
        writer.close()
    yield _taken(sink)


class _Sink(io.RawIOBase):
    """Where a Parquet writer writes; it must know how far it is, while what it wrote has been sent already."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self.buffer, self.written = buffer, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.written

    def write(self, data: Any) -> int:
        self.written += self.buffer.write(data)
        return len(data)


def _taken(buffer: io.BytesIO) -> bytes:
    data = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return data


def _xlsx(lake: Lake, keys: list[str], about: Mapping[str, Any]) -> Iterator[bytes]:
    """Row by row to a temporary file: slow for a million rows, but never in memory at once."""
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with tempfile.TemporaryFile() as file:
        book = xlsxwriter.Workbook(file, {**options, "strings_to_numbers": False, "default_date_format": "yyyy-mm-dd"})
        sheet, at = book.add_worksheet("result"), 1
        sheet.freeze_panes(1, 0)
        for frame in _frames(lake, keys):
            sheet.write_row(0, 0, frame.columns) if at == 1 else None
            for cells in as_plain_text(frame).iter_rows():
                sheet.write_row(at, 0, cells)
                at += 1
        told = book.add_worksheet("about")
        facts = pl.DataFrame([(name, str(value)) for name, value in about.items()], ["what", "is"], orient="row")
        for line, cells in enumerate(as_plain_text(facts).iter_rows()):
            told.write_row(line, 0, cells)
        book.close()
        file.seek(0)
        yield from iter(lambda: file.read(PIECE), b"")
