"""Prediction intervals from backtest residuals, split-conformal within horizon block and size of the forecast.

Mondrian conformal prediction (Vovk et al. 2003; Boström & Johansson 2020): residuals are grouped into bins of like
forecasts, because a forecast of 2 units errs differently from one of 200; the bounds are finite-sample corrected
empirical quantiles of the residual over ``scale = sqrt(forecast + 1)``, interpolated between bins.

Where so many rows sold nothing that the lower bound is 0, nothing can fall below it: the upper bound is then chosen so
that both together hold the level, instead of leaving a tail on a side that has none.

Where a bin has too few residuals for an empirical quantile (39 for 95 %), the bound is that of a Student t for the
next residual around 0, and never inside what has been seen.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from ml.records import LEVELS

MIN_BIN = 200  # residuals in a bin: the 2.5 % quantile of fewer is a handful of rows
MAX_BINS = 12
MIN_BLOCK = 80  # residuals of one horizon block: where one has fewer, it takes those of all blocks
SIDED = 40  # independent residuals that it takes to tell both tails apart
QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)

Array = np.ndarray
Table = dict[str, list[float]]


def quantile_name(q: float) -> str:
    """Column of a table that holds this quantile: ``q_2.5`` for 0.025."""
    return f"q_{100 * q:g}"


def row_scale(forecast: Array) -> Array:
    """What the residual of one row is divided by, in units: it grows as the deviation of counts does."""
    return np.sqrt(np.clip(forecast, 0, None) + 1.0)


@dataclass(frozen=True)
class Few:
    """What is known of scaled residuals that go together.

    ``free``: how many independent ones they are worth; ``prior``: with how many residuals of size 1 the knowledge
    counts that the scale is their deviation.
    """

    free: float
    prior: float

    @property
    def freedom(self) -> float:
        return self.free + self.prior

    def widening(self, q: float) -> float:
        """Factor on an empirical quantile, as a Student t is wider than a normal distribution."""
        if q == 0.5:
            return 1.0
        return float(student.ppf(q, self.free) / norm.ppf(q) * np.sqrt(1 + 1 / self.free))


@dataclass(frozen=True)
class Bins:
    """Bounds of the scaled residual by size of the forecast.

    ``table``: per bin its ``centre`` (mean forecast, in units), ``spread`` (root mean square of the scaled residuals),
    the bounds ``low_80 … high_95`` and the quantiles ``q_2.5 … q_97.5``.
    """

    table: Table

    @classmethod
    def fit(cls, forecast: Array, actual: Array, scale: Array, *, few: Few | None = None) -> Bins:
        """Learn from held-out forecasts and what was sold, in units, and the ``scale`` of each residual, in units.

        ``few``: what is known of residuals that go together; left out, each of them counts in full.
        """
        table: Table = {}
        for members in _alike(forecast):
            for name, value in _fit_bin(forecast[members], actual[members], scale[members], few).items():
                table.setdefault(name, []).append(value)
        return cls(table)

    def at(self, name: str, forecast: Array) -> Array:
        """A column of the table at these forecasts, interpolated over the logarithm of their size."""
        return np.interp(np.log1p(np.clip(forecast, 0, None)), np.log1p(self.table["centre"]), self.table[name])

    def bounds(self, forecast: Array, scale: Array) -> dict[int, tuple[Array, Array]]:
        """Level -> lower and upper bound in units; the lower never below 0, the forecast inside."""
        found = {}
        for level in LEVELS:
            low, high = (forecast + self.at(f"{side}_{level}", forecast) * scale for side in ("low", "high"))
            found[level] = np.clip(np.minimum(low, forecast), 0, None), np.maximum(high, forecast)
        return found

    def quantiles(self, forecast: Array, scale: Array) -> dict[float, Array]:
        """Quantile -> sales in units, never below 0."""
        return {q: np.clip(forecast + self.at(quantile_name(q), forecast) * scale, 0, None) for q in QUANTILES}


def _alike(forecast: Array) -> list[Array]:
    """Indices of the rows of each bin, smallest forecasts first; equal forecasts are never parted."""
    order = np.argsort(forecast, kind="stable")
    ordered = forecast[order]
    count = int(np.clip(len(order) // MIN_BIN, 1, MAX_BINS))
    edges = np.searchsorted(ordered, ordered[np.arange(1, count) * len(order) // count])
    return np.split(order, np.unique(edges[edges > 0]))


def _fit_bin(forecast: Array, actual: Array, scale: Array, few: Few | None) -> dict[str, float]:
    residual = (actual - forecast) / scale
    found = {"centre": float(forecast.mean()), "spread": float(np.sqrt(np.mean(residual**2)))}
    if few and few.free < SIDED:
        return _nested(found | _even_bounds(np.abs(residual), few))
    for q in QUANTILES:
        # A residual of -forecast / scale means sales of 0; the lowest of the bin brings the bound of all rows to 0.
        zero = _is_zero(actual, q)
        found[quantile_name(q)] = float((-forecast / scale).min()) if zero else _quantile(residual, q, few)
    for level in LEVELS:
        tail = (1 - level / 100) / 2
        low = found[f"low_{level}"] = found[quantile_name(tail)]
        # What lies below is counted before any widening: the upper bound must not give back what the lower one took.
        not_below = (residual > _quantile(residual, tail, None)) | (forecast + low * scale <= 0)
        found[f"high_{level}"] = _upper(residual, not_below, level / 100, few)
    return _nested(found)


def _nested(found: dict[str, float]) -> dict[str, float]:
    """A wider level holds the narrower ones, also where one bound is empirical and the other a Student t."""
    for narrow, wide in pairwise(LEVELS):
        found[f"low_{wide}"] = min(found[f"low_{narrow}"], found[f"low_{wide}"])
        found[f"high_{wide}"] = max(found[f"high_{narrow}"], found[f"high_{wide}"])
    return found


def _even_bounds(size: Array, few: Few) -> dict[str, float]:
    """Bounds as far below as above: a few origins that all erred to one side say little about the next one's side."""
    found = {quantile_name(0.5): 0.0}
    for level in LEVELS:
        q = (1 + level / 100) / 2
        rank = math.ceil((len(size) + 1) * level / 100)
        known = rank <= len(size)
        high = np.sort(size)[rank - 1] * few.widening(q) if known else max(size.max(), _next_value(size, q, few))
        for name in (f"high_{level}", quantile_name(q)):
            found[name] = float(high)
        for name in (f"low_{level}", quantile_name(1 - q)):
            found[name] = -float(high)
    return found


