"""Metrics, and the evaluation of a backtest in which all models answered the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from ml.diagnostics import calibration, disagreements, spreads
from ml.intervals import Intervals
from ml.records import LEVELS, Evaluation, Fold, Metrics, Segment, SumCoverage
from ml.sums import held_out

MIN_SEGMENT_ROWS = 50
MAX_SEGMENTS = 40


def wape(y: np.ndarray, forecast: np.ndarray) -> float:
    """Weighted absolute percentage error sum|y - f| / sum y, a share; NaN when nothing was sold.

    Examples
    --------
    >>> wape(np.array([2.0, 0.0, 8.0]), np.array([1.0, 1.0, 8.0]))
    0.2
    """
    total = float(np.abs(y).sum())
    return float(np.abs(y - forecast).sum()) / total if total else math.nan


def rmspe(y: np.ndarray, forecast: np.ndarray) -> float:
    """Root mean square percentage error over the rows with sales > 0 (the Rossmann competition's measure)."""
    sold = y > 0
    if not sold.any():
        return math.nan
    return float(np.sqrt(np.mean(((y[sold] - forecast[sold]) / y[sold]) ** 2)))


def measure(y: np.ndarray, forecast: np.ndarray, held_out: pl.DataFrame | None = None) -> Metrics:
    """All metrics of one model on one set of rows (sales and forecast in units).

    ``held_out``: the same rows from :func:`held_out_intervals`, for what intervals are judged by.
    """
    if not len(y):
        raise ValueError("no rows to measure")
    total = float(np.abs(y).sum())
    share = rmspe(y, forecast)
    return Metrics(
        rows=len(y),
        wape=_or_zero(wape(y, forecast)) if total else float(np.abs(forecast).mean()),
        bias=float((forecast - y).sum()) / total if total else 0.0,
        rmse=float(root_mean_squared_error(y, forecast)),
        mae=float(mean_absolute_error(y, forecast)),
        rmspe=None if math.isnan(share) else share,
        coverage={} if held_out is None else {str(lv): float(held_out[f"in_{lv}"].mean()) for lv in LEVELS},  # type: ignore[arg-type]
        pinball=None if held_out is None else float(held_out["pinball"].mean()),  # type: ignore[arg-type]
    )


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def pinball(y: np.ndarray, quantiles: dict[float, np.ndarray]) -> np.ndarray:
    """Pinball loss per row, in units, as the mean over the quantiles (Koenker & Bassett 1978).

    Examples
    --------
    >>> pinball(np.array([10.0, 10.0]), {0.9: np.array([8.0, 12.0])}).round(3).tolist()
    [1.8, 0.2]
    """
    losses = [np.maximum(q * (y - value), (q - 1) * (y - value)) for q, value in quantiles.items()]
    return np.mean(losses, axis=0)


def held_out_intervals(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with ``in_80`` and ``in_95``, whether the sales lie inside the interval that the *other* folds'
    residuals give, and ``pinball``, the loss of the row's quantiles in units.

    With a single fold the even dates calibrate for the odd ones and the other way round.
    """
    group = rows["fold"] if rows["fold"].n_unique() > 1 else (rows["date"].dt.ordinal_day() % 2)
    parts = []
    for value in sorted(group.unique()):
        own = rows.filter(group == value)
        other = rows.filter(group != value) if group.n_unique() > 1 else own  # one date: nothing else to learn from
        intervals = Intervals.fit(other[name].to_numpy(), other["y"].to_numpy(), other["block"].to_numpy())
        parts.append(own.with_columns(**_judged(intervals, own, name)))
    return pl.concat(parts)


def _judged(intervals: Intervals, own: pl.DataFrame, name: str) -> dict[str, pl.Series]:
    forecast, y, block = own[name].to_numpy(), own["y"].to_numpy(), own["block"].to_numpy()
    bounds = intervals.bounds(forecast, block)
    inside = {f"in_{lv}": (y >= low - 1e-9) & (y <= high + 1e-9) for lv, (low, high) in bounds.items()}
    loss = pinball(y, intervals.quantiles(forecast, block))
    return {key: pl.Series(values) for key, values in {**inside, "pinball": loss}.items()}


def held_out_sums(rows: pl.DataFrame, name: str) -> tuple[SumCoverage, ...]:
    """How often sums of each kind lie inside the interval that the other folds give; none with a single fold."""
    found = held_out(rows, name)
    if found.is_empty():
        return ()
    inside = [
        ((pl.col("y") >= pl.col(f"low_{lv}") - 1e-9) & (pl.col("y") <= pl.col(f"high_{lv}") + 1e-9))
        .mean()
        .alias(str(lv))
        for lv in LEVELS
    ]
    kinds = found.group_by("kind", maintain_order=True).agg(pl.len().alias("sums"), *inside)
    return tuple(
        SumCoverage(kind=row["kind"], sums=row["sums"], coverage={str(lv): row[str(lv)] for lv in LEVELS})
        for row in kinds.iter_rows(named=True)
    )


def evaluate(rows: pl.DataFrame, models: Sequence[str], data_version: str) -> Evaluation:
    """Judge every model of a backtest on the same rows: overall, per fold, per segment, and week by week.

    ``rows``: the result of :func:`ml.training.backtest`.
    """
    y = rows["y"].to_numpy()
    judged = {name: held_out_intervals(rows, name) for name in models}
    overall = {name: measure(y, rows[name].to_numpy(), judged[name]) for name in models}
    return Evaluation(
        data_version=data_version,
        folds=tuple(_fold(part, models) for _, part in sorted(rows.group_by("fold"), key=lambda item: item[0])),
        overall=overall,
        segments=tuple(_segments(rows, models)),
        weekly_gain=tuple(_weekly_gain(rows, models)),
        sums=held_out_sums(rows, "challenger") if "challenger" in models else (),
        calibration=calibration(judged["challenger"], "challenger") if "challenger" in models else (),
        spreads=spreads(rows, models),
        disagreements=disagreements(rows),
    )


def _fold(part: pl.DataFrame, models: Sequence[str]) -> Fold:
    y = part["y"].to_numpy()
    return Fold(
        origin=part["origin"][0],
        date_from=part["date"].min(),  # type: ignore[arg-type]
        date_to=part["date"].max(),  # type: ignore[arg-type]
        rows=part.height,
        metrics={name: measure(y, part[name].to_numpy()) for name in models},
    )


def _segments(rows: pl.DataFrame, models: Sequence[str]) -> list[Segment]:
    """WAPE by store, product (the largest), promotion state and week ahead."""
    rows = rows.with_columns(
        pl.when(pl.col("promotion") > 0).then(pl.lit("yes")).otherwise(pl.lit("no")).alias("promotion"),
        pl.format("week {}", (pl.col("ahead") - 1) // 7 + 1).alias("horizon"),
    )
    errors = [(pl.col(n) - pl.col("y")).abs().sum().alias(n) for n in models]
    found = []
    for by in ("store", "product", "promotion", "horizon"):
        groups = rows.group_by(by).agg(pl.len().alias("rows"), pl.col("y").sum().alias("total"), *errors)
        groups = groups.filter((pl.col("rows") >= MIN_SEGMENT_ROWS) & (pl.col("total") > 0))
        groups = groups.sort("total", descending=True).head(MAX_SEGMENTS)
        if groups.height < 2:
            continue
        found += [
            Segment(by=by, value=row[by], rows=row["rows"], wape={n: row[n] / row["total"] for n in models})
            for row in groups.sort(by).iter_rows(named=True)
        ]
    return found


def _weekly_gain(rows: pl.DataFrame, models: Sequence[str]) -> list[tuple[str, float]]:
    """By week: how much smaller the challenger's absolute error is than the champion's (or naive's), as a share."""
    against = "champion" if "champion" in models else "seasonal_naive"
    if "challenger" not in models or against not in models:
        return []
    errors = {n: (pl.col(n) - pl.col("y")).abs().sum() for n in ("challenger", against)}
    weeks = rows.group_by(pl.col("date").dt.truncate("1w")).agg(**errors).sort("date")
    return [
        (str(row["date"]), 1 - row["challenger"] / row[against])
        for row in weeks.iter_rows(named=True)
        if row[against] > 0
    ]
