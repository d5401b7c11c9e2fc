"""The next days of many series at once."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from api.auth import needs
from api.deps import MODEL, RequestIdDep, ServicesDep
from api.openapi import json_body, reply
from api.planning import planned_rows
from api.routes.predict import loaded_model
from api.strict import body_of
from api.totals import forecast_reply
from ml.errors import InputError
from ml.records import ForecastReply, ForecastRequest

router = APIRouter(tags=["predictions"])
Asked = Annotated[ForecastRequest, body_of(ForecastRequest)]


@router.post(
    "/v1/forecast",
    dependencies=needs("planner"),
    summary="The next days of all or some series",
    **json_body(ForecastRequest),
    **reply(ForecastReply),
)
async def forecast(services: ServicesDep, request_id: RequestIdDep, asked: Asked) -> Response:
    """Every chosen store and product for the next `horizon` periods after the last known day, with the prices and
    promotions of `overrides`; logged like any prediction, with source `forecast`. `whole` and `by_date` are totals over
    the chosen series with the intervals of the sums."""
    if not re.fullmatch(MODEL, asked.model):
        raise InputError("model is champion, challenger or the number of a version.", field="model")
    loaded = await loaded_model(services, asked.model)
    rows = await asyncio.to_thread(planned_rows, loaded, asked)
    answers = await services.scorer.score_frame(loaded, rows, "forecast", request_id)
    made = await asyncio.to_thread(forecast_reply, loaded, answers)
    return Response(made.model_dump_json(), media_type="application/json")
