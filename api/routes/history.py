"""What was predicted, and what was sold then."""

from __future__ import annotations

import itertools
import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from api.auth import needs
from api.deps import HistoryFilterDep, PredictionId, ServicesDep, StoreDep
from api.exporting import COLUMNS, as_csv
from api.retelling import MOST_ROWS, retell
from ml.jobboard import NewExport
from ml.records import HistoryItem, HistoryPage, Job, Replay, Retellings

router = APIRouter(tags=["predictions"])
MAX_ROWS = 1000
MOST_EXPORTED = 1_000_000


@router.get("/historical-predictions", dependencies=needs("viewer"), summary="The log of predictions, newest first")
@router.get("/v1/predictions", dependencies=needs("viewer"), include_in_schema=False)
def history(
    store: StoreDep,
    wanted: HistoryFilterDep,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> HistoryPage:
    """Pages are stable: predictions that arrive while you read neither repeat nor shift a row. `error` is the
    prediction minus the actual sales, once these are known."""
    return store.history(wanted, limit=limit, cursor=cursor)


@router.get(
    "/v1/exports/predictions",
    dependencies=needs("viewer"),
    summary="All predictions that fit, as CSV",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"example": ",".join(COLUMNS)}}}},
)
def export(
    store: StoreDep,
    wanted: HistoryFilterDep,
    limit: Annotated[int, Query(ge=1, le=MOST_EXPORTED)] = MOST_EXPORTED,
) -> StreamingResponse:
    """Newest first, written while it is sent: neither side has to hold it. `inputs` is JSON."""
    pieces = as_csv(store.history_rows(wanted, limit=limit))
    begun = next(pieces)  # what is away is said before the answer begins
    headers = {"Content-Disposition": 'attachment; filename="predictions.csv"'}
    return StreamingResponse(itertools.chain([begun], pieces), media_type="text/csv; charset=utf-8", headers=headers)


@router.post(
    "/v1/exports/predictions",
    dependencies=needs("viewer"),
    status_code=202,
    summary="Write all predictions that fit into a file",
    responses={200: {"description": "The same export is worked on already", "model": Job}},
)
def make_export(request: Request, response: Response, services: ServicesDep, wanted: HistoryFilterDep) -> Job:
    """As a job: with progress, without a limit, as CSV, XLSX or Parquet (`GET /v1/jobs/{job_id}/result`). What is in
    the log now is written, newest first; predictions that come later are not."""
    new = NewExport(uuid.uuid4().hex, wanted, services.store.newest_prediction(), request.scope["caller"].name)
    job, is_new = services.board.add_export(new)
    response.status_code = 202 if is_new else 200
    response.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return job


@router.get("/v1/predictions/{prediction_id}", dependencies=needs("viewer"), summary="One prediction")
def prediction(store: StoreDep, prediction_id: PredictionId) -> HistoryItem:
    return store.prediction(prediction_id)


@router.post(
    "/v1/predictions/{prediction_id}/replay",
    dependencies=needs("viewer"),
    summary="Make a prediction again as it was made",
)
def replay(services: ServicesDep, prediction_id: PredictionId) -> Replay:
    """With the bundle and the version of the data that gave it; nothing is logged. 410 when one of them is no longer
    kept. `agrees` is false when the same bundle says something else today: then the code that answers has changed."""
    return services.replayer.replay(prediction_id)


@router.get("/v1/retellings", dependencies=needs("viewer"), summary="What another version would have said")
def retellings(
    services: ServicesDep,
    wanted: HistoryFilterDep,
    model: Annotated[str, Query(pattern=r"^[1-9][0-9]{0,8}$", description="The version that answers now.")],
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of a page of the history.")] = None,
) -> Retellings:
    """The newest logged predictions that fit, answered by `model` with the inputs and the data of then; nothing is
    logged. `gone` rows are left out because their data is no longer kept (or is of a fifth version); `learned` rows are
    shown and not judged, because the version has learned from their days. 410 when the version itself is gone."""
    return retell(services.replayer, model, services.store.history(wanted, limit=limit, cursor=cursor).items)
