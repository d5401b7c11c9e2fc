"""How the dates of the series in a table lie: daily or weekly, what is missing, what comes twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.records import Frequency

WEEKLY_SHARE = 0.8  # share of gaps that are whole weeks from which on a table counts as weekly


@dataclass(frozen=True)
class Spacing:
    """``missing`` counts the days (or weeks) without a row between the first and the last date of each series;
    ``repeated`` is true when a date, store and product comes more than once; ``typical_gap`` is in days."""

    frequency: Frequency | None
    missing: int
    repeated: bool
    typical_gap: float
    stores: int
    products: int


def all_names(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The different names of a column, and for each row a small number that stands for its name (null stays null)."""
    local = pl.Categorical(pl.Categories.random())  # not the process-wide one, which would only grow
    coded = column.cast(local)
    return coded.drop_nulls().unique().cast(pl.String), coded.to_physical().cast(pl.Int64)


@dataclass(frozen=True)
class Keys:
    """One number per date, store and product that sorts by series and then by date: series × 2 × ``span`` + day.

    Twice the span, so that a step below ``span`` stays within a series and any other step leaves it.
    """

    values: pl.Series
    dates: pl.Series
    span: int
    stores: int
    products: int


def series_keys(dates: pl.Series, store: pl.Series, product: pl.Series) -> Keys:
    """Number the rows from their dates and the codes of store and product, none of them null."""
    day = dates.to_physical().cast(pl.Int64)
    day = day - day.min() if day.len() else day
    span, width = (int(column.max() or 0) + 1 for column in (day, product))  # type: ignore[arg-type]
    values = (store * width + product) * (2 * span) + day
    return Keys(values, dates, span, store.n_unique(), product.n_unique())


def spacing(keys: Keys) -> Spacing:
    """Look at the gaps between the dates of each series; where every series has one date, at those of all of them.

    Examples
    --------
    >>> import datetime as dt
    >>> days = pl.Series([dt.date(2026, 1, 5), dt.date(2026, 1, 12), dt.date(2026, 1, 26)])
    >>> one = pl.Series([0, 0, 0])
    >>> found = spacing(series_keys(days, store=one, product=one))
    >>> found.frequency, found.missing
    ('W', 1)
    """
    ordered = keys.values.sort().to_numpy()
    steps = np.diff(ordered)
    repeated = bool((steps == 0).any())
    gaps = steps[(steps < keys.span) & (steps > 0)]
    inside = gaps.size > 0
    if not inside:
        gaps = np.diff(keys.dates.unique().sort().to_physical().to_numpy())
    if not gaps.size:
        return Spacing(None, 0, repeated, 0.0, keys.stores, keys.products)
    weekly = bool((gaps % 7 == 0).mean() >= WEEKLY_SHARE)
    missing = int(np.maximum(gaps // (7 if weekly else 1) - 1, 0).sum()) if inside else 0
    return Spacing("W" if weekly else "D", missing, repeated, float(np.median(gaps)), keys.stores, keys.products)
