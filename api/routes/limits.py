"""What the API takes at most."""

from __future__ import annotations

from fastapi import APIRouter

from api import explaining, planning, reading, rows
from api.auth import needs
from api.deps import ServicesDep
from api.routes import history
from ml.records import Limits

router = APIRouter(prefix="/v1", tags=["access"])


@router.get("/limits", dependencies=needs("viewer"), summary="What is taken at most")
async def limits(services: ServicesDep) -> Limits:
    """What is above is refused with 413, or with 429 for a key that calls too often (`requests_per_minute`; 0: as often
    as it likes)."""
    return Limits(
        requests_per_minute=services.settings.rate_limit,
        upload_mb=services.settings.upload_limit_mb,
        predict_rows=rows.MAX_ROWS,
        predict_mb=reading.PREDICT_LIMIT // reading.MB,
        forecast_rows=planning.MAX_ROWS,
        explain_rows=explaining.MAX_ROWS,
        history_rows=history.MAX_ROWS,
    )
