"""How the newest data is: which days are missing, which sales are far from usual. Of the last weeks only.

Usual is the median of the same series on the same weekday (weekly data: of all its weeks) over half a year; promoted
days are no measure of it and are not judged by it. A day is far when it differs from usual by so many robust
deviations, by that factor, and by so many units that it matters.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from ml.cleaning import step
from ml.records import DataDay, Frequency, Outlier, StoreDays

SHOWN = {"D": 56, "W": 26}  # periods that are looked at
BASIS = {"D": 182, "W": 104}  # periods that say what is usual
LEAST = 6  # fewer days say nothing about what is usual
DEVIATIONS = 4.0
FACTOR = 3.0
LEAST_UNITS = 5.0
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_MAD = 0.1  # of log units: a series that never varies is not that sure
MOST_OUTLIERS = 200


@dataclass(frozen=True)
class Lately:
    """What is to be said about the last weeks."""

    days: tuple[DataDay, ...]
    stores: tuple[StoreDays, ...]
    outliers: tuple[Outlier, ...]


def lately(panel: pl.DataFrame, frequency: Frequency) -> Lately:
    """Everything at once; ``panel`` begins with :func:`basis`."""
    return Lately(days(panel, frequency), stores(panel, frequency), outliers(panel, frequency))


def basis(date_to: dt.date, frequency: Frequency) -> dt.date:
    """The first day that is needed to judge data which reaches up to ``date_to``."""
    return date_to - step(frequency) * (BASIS[frequency] - 1)


def _shown(panel: pl.DataFrame, frequency: Frequency) -> pl.DataFrame:
    newest: dt.date = panel["date"].max()  # type: ignore[assignment]
    return panel.filter(pl.col("date") > newest - step(frequency) * SHOWN[frequency])


def days(panel: pl.DataFrame, frequency: Frequency) -> tuple[DataDay, ...]:
    """Per date of the last weeks: rows there should be, rows whose sales are not known, units sold.

    Parameters
    ----------
    panel : ``date, store, product, sales`` with a row for every period of every series; null where nothing is known.
    """
    shown = _shown(panel, frequency)
    sums = {"rows": pl.len(), "missing": pl.col("sales").null_count(), "sold": pl.col("sales").sum()}
    return tuple(DataDay(**row) for row in shown.group_by("date").agg(**sums).sort("date").iter_rows(named=True))


def stores(panel: pl.DataFrame, frequency: Frequency) -> tuple[StoreDays, ...]:
    """Per store in the last weeks: its newest known day, days without any known row, share of rows not known."""
    known = pl.col("sales").is_not_null()
    per_day = _shown(panel, frequency).group_by("store", "date").agg(known=known.sum(), rows=pl.len())
    found = per_day.group_by("store").agg(
        newest=pl.col("date").filter(pl.col("known") > 0).max(),
        silent_days=(pl.col("known") == 0).sum(),
        missing=1 - pl.col("known").sum() / pl.col("rows").sum(),
    )
    return tuple(StoreDays(**row) for row in found.sort("store").iter_rows(named=True))


def outliers(panel: pl.DataFrame, frequency: Frequency) -> tuple[Outlier, ...]:
    """Sales of the last weeks that are far from usual, those with the largest difference in units first."""
    plain = pl.col("sales").is_not_null()
    if "promotion" in panel.columns:
        plain &= pl.col("promotion").fill_null(0) == 0
    like = ["store", "product", *(["_weekday"] if frequency == "D" else [])]
    rows = panel.filter(plain).with_columns(_log=pl.col("sales").log1p(), _weekday=pl.col("date").dt.weekday())
    rows = rows.with_columns(_usual=pl.col("_log").median().over(like), _days=pl.len().over(like))
    rows = rows.with_columns(_mad=(pl.col("_log") - pl.col("_usual")).abs().median().over(like))
    sigma = MAD_TO_SIGMA * pl.col("_mad").clip(LEAST_MAD)
    usual = pl.col("_usual").exp() - 1
    far = (
        (pl.col("_days") >= LEAST)
        & ((pl.col("_log") - pl.col("_usual")).abs() > DEVIATIONS * sigma)
        & ((pl.col("sales") + 1 > FACTOR * (usual + 1)) | (FACTOR * (pl.col("sales") + 1) < usual + 1))
        & ((pl.col("sales") - usual).abs() >= LEAST_UNITS)
    )
    found = _shown(rows, frequency).filter(far).with_columns(usual=usual)
    found = found.sort((pl.col("sales") - pl.col("usual")).abs(), descending=True).head(MOST_OUTLIERS)
    return tuple(Outlier(**row) for row in found.select("date", "store", "product", "sales", "usual").to_dicts())
