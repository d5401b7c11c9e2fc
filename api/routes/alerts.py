"""What is out of the ordinary today."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import needs
from api.deps import ServicesDep
from ml.records import Alerts

router = APIRouter(prefix="/v1", tags=["predictions"])


@router.get("/alerts", dependencies=needs("viewer"), summary="What is out of the ordinary today")
def alerts(services: ServicesDep, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Alerts:
    """Series whose newest sales lie outside the interval or all to one side of the forecast, of which a jump is
    expected, whose newest days are missing, or that the champion has not learned; the most units at stake first. When
    the database is away or slow the first two kinds are left out, and `unknown` says so."""
    return services.alerter.alerts(limit)
