"""Files that are too large for one answer: predicted by a worker, chunk by chunk."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.auth import needs
from api.deps import ModelName, ServicesDep, Table
from api.jobfiles import ResultFormat, of_upload, received, refused_file, result_file
from api.openapi import JOB, PARQUET, XLSX
from api.routes.predict import loaded_model
from api.routes.uploads import attachment
from ml.records import Job, JobKind

router = APIRouter(prefix="/v1", tags=["jobs"])
JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
MEDIA = {"csv": "text/csv; charset=utf-8", "xlsx": XLSX, "parquet": PARQUET}


class Jobs(BaseModel):
    items: list[Job]


@router.post("/jobs", dependencies=needs("planner"), status_code=202, summary="Predict a large file", **JOB)
async def make(
    request: Request,
    response: Response,
    services: ServicesDep,
    filename: Annotated[str, Query(min_length=1, max_length=255)] = "file",
    upload_id: Annotated[
        str | None, Query(pattern=r"^[A-Za-z0-9-]{1,64}$", description="A stored upload instead of a body.")
    ] = None,
    model: ModelName = "champion",
) -> Job:
    """The file itself is the body (`curl --data-binary @rows.csv`, CSV, XLSX or Parquet), as for `/predict`, of any
    number of rows up to the size limit of uploads; or `upload_id` names a stored one. The versions of model and data
    are pinned now. Answered by 202 and `Location`; the same file for the same versions is the same job and answered by
    200, unless that job has failed or was cancelled."""
    loaded, by = await loaded_model(services, model), request.scope["caller"].name
    if upload_id is None:
        job, is_new = await received(services, request, loaded, filename, by)
    else:
        upload = await asyncio.to_thread(services.store.upload, upload_id)
        job, is_new = await asyncio.to_thread(of_upload, services, upload, loaded, by)
    response.status_code = 202 if is_new else 200
    response.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return job


@router.get("/jobs", dependencies=needs("viewer"), summary="The jobs, newest first")
def jobs(services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100, kind: JobKind | None = None) -> Jobs:
    return Jobs(items=services.board.jobs(limit, kind))


@router.get("/jobs/{job_id}", dependencies=needs("viewer"), summary="One job and how far it is")
def one(services: ServicesDep, job_id: JobId) -> Job:
    return services.board.job(job_id)


@router.delete("/jobs/{job_id}", dependencies=needs("planner"), summary="Cancel a job")
def cancel(services: ServicesDep, job_id: JobId) -> Job:
    """One that is worked on ends after its present chunk (`cancelling`); what it has predicted stays in the history.
    409 when it has ended."""
    return services.board.cancel(job_id)


@router.get(
    "/jobs/{job_id}/result", dependencies=needs("viewer"), summary="The predictions as a file", response_class=Response
)
def result(
    services: ServicesDep, job_id: JobId, format: Annotated[ResultFormat, Query(alias="format")] = "csv"
) -> StreamingResponse:
    """Of a large file: in its order, `row` is the number that a person sees there (the header is row 1). Of an export:
    the newest first, with the columns of `GET /v1/exports/predictions`. 409 while the job isn't done, 410 when its
    files are no longer kept, 422 for more rows than a sheet of XLSX holds."""
    filters = services.board.filters(job_id) if format == "xlsx" else None
    content = result_file(services.lake, services.board.job(job_id), format, filters)
    disposition = {"Content-Disposition": f'attachment; filename="result-{job_id}.{format}"'}
    return StreamingResponse(content, media_type=MEDIA[format], headers=disposition)


@router.get(
    "/jobs/{job_id}/rejected",
    dependencies=needs("viewer"),
    summary="The rows left out, with reasons",
    response_class=Response,
)
def rejected(services: ServicesDep, job_id: JobId, format: Table = "csv") -> Response:
    """409 before the file has been read."""
    data = refused_file(services.lake, services.board.job(job_id), format)
    return attachment(data, f"rejected-{job_id}", format)
