"""What people know better: actual sales before the next data arrives, and numbers in the place of forecasts."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import polars as pl
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.auth import needs
from api.deps import From, Name, ServicesDep, StoreDep, To
from api.openapi import json_body
from api.strict import body_of
from ml.overrides import Overrides
from ml.records import Judgement, NewJudgement, Record
from ml.store import HistoryFilter

router = APIRouter(prefix="/v1", tags=["judgements"])
MAX_ROWS = 5_000


class Actual(BaseModel):
    """What was sold of a product in a store on a day (of weekly data: in the week)."""

    model_config = ConfigDict(extra="forbid")

    date: dt.date = Field(examples=["2026-01-05"])
    store: str = Field(min_length=1, max_length=200, examples=["S01"])
    product: str = Field(min_length=1, max_length=200, examples=["P001"])
    sales: float = Field(ge=0, le=1e12, allow_inf_nan=False, examples=[21])


class ActualRows(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: list[Actual] = Field(min_length=1, max_length=MAX_ROWS)


class ActualsWritten(Record):
    """``changed`` of the ``rows`` were new or other than what was known."""

    rows: int
    changed: int


class Judgements(BaseModel):
    items: list[Judgement]


ActualsBody = Annotated[ActualRows, body_of(ActualRows)]
JudgementBody = Annotated[NewJudgement, body_of(NewJudgement)]


@router.put("/actuals", summary="Say what was sold", dependencies=needs("planner"), **json_body(ActualRows))
def put_actuals(store: StoreDep, asked: ActualsBody) -> ActualsWritten:
    """Predictions are judged by these rows at once; sent again they change nothing. Models learn from uploads only:
    when the same days come in with one, what that says counts. All rows are taken or none."""
    frame = pl.DataFrame([row.model_dump() for row in asked.rows])
    return ActualsWritten(rows=len(asked.rows), changed=store.upsert_actuals(frame, "api"))


@router.put(
    "/overrides", summary="Put a number in the place of a forecast", dependencies=needs("planner"),
    **json_body(NewJudgement),
)  # fmt: skip
def put_override(request: Request, services: ServicesDep, asked: JudgementBody) -> Judgement:
    """Kept beside what the model says, with its reason and who gave it; the newest for a store, product and date
    counts. `units` null takes it back. The same once more changes nothing."""
    return Overrides(services.store).put(asked, request.scope["caller"].name)


@router.get("/overrides", summary="Numbers in the place of forecasts", dependencies=needs("viewer"))
def overrides(
    services: ServicesDep,
    from_date: From = None,
    to_date: To = None,
    store: Name | None = None,
    product: Name | None = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> Judgements:
    wanted = HistoryFilter(from_date, to_date, store, product)
    return Judgements(items=Overrides(services.store).standing(wanted, limit))
