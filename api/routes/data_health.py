"""How the published data is."""

from __future__ import annotations

from fastapi import APIRouter

from api.advising import BEHIND, importances
from api.auth import needs
from api.deps import PublishedDep, ServicesDep
from api.loading import Loaded
from ml.records import DataHealth, FeatureDrift, Snapshot

router = APIRouter(prefix="/v1", tags=["data"])


@router.get("/data-health", dependencies=needs("viewer"), summary="Missing days, unusual sales, what inputs weigh")
def data_health(services: ServicesDep, published: PublishedDep) -> DataHealth:
    """Of the last eight weeks (weekly data: half a year). `importance` is each drifted input's share in the champion's
    forecasts, empty when drift was measured against another model; `unseen` are stores and products that the champion
    has not learned. Drift of inputs and sales and what the checks found are in `/v1/snapshot`; `predictions` is that of
    the logged predictions (null while the database is away), looked at anew every ten minutes."""
    current, loaded = published.require(), services.champion.current
    return DataHealth(
        data_version=current.snapshot.data_version,
        days=current.lately.days,
        stores=current.lately.stores,
        outliers=current.lately.outliers,
        importance=_importance(current.snapshot, loaded) if loaded else {},
        unseen=_unseen(current.series, loaded) if loaded else (),
        predictions=services.drifting.of(current.snapshot),
    )


def _importance(snapshot: Snapshot, loaded: Loaded) -> dict[str, float]:
    drift = snapshot.drift
    if drift is None or drift.version != loaded.info.version:
        return {}
    weights = importances(loaded)
    whole = sum(weights.values()) or 1.0
    return {item.feature: _weight(item, weights) / whole for item in drift.features}


def _weight(item: FeatureDrift, weights: dict[str, float]) -> float:
    return sum(weights.get(group, 0.0) for group in BEHIND.get(item.feature, (f"regressor:{item.feature}",)))


def _unseen(series: tuple[object, ...], loaded: Loaded) -> tuple[str, ...]:
    """Names of stores, then of products, that are sold now and that the champion has not learned."""
    learned = loaded.forecaster.manifest.encoding.categories
    found: list[str] = []
    for name in ("store", "product"):
        found += sorted({str(getattr(one, name)) for one in series} - set(learned.get(name, ())))
    return tuple(found)
