"""What happens to an uploaded file: kept as it came, checked, and, once accepted, turned into rows that count."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import io
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO, Literal

import polars as pl
from fastapi import Request

from api.reading import pieces
from api.services import Services
from ml.contract import Checked, rejected_csv, rejected_xlsx
from ml.errors import Conflict, InputError, NotFound
from ml.reading import safe_name
from ml.records import Mapping, Preflight, Purpose, ReadOptions, Upload
from ml.sidetable import check_upload
from ml.sources import put_accepted

IN_MEMORY = 16 << 20  # bytes of a body that stay in memory while it arrives; more goes to a temporary file
RECOGNISED: tuple[Purpose, ...] = ("training", "attributes")  # what a file may be whose purpose nobody gave
CHECKS = ThreadPoolExecutor(2, thread_name_prefix="check")  # a check holds its whole file in memory


async def receive(services: Services, request: Request, filename: str, purpose: Purpose | None) -> Upload:
    """Read the body, keep it in the lake, check it and record it. A known file changes nothing.

    ``purpose`` None: recognised from what the file holds."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        sha256 = await spooled(request, services.settings.upload_limit_mb << 20, file)
        work = CHECKS.submit(_kept, services, file, sha256, safe_name(filename), purpose)
        return await asyncio.wrap_future(work)


async def spooled(request: Request, limit: int, file: IO[bytes]) -> str:
    """Write the body to a file as it arrives; returns its SHA-256. Raises TooLarge, and InputError for a form."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise InputError("Send the file itself as the body (curl --data-binary @file), not a form.", field="body")
    digest = hashlib.sha256()
    async for piece in pieces(request, limit):
        digest.update(piece)
        file.write(piece)
    return digest.hexdigest()


def _kept(services: Services, file: IO[bytes], sha256: str, filename: str, purpose: Purpose | None) -> Upload:
    for possible in RECOGNISED if purpose is None else (purpose,):
        known = services.store.find_upload(sha256, possible)
        if known is not None:
            return known.model_copy(update={"duplicate_of": known.upload_id})
    file.seek(0)
    data = file.read()
    preflight = check_upload(data, filename, purpose=purpose, known=_sold(services)).preflight
    upload_id = uuid.uuid4().hex
    services.lake.put(f"raw/{upload_id}/{filename}", data)
    made = Upload(
        upload_id=upload_id,
        filename=filename,
        bytes=len(data),
        sha256=sha256,
        status="received",
        purpose=preflight.purpose,
        created_at=dt.datetime.now(dt.UTC),
        preflight=preflight,
    )
    return services.store.add_upload(made)


def checked_again(services: Services, upload_id: str, options: ReadOptions, mapping: Mapping | None) -> Upload:
    """Read an upload with other options; raises Conflict once it is accepted."""
    upload = services.store.upload(upload_id)
    if upload.status in ("accepted", "processed"):
        raise Conflict("This upload is accepted already: its reading can't be changed any more.")
    changed = upload.model_copy(update={"options": options, "mapping": mapping})
    changed = changed.model_copy(update={"preflight": _checked(services, changed).preflight})
    services.store.save_upload(changed)
    return changed


def accepted(services: Services, upload_id: str) -> Upload:
    """Write the rows that count and those left out, then say so; a second time changes nothing."""
    upload = services.store.upload(upload_id)
    if upload.status in ("accepted", "processed"):
        return upload
    if upload.purpose == "predict":
        raise Conflict("This file is to be predicted: there is nothing to accept in it.")
    _refuse_unusable(upload.preflight)
    checked = _checked(services, upload)
    _refuse_unusable(checked.preflight)
    put_accepted(services.lake, upload_id, checked)
    services.store.set_upload_status([upload_id], "accepted")
    return services.store.upload(upload_id)


def rejected_file(services: Services, upload_id: str, format: Literal["csv", "xlsx"]) -> bytes:
    """The rows left out, with reasons, as they are now read; as they were at acceptance when the file is gone."""
    upload, kept = services.store.upload(upload_id), f"rejected/{upload_id}.parquet"
    if not services.lake.list(f"raw/{upload_id}/") and services.lake.exists(kept):
        return rejected_table(services.lake.get_frame(kept), format)
    return rejected_table(_checked(services, upload).rejected, format)


def rejected_table(rows: pl.DataFrame, format: Literal["csv", "xlsx"]) -> bytes:
    return rejected_csv(rows) if format == "csv" else rejected_xlsx(rows)


def _checked(services: Services, upload: Upload) -> Checked:
    data = services.lake.get(raw_key(services, upload.upload_id))
    how = partial(check_upload, options=upload.options, mapping=upload.mapping, purpose=upload.purpose)
    return CHECKS.submit(how, data, upload.filename, known=_sold(services)).result()


def raw_key(services: Services, upload_id: str) -> str:
    """Where the file of an upload lies as it came; raises NotFound once it is no longer kept."""
    keys = services.lake.list(f"raw/{upload_id}/")
    if not keys:
        raise NotFound("The file of this upload is no longer in the lake.", upload_id=upload_id)
    return keys[0]


def _sold(services: Services) -> pl.DataFrame | None:
    """Stores and products of the published sales, which a table of attributes is compared with."""
    published = services.published.current
    if published is None:
        return None
    keys = [(series.store, series.product) for series in published.series]
    return pl.DataFrame(keys, schema={"store": pl.String, "product": pl.String}, orient="row")


def _refuse_unusable(preflight: Preflight) -> None:
    if preflight.verdict == "REJECT":
        reasons = [finding.message for finding in preflight.findings if finding.severity == "reject"]
        raise Conflict(f"The file can't be used: {reasons[0] if reasons else 'see its findings'}")
    if not preflight.rows_used:
        raise Conflict(
            f"None of the {preflight.rows_total} rows of the file can be used, so there is nothing to accept: correct "
            "the rows that are listed with their reasons and upload it again.",
            rows_rejected=preflight.rows_rejected,
        )


def template(format: Literal["csv", "xlsx"]) -> bytes:
    """Two products over two weeks, with everything that a file may hold."""
    days = [dt.date(2026, 1, 5) + dt.timedelta(days=i) for i in range(14)]
    rows = [_example(day, *product) for day in days for product in (("P001", 12, 9.95), ("P002", 5, 24.5))]
    buffer = io.BytesIO()
    frame = pl.DataFrame(rows)
    if format == "csv":
        frame.write_csv(buffer)
    else:
        frame.write_excel(buffer, worksheet="sales")
    return buffer.getvalue()


def _example(day: dt.date, product: str, usual: int, price: float) -> dict[str, object]:
    promoted = day.weekday() == 4
    return {
        "date": day,
        "store": "S01",
        "product": product,
        "sales": usual + day.weekday() + (usual if promoted else 0),
        "price": round(price * (0.9 if promoted else 1), 2),
        "promotion": int(promoted),
        "holiday": int(day == dt.date(2026, 1, 6)),
    }
