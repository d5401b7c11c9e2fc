"""What lies behind the figures of a backtest: calibration, errors by week ahead, where two models disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ml.records import LEVELS, CalibrationBin, Disagreement, ErrorSpread

BINS = 10
LEAST = 50  # rows of a bin, or of a week ahead
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_DISAGREEMENTS = 25
SHOWN = ("challenger", "champion", "seasonal_naive")


def calibration(judged: pl.DataFrame, name: str) -> tuple[CalibrationBin, ...]:
    """Forecasts by their size, smallest first: what was forecast and sold on average, and how often intervals held.

    ``judged``: the result of :func:`ml.evaluation.held_out_intervals`.
    """
    bins = max(1, min(BINS, judged.height // LEAST))
    place = (pl.col(name).rank("ordinal") - 1) * bins // judged.height
    inside = [pl.col(f"in_{level}").mean().alias(str(level)) for level in LEVELS]
    found = judged.group_by(place.alias("_bin")).agg(
        pl.len().alias("rows"), pl.col(name).mean().alias("forecast"), pl.col("y").mean().alias("actual"), *inside
    )
    return tuple(
        CalibrationBin(
            rows=row["rows"], forecast=row["forecast"], actual=row["actual"],
            coverage={str(level): row[str(level)] for level in LEVELS},
        )
        for row in found.sort("_bin").iter_rows(named=True)
    )  # fmt: skip


def spreads(rows: pl.DataFrame, models: Sequence[str]) -> tuple[ErrorSpread, ...]:
    """Quantiles of forecast minus sales, in units, per model and week ahead (weekly data: per week)."""
    shown = [name for name in SHOWN if name in models]
    week = ((pl.col("ahead") - 1) // _periods(rows) + 1).alias("week")
    errors = [
        (pl.col(name) - pl.col("y")).quantile(q, "linear").alias(f"{name} {q}") for name in shown for q in QUANTILES
    ]
    found = rows.group_by(week).agg(pl.len().alias("rows"), *errors).filter(pl.col("rows") >= LEAST).sort("week")
    return tuple(
        ErrorSpread(model=name, week=row["week"], quantiles=tuple(row[f"{name} {q}"] for q in QUANTILES))
        for name in shown
        for row in found.iter_rows(named=True)
    )


def _periods(rows: pl.DataFrame) -> int:
    """How many periods ahead one week holds."""
    days: Any = ((rows["date"] - rows["origin"]).dt.total_days() / rows["ahead"]).median()
    return 1 if float(days or 1) > 3 else 7


def disagreements(rows: pl.DataFrame) -> tuple[Disagreement, ...]:
    """Where challenger and champion lie furthest apart, in units."""
    if not {"challenger", "champion"} <= set(rows.columns):
        return ()
    apart = (pl.col("challenger") - pl.col("champion")).abs()
    found = rows.sort(apart, descending=True).head(MOST_DISAGREEMENTS).filter(apart > 0)
    return tuple(
        Disagreement(
            date=row["date"], store=row["store"], product=row["product"], actual=row["y"],
            challenger=row["challenger"], champion=row["champion"],
        )
        for row in found.iter_rows(named=True)
    )  # fmt: skip
