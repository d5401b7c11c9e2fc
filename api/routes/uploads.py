"""Files that bring sales in: received, checked, accepted."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from api.auth import needs
from api.deps import ServicesDep, StoreDep, Table, UploadId
from api.openapi import UPLOAD, XLSX, json_body
from api.receiving import accepted, checked_again, receive, rejected_file, template
from api.strict import body_of
from ml.records import Mapping, Purpose, ReadOptions, Upload

router = APIRouter(prefix="/v1", tags=["uploads"])
MEDIA = {"csv": "text/csv; charset=utf-8", "xlsx": XLSX}


class Reading(BaseModel):
    """How the file is to be read; what is left out is detected."""

    model_config = ConfigDict(extra="forbid")

    options: ReadOptions = ReadOptions()
    mapping: Mapping | None = None


ReadingBody = Annotated[Reading, body_of(Reading)]


class Uploads(BaseModel):
    items: list[Upload]


@router.post(
    "/uploads",
    dependencies=needs("planner"),
    status_code=201,
    summary="Bring a file in",
    responses={200: {"model": Upload, "description": "Known already: see `duplicate_of`"}},
    **UPLOAD,
)
async def upload(
    request: Request,
    response: Response,
    services: ServicesDep,
    filename: Annotated[str, Query(min_length=1, max_length=255)],
    purpose: Annotated[Purpose | None, Query()] = None,
) -> Upload:
    """The file itself is the body (`curl --data-binary @sales.csv`). The answer says what was seen in it; nothing
    counts as data before it is accepted. A file that is known already is answered by 200 and its first upload.

    Purposes: `training` (sales), `attributes` (one row per store, per product or per product in a store, with what
    describes them) and `predict`; left out, the first two are told apart by what is in the file."""
    received = await receive(services, request, filename, purpose)
    response.status_code = 200 if received.duplicate_of else 201
    response.headers["Location"] = f"/v1/uploads/{received.upload_id}"
    return received


@router.get("/uploads", dependencies=needs("viewer"), summary="The files, newest first")
def uploads(store: StoreDep, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> Uploads:
    return Uploads(items=store.uploads(limit=limit))


@router.get("/uploads/{upload_id}", dependencies=needs("viewer"), summary="One file with what was seen in it")
def one(store: StoreDep, upload_id: UploadId) -> Upload:
    return store.upload(upload_id)


@router.post(
    "/uploads/{upload_id}/check", dependencies=needs("planner"), summary="Read it again, as told", **json_body(Reading)
)
def check(services: ServicesDep, upload_id: UploadId, reading: ReadingBody) -> Upload:
    """409 when it is accepted already."""
    return checked_again(services, upload_id, reading.options, reading.mapping)


@router.post("/uploads/{upload_id}/accept", dependencies=needs("planner"), summary="Make its good rows count")
def accept(request: Request, services: ServicesDep, upload_id: UploadId) -> Upload:
    """Its rows are used by the next run of process_etl_sales_data. 409 when the file is refused; accepting again
    changes nothing."""
    upload = accepted(services, upload_id)
    services.audit.note(request.scope["caller"].name, "upload.accepted", upload.filename, upload_id=upload_id)
    return upload


@router.get(
    "/uploads/{upload_id}/rejected",
    dependencies=needs("viewer"),
    summary="The rows left out, with reasons",
    response_class=Response,
)
def rejected(services: ServicesDep, upload_id: UploadId, format: Table = "csv") -> Response:
    return attachment(rejected_file(services, upload_id, format), f"rejected-{upload_id}", format)


@router.get("/template", dependencies=needs("viewer"), summary="An example of a file", response_class=Response)
def example(format: Table = "csv") -> Response:
    return attachment(template(format), "sales-template", format)


def attachment(data: bytes, stem: str, format: Literal["csv", "xlsx"]) -> Response:
    """A table that the caller saves as a file."""
    disposition = f'attachment; filename="{stem}.{format}"'
    return Response(data, media_type=MEDIA[format], headers={"Content-Disposition": disposition})
