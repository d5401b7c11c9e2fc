"""Predictions: one row, many rows, or a file."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth import needs
from api.deps import ModelName, ServicesDep, Source
from api.errors import RowsRefused, request_id_of
from api.filerows import SUFFIXES, read_file
from api.loading import Loaded
from api.openapi import PREDICT
from api.reading import PREDICT_LIMIT, read_body
from api.rows import Form, Input, instances
from api.scoring import Parts, written
from api.services import Services
from api.strict import parse
from ml.errors import InputError
from ml.records import RowError

router = APIRouter(tags=["predictions"])


@router.post("/predict", dependencies=needs("planner"), summary="Predict one row, many rows or a file", **PREDICT)
@router.post("/v1/predict", dependencies=needs("planner"), include_in_schema=False)
async def predict(
    request: Request, services: ServicesDep, model: ModelName = "champion", source: Source = "api"
) -> Response:
    """One object is answered by one answer; `{"instances": [...]}`, CSV, XLSX and Parquet (at most 5,000 rows) by
    `{"predictions": [...]}` in the order of the rows. A row that cannot be used gets `{"error": {row, field, code,
    message}}` in its place and does not keep the others from their answers; `row` counts from 1, in a file as a person
    sees it there (the header is row 1). Every answer is in the history before it is sent."""
    loaded = await loaded_model(services, model)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    body = await read_body(request, PREDICT_LIMIT)
    if kind in SUFFIXES:
        read: list[Input | RowError] = await asyncio.to_thread(read_file, loaded, body, SUFFIXES[kind])
        return await _many(services, loaded, read, source, request)
    if kind not in ("application/json", "text/json", "application/x-www-form-urlencoded"):
        raise InputError(f"The Content-Type is not one of application/json, {', '.join(SUFFIXES)}.")
    unchecked, form = parse(body), Form.of(loaded)
    rows = instances(unchecked)
    if rows is None:
        return await _one(services, loaded, form.read(1, unchecked), source, request)
    return await _many(services, loaded, [form.read(i, row) for i, row in enumerate(rows, 1)], source, request)


async def loaded_model(services: Services, model: str) -> Loaded:
    if model == "champion":
        return services.champion.require()
    return await asyncio.to_thread(services.champion.get, model)


async def _one(services: Services, loaded: Loaded, row: Input | RowError, source: str, request: Request) -> Response:
    if isinstance(row, RowError):
        raise RowsRefused(row.message, [row])
    (answer,) = await services.scorer.score(loaded, [row], source, request_id_of(request))
    return Response(written(answer), media_type="application/json")


async def _many(
    services: Services, loaded: Loaded, rows: list[Input | RowError], source: str, request: Request
) -> Response:
    good = [row for row in rows if not isinstance(row, RowError)]
    answers: list[Parts] = []
    if good:
        answers = await services.scorer.score(loaded, good, source, request_id_of(request))
    following = iter(answers)
    parts = [{"error": row.model_dump()} if isinstance(row, RowError) else next(following) for row in rows]
    return Response(await asyncio.to_thread(written, {"predictions": parts}), media_type="application/json")
