"""Why forecasts are what they are."""

from __future__ import annotations

import asyncio
from typing import Any

import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth import needs
from api.deps import ModelName, ServicesDep
from api.errors import RowsRefused
from api.loading import Loaded
from api.openapi import ROWS_BODY, reply
from api.reading import PREDICT_LIMIT, read_body
from api.routes.predict import loaded_model
from api.rows import Form, Input, instances
from api.scoring import frame_of
from api.strict import parse
from ml.errors import TooLarge
from ml.explain import telling
from ml.records import Contribution, ExplainReply, Explanation, RowError

MAX_ROWS = 500  # exact contributions take milliseconds per row
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
    if len(rows) > MAX_ROWS:
        raise TooLarge(f"At most {MAX_ROWS} rows are explained at once; these are {len(rows):,}.", limit=MAX_ROWS)
    made = await asyncio.to_thread(explained, loaded, rows)
    return Response(made.model_dump_json(), media_type="application/json")


def explained(loaded: Loaded, rows: list[Input | RowError]) -> ExplainReply:
    """One explanation per good row, the errors in their places."""
    good = [row for row in rows if not isinstance(row, RowError)]
    told = loaded.forecaster.explain(frame_of(loaded, good)) if good else pl.DataFrame()
    following = (_explanation(loaded, row) for row in told.iter_rows(named=True))
    return ExplainReply(explanations=tuple(row if isinstance(row, RowError) else next(following) for row in rows))


def _explanation(loaded: Loaded, row: dict[str, Any]) -> Explanation:
    drivers = telling(row["prediction"], row["base"], row["contributions"])
    return Explanation(
        **{name: row[name] for name in ("date", "store", "product", "prediction", "base", "sentence")},
        unit=loaded.forecaster.unit,
        contributions=tuple(Contribution(**item) for item in row["contributions"]),
        drivers=tuple(Contribution.model_validate(item) for item in drivers),
        model=loaded.ref,
        data_version=loaded.data_version,
    )
