"""How right the predictions were, as their days come."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.auth import needs
from api.deps import From, Name, StoreDep, To
from ml.accuracy import By, Judged, weeks
from ml.accuracy import accuracy as judged
from ml.records import Accuracy, VersionWeek

router = APIRouter(prefix="/v1", tags=["predictions"])


class VersionWeeks(BaseModel):
    items: list[VersionWeek]


@router.get("/accuracy", dependencies=needs("viewer"), summary="Logged predictions beside what was sold")
def accuracy(
    store: StoreDep,
    by: Annotated[By, Query(description="`horizon`: weeks between asking and the predicted day.")] = "date",
    from_date: From = None,
    to_date: To = None,
    in_store: Annotated[Name | None, Query(alias="store")] = None,
    product: Name | None = None,
    version: Annotated[str | None, Query(pattern=r"^[1-9][0-9]{0,8}$")] = None,
) -> Accuracy:
    """WAPE, bias, RMSE and coverage per key and over everything, of the last prediction for each day, store and
    product; `naive_wape` is that of the same weekday a week before the asking, on the `naive_rows` where it is known,
    and `wape_beside_naive` the model's on those same rows."""
    return judged(store, by, Judged(from_date, to_date, in_store, product, version))


@router.get("/accuracy/weeks", dependencies=needs("viewer"), summary="Each version's error, week by week")
def accuracy_weeks(
    store: StoreDep,
    from_date: From = None,
    to_date: To = None,
    in_store: Annotated[Name | None, Query(alias="store")] = None,
    product: Name | None = None,
) -> VersionWeeks:
    """WAPE of what each version forecast for the days of a week, oldest week first. A version is judged by its own
    last answer for a day, store and product; who was champion when stands in `/v1/champions`."""
    return VersionWeeks(items=list(weeks(store, Judged(from_date, to_date, in_store, product))))
