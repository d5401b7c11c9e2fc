"""How right the predictions were, as their days come."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import needs
from api.deps import From, Name, StoreDep, To
from ml.accuracy import By, Judged
from ml.accuracy import accuracy as judged
from ml.records import Accuracy

router = APIRouter(prefix="/v1", tags=["predictions"])


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
