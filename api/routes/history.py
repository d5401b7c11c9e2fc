"""What was predicted, and what was sold then."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import HistoryFilterDep, PredictionId, StoreDep
from ml.records import HistoryItem, HistoryPage

router = APIRouter(tags=["predictions"])


@router.get("/historical-predictions", summary="The log of predictions, newest first")
@router.get("/v1/predictions", include_in_schema=False)
def history(
    store: StoreDep,
    wanted: HistoryFilterDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> HistoryPage:
    """Pages are stable: predictions that arrive while you read neither repeat nor shift a row. `error` is the
    prediction minus the actual sales, once these are known."""
    return store.history(wanted, limit=limit, cursor=cursor)


@router.get("/v1/predictions/{prediction_id}", summary="One prediction")
def prediction(store: StoreDep, prediction_id: PredictionId) -> HistoryItem:
    return store.prediction(prediction_id)