def _is_zero(actual: Array, q: float) -> bool:
    """Whether this quantile of the sales is 0. That of the residuals is not: a zero's residual is its forecast's."""
    return bool((actual <= 0).sum() >= math.floor((len(actual) + 1) * q) >= 1)


def _upper(residual: Array, not_below: Array, level: float, few: Few | None) -> float:
    """The bound that, with the lower one, holds as many of all residuals as the level asks for."""
    n, tail = len(residual), (1 - level) / 2
    rank = math.ceil((n + 1) * level)
    if rank > not_below.sum() or math.floor((n + 1) * tail) < 1:
        return max(_quantile(residual, 1 - tail, few), float(residual.max()))
    return float(np.sort(residual[not_below])[rank - 1]) * (few.widening(1 - tail) if few else 1.0)


def _quantile(residual: Array, q: float, few: Few | None) -> float:
    """Conformal quantile: the ceil((n + 1) q)-th smallest value above the median, mirrored below it."""
    if q < 0.5:
        return -_quantile(-residual, 1 - q, few)
    rank = math.ceil((len(residual) + 1) * q)
    if rank <= len(residual):
        return float(np.sort(residual)[rank - 1]) * (few.widening(q) if few else 1.0)
    return max(float(residual.max()), _next_value(residual, q, few))


def _next_value(residual: Array, q: float, few: Few | None) -> float:
    """Quantile of the next residual after a few: Student t with their mean square (Geisser 1993, section 2.2).

    Around 0, not around their mean: the few come from one or two origins and share their error with each other, not
    with the next.
    """
    n, square = len(residual), float(np.mean(residual**2))
    if few:
        return float(student.ppf(q, few.freedom) * np.sqrt((few.free * square + few.prior) / few.freedom))
    return float(student.ppf(q, max(1, n - 1)) * np.sqrt(square * (1 + 1 / n)))


@dataclass(frozen=True)
class Intervals:
    """``blocks``: horizon block -> the table of its :class:`Bins`."""

    blocks: dict[int, Table]

    @classmethod
    def fit(cls, forecast: Array, actual: Array, block: Array) -> Intervals:
        """Learn the bounds from held-out forecasts and what was sold, in units.

        Raises
        ------
        ValueError
            No rows.
        """
        if not len(forecast):
            raise ValueError("no backtest rows to learn intervals from")
        found = {}
        for b in np.unique(block):
            mine = block == b
            if mine.sum() < MIN_BLOCK:
                mine = np.ones(len(block), bool)
            found[int(b)] = Bins.fit(forecast[mine], actual[mine], row_scale(forecast[mine])).table
        return cls(found)

    def bins(self, block: int) -> Bins:
        """The bins of a block; of the longest one for a block without residuals of its own."""
        return Bins(self.blocks.get(block) or self.blocks[max(self.blocks)])

    def bounds(self, forecast: Array, block: Array) -> dict[int, tuple[Array, Array]]:
        """Level (80, 95) -> lower and upper bound per row, in units; the lower never below 0, the forecast inside."""
        found = {level: (np.zeros(len(forecast)), np.zeros(len(forecast))) for level in LEVELS}
        for b in np.unique(block):
            mine, f = block == b, forecast[block == b]
            for level, (low, high) in self.bins(int(b)).bounds(f, row_scale(f)).items():
                found[level][0][mine], found[level][1][mine] = low, high
        return found

    def quantiles(self, forecast: Array, block: Array) -> dict[float, Array]:
        """Quantile (2.5 … 97.5 %) -> sales per row, in units."""
        found = {q: np.zeros(len(forecast)) for q in QUANTILES}
        for b in np.unique(block):
            mine, f = block == b, forecast[block == b]
            for q, values in self.bins(int(b)).quantiles(f, row_scale(f)).items():
                found[q][mine] = values
        return found

    def deviation(self, forecast: Array, block: Array) -> Array:
        """Root mean square error to be expected of each row, in units."""
        found = np.zeros(len(forecast))
        for b in np.unique(block):
            mine, f = block == b, forecast[block == b]
            found[mine] = self.bins(int(b)).at("spread", f) * row_scale(f)
        return found

    def to_json(self) -> str:
        return json.dumps({str(block): table for block, table in self.blocks.items()})

    @classmethod
    def from_json(cls, text: str) -> Intervals:
        raw: dict[str, Any] = json.loads(text)
        return cls({int(block): table for block, table in raw.items()})
