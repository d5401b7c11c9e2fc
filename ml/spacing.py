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


@dataclass(frozen=True)
class Keys:
    """One number per date, store and product that sorts by series and then by date: series × ``span`` + day."""

    values: pl.Series
    span: int
    stores: int
    products: int


def _codes(names: pl.Series) -> tuple[pl.Series, int, int]:
    """A small number per name, one more than the largest of them, and how many there are."""
    local = pl.Categorical(pl.Categories.random())  # not the process-wide one, which would only grow
    codes = names.cast(local).to_physical().cast(pl.Int64)
    return codes, int(codes.max() or 0) + 1, codes.n_unique()  # type: ignore[arg-type]


def series_keys(frame: pl.DataFrame) -> Keys:
    """Number the rows of a frame with ``date``, ``store`` and ``product``, none of them null."""
    store, _, stores = _codes(frame["store"])
    product, width, products = _codes(frame["product"])
    day = frame["date"].to_physical().cast(pl.Int64)
    day = day - day.min() if day.len() else day
    span = int(day.max() or 0) + 1  # type: ignore[arg-type]
    return Keys((store * width + product) * span + day, span, stores, products)


def spacing(frame: pl.DataFrame, keys: Keys) -> Spacing:
    """Look at the gaps between the dates of each series; where every series has one date, at those of all of them.

    Examples
    --------
    >>> import datetime as dt
    >>> days = [dt.date(2026, 1, 5), dt.date(2026, 1, 12), dt.date(2026, 1, 26)]
    >>> frame = pl.DataFrame({"date": days, "store": "a", "product": "b"})
    >>> found = spacing(frame, series_keys(frame))
    >>> found.frequency, found.missing
    ('W', 1)
    """
    ordered = keys.values.sort().to_numpy()
    steps = np.diff(ordered)
    repeated = bool((steps == 0).any())
    gaps = steps[(np.diff(ordered // keys.span) == 0) & (steps > 0)]
    inside = gaps.size > 0
    if not inside:
        gaps = np.diff(frame["date"].unique().sort().to_physical().to_numpy())
    if not gaps.size:
        return Spacing(None, 0, repeated, 0.0, keys.stores, keys.products)
    weekly = bool((gaps % 7 == 0).mean() >= WEEKLY_SHARE)
    missing = int(np.maximum(gaps // (7 if weekly else 1) - 1, 0).sum()) if inside else 0
    return Spacing("W" if weekly else "D", missing, repeated, float(np.median(gaps)), keys.stores, keys.products)
