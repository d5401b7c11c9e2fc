"""What the advisor is told: from data, champion, log, registry and Airflow; what is away is left out and named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import polars as pl

from api.loading import Loaded
from api.published import Published
from api.services import Services
from ml.advice import Error, Facts, advise, error_by_day, error_by_fold
from ml.cleaning import step
from ml.errors import ControlRoomError
from ml.features import SERIES
from ml.records import ETL_DAG, RETRAIN_DAG, Advice, BlockerCode, Evaluation, ModelInfo, Promotion

T = TypeVar("T")
EXPLAINED = 30  # series whose contributions stand for all: 2 ms each
JUDGED = ("better", "worse", "too_close")  # verdicts on another champion; a first model has no gain
LIVE_PERIODS = 91  # days, or weeks, before the newest data whose predictions are compared with what sold
RETRAINS = 12  # past ones that count
ACTIVE = ["queued", "running"]  # not from ml.orchestration: its client takes a second to import
# Which contributions an input stands behind: what the trees make of sales is trend, weekday and season.
BEHIND = {
    "sales": ("level", "trend", "weekday", "season"),
    "price": ("price",),
    "promotion": ("promotion",),
    "store": ("series",),
    "product": ("series",),
}


def advice(services: Services) -> Advice:
    """Retrain or wait, from everything that answers now."""
    facts, unknown = gather(services)
    return advise(facts).model_copy(update={"unknown": unknown})


def gather(services: Services) -> tuple[Facts, tuple[str, ...]]:
    """The advisor's facts, and the names of the parts that did not answer."""
    published, loaded = services.published.current, services.champion.current
    blockers, unknown = _blockers(services, published)
    known: dict[str, Any] = {"blockers": blockers}
    if loaded is not None:
        known |= {"champion": loaded.info.version, "age_days": _age(loaded.info)}
        if published is not None:
            known |= _data_facts(published, loaded)
        found = [
            _asked("database", lambda: {"live": _live(services, loaded)}),
            _asked("mlflow", lambda: {"expected": _expected(services, loaded)}),
            _asked("mlflow", lambda: {"gains": _past_gains(services)}),
        ]
        known |= {key: value for values, _ in found for key, value in (values or {}).items()}
        unknown += tuple(name for _, name in found if name)
    return Facts(**known), tuple(dict.fromkeys(unknown))


def _asked(part: str, ask: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return ask(), ""
    except ControlRoomError:
        return None, part


# ---------------------------------------------------------------- data


def _age(info: ModelInfo) -> float:
    return max((dt.datetime.now(dt.UTC) - info.created_at).total_seconds() / 86_400, 0.0)


def _data_facts(published: Published, loaded: Loaded) -> dict[str, Any]:
    manifest, snapshot = loaded.forecaster.manifest, published.snapshot
    newer = pl.col("date") > manifest.trained_until
    counts = (
        published.scan().filter(pl.col("sales").is_not_null()).select(new=newer.sum(), old=(~newer).sum()).collect()
    )
    return {
        "same_data": manifest.data_version == snapshot.data_version,
        "new_periods": max((snapshot.date_to - manifest.trained_until) // step(snapshot.frequency), 0),
        "new_rows": int(counts["new"][0]),
        "trained_rows": int(counts["old"][0]),
        "drift": _drift(published, loaded),
    }


def _drift(published: Published, loaded: Loaded) -> dict[str, tuple[float, float]]:
    """Stability index beyond chance and importance per input; nothing when it was measured against another model."""
    found = published.snapshot.drift
    if found is None or found.version != loaded.info.version or not found.features:
        return {}
    weights = importances(loaded)
    return {
        item.feature: (
            item.psi if item.level != "none" else 0.0,
            sum(weights.get(group, 0.0) for group in BEHIND.get(item.feature, (f"regressor:{item.feature}",))),
        )
        for item in found.features
    }


def importances(loaded: Loaded) -> dict[str, float]:
    """Mean size of each group's contribution to the champion's next forecasts, in units."""
    forecaster = loaded.forecaster
    series = forecaster.catalog().select(SERIES)
    rows = series.sample(min(EXPLAINED, series.height), seed=1).with_columns(
        date=pl.lit(forecaster.origin + step(forecaster.frequency))
    )
    parts = forecaster.explain(rows).explode("contributions").unnest("contributions")
    sizes = parts.group_by("group").agg(pl.col("units").abs().mean())
    return dict(sizes.iter_rows())


# ---------------------------------------------------------------- accuracy


def _live(services: Services, loaded: Loaded) -> Error | None:
    f = loaded.forecaster
    found = services.store.live_errors(loaded.info.version, f.origin - step(f.frequency) * LIVE_PERIODS)
    return error_by_day(found["error"].to_list(), found["sold"].to_list(), int(found["rows"].sum()))


def _expected(services: Services, loaded: Loaded) -> Error | None:
    """The champion was the challenger of the evaluation that it was registered with."""
    evaluation: Evaluation | None = services.registry.report(loaded.info.version).evaluation
    if evaluation is None or "challenger" not in evaluation.overall:
        return None
    whole = evaluation.overall["challenger"]
    folds = [fold.metrics["challenger"].wape for fold in evaluation.folds if "challenger" in fold.metrics]
    return error_by_fold(whole.wape, folds, whole.rows)


def _past_gains(services: Services) -> tuple[float, ...]:
    return past_gains(services.registry.versions(), services.store.promotions())


def past_gains(models: Sequence[ModelInfo], audit: Sequence[Promotion]) -> tuple[float, ...]:
    """What each past retraining brought, newest first: the gain it was promoted with, 0 where the champion stayed."""
    promoted = {
        row.version: row.decision.gain
        for row in audit
        if row.action == "promote" and row.decision is not None and row.decision.gain is not None
    }
    judged = sorted((m for m in models if m.verdict in JUDGED), key=lambda m: m.created_at, reverse=True)
    return tuple(float(np.clip(promoted.get(m.version, 0.0), 0, 1)) for m in judged[:RETRAINS])


# ---------------------------------------------------------------- what is in the way


def _blockers(services: Services, published: Published | None) -> tuple[tuple[BlockerCode, ...], tuple[str, ...]]:
    found: list[BlockerCode] = [] if published is not None else ["no_data"]
    if published is not None and any(check.severity == "error" for check in published.snapshot.checks):
        found.append("checks_failed")
    pipelines, away = _asked("airflow", lambda: _pipelines(services))
    found += ["airflow_away"] if pipelines is None else pipelines
    return tuple(found), (away,) if away else ()


def _pipelines(services: Services) -> list[BlockerCode]:
    airflow = services.airflow
    found: list[BlockerCode] = []
    if airflow.paused(RETRAIN_DAG):
        found.append("paused")
    if airflow.runs(RETRAIN_DAG, 1, ACTIVE):
        found.append("run_active")
    latest = airflow.runs(ETL_DAG, 1)
    if latest and latest[0].state == "failed":
        found.append("etl_failed")
    return found
