"""Why forecasts are what they are."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth import needs
from api.deps import ModelName, ServicesDep
from api.errors import RowsRefused
from api.explaining import explained, refuse_many
from api.openapi import ROWS_BODY, reply
from api.reading import PREDICT_LIMIT, read_body
from api.routes.predict import loaded_model
from api.rows import Form, instances
from api.strict import parse
from ml.records import ExplainReply, RowError

router = APIRouter(tags=["predictions"])


@router.post(
    "/v1/explain",
    dependencies=needs("viewer"),
    summary="Why one forecast or many are what they are",
    **ROWS_BODY,
    **reply(ExplainReply),
)
async def explain(request: Request, services: ServicesDep, model: ModelName = "champion") -> Response:
    """The same rows as for `/predict` (JSON, at most 500), answered by contributions in units that add up to the
    prediction together with `base`; nothing is logged. A row that cannot be used gets `{row, field, code, message}` in
    its place; one row alone is refused instead."""
    loaded = await loaded_model(services, model)
    unchecked, form = parse(await read_body(request, PREDICT_LIMIT)), Form.of(loaded)
    listed = instances(unchecked)
    rows = [form.read(i, row) for i, row in enumerate([unchecked] if listed is None else listed, 1)]
    if listed is None and isinstance(rows[0], RowError):
        raise RowsRefused(rows[0].message, [rows[0]])
    refuse_many(len(rows))
    made = await asyncio.to_thread(explained, loaded, rows)
    return Response(made.model_dump_json(), media_type="application/json")
