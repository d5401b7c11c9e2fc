"""Prediction intervals from backtest residuals, split-conformal on a scale on which all sizes err alike.

A forecast of 2 units errs differently from one of 200, and of the few rows of a small business not every size can have
a bin of its own. So residuals are taken on a bent scale (:class:`Curve`, between square root and logarithm, learnt),
where those of all sizes may stand for each other. What the curve misses is made good by bins of like forecasts where
there are enough rows (Mondrian conformal prediction, Vovk et al. 2003; Boström & Johansson 2020); the bounds are
finite-sample corrected empirical quantiles, interpolated between bins.

Where so often nothing is sold that the lower bound is 0, nothing can fall below it: there the upper bound alone holds
the level. How small a forecast has to be for that is learnt from the zeros themselves, by isotonic regression.

Where there are too few residuals for an empirical quantile (39 for 95 %), the bound is that of a Student t for the
next residual around 0, and never inside what has been seen.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.isotonic import IsotonicRegression

from ml.records import LEVELS

FORMAT = 2
MIN_BIN = 100  # residuals in a bin: the 2.5 % quantile of fewer is a row or two
MAX_BINS = 12
MIN_BLOCK = 80  # residuals of one horizon block: where one has fewer, it takes those of all blocks
SIDED = 40  # independent residuals that it takes to tell both tails apart
QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)
# Anscombe (1948): with 3/8 added, the transformed counts have the most even variance.
ADDED = 3 / 8
POWERS = tuple(np.linspace(0.02, 0.5, 25).tolist())
MOST = 100_000  # rows that a curve is chosen on: it has one parameter

Array = np.ndarray
Table = dict[str, list[float]]


def row_scale(forecast: Array) -> Array:
    """What the deviation of one row is told in, in units: it grows as that of counts does."""
    return np.sqrt(np.clip(forecast, 0, None) + 1.0)


@dataclass(frozen=True)
class Curve:
    """The scale on which sales of all sizes vary alike: (units + 3/8) to the ``power``, so that 0 stays 0.

    Power 1/2 fits counts, whose variance grows as their mean (Anscombe 1948); nearer to 0 it becomes the logarithm,
    for errors that are shares of the sales. Between them lies the variance of real chains (Taylor 1961).
    """

    power: float = 0.5

    @classmethod
    def fit(cls, forecast: Array, actual: Array) -> Curve:
        """The power under which the errors are likeliest, taken as Laplace, so that no outlier decides."""
        take = slice(None, None, -(-len(forecast) // MOST))
        size, off = forecast[take], np.abs(actual - forecast)[take]
        if len(size) < SIDED or not off.any():
            return cls()
        return min((cls(power) for power in POWERS), key=lambda curve: curve._unlikely(size, off))

    def _unlikely(self, size: Array, off: Array) -> float:
        slope = self.slope(size)
        return float(np.mean(np.log(slope)) + np.log(np.mean(off / slope)))

    def slope(self, units: Array) -> Array:
        """Units that one step on the bent scale is worth at this size."""
        return (np.maximum(units, 0) + ADDED) ** (1 - self.power)

    def bent(self, units: Array) -> Array:
        """From units to the bent scale; what lies below 0 is 0."""
        return ((np.maximum(units, 0) + ADDED) ** self.power - ADDED**self.power) / self.power

    def units(self, bent: Array) -> Array:
        """Back again; what lies below 0 is 0."""
        lifted = (np.maximum(bent, 0) * self.power + ADDED**self.power) ** (1 / self.power)
        return np.maximum(lifted - ADDED, 0)


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

    ``table``: per bin its ``centre`` (mean forecast, in units) and the bounds ``low_80 … high_95``.
    """

    table: Table

    @classmethod
    def fit(cls, forecast: Array, actual: Array, scale: Array, *, few: Few | None = None) -> Bins:
        """Learn from held-out forecasts and what was sold, in units, and the ``scale`` of each residual, in units.

        ``few``: what is known of residuals that go together; left out, each of them counts in full.
        """
        table: Table = {}
        for members in alike(forecast):
            found = _fit_bin(forecast[members], actual[members], scale[members], few)
            for name, value in found.items():
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


def alike(forecast: Array) -> list[Array]:
    """Indices of the rows of each bin, smallest forecasts first; equal forecasts are never parted."""
    order = np.argsort(forecast, kind="stable")
    ordered = forecast[order]
    count = int(np.clip(len(order) // MIN_BIN, 1, MAX_BINS))
    edges = np.searchsorted(ordered, ordered[np.arange(1, count) * len(order) // count])
    return np.split(order, np.unique(edges[edges > 0]))


def _fit_bin(forecast: Array, actual: Array, scale: Array, few: Few | None) -> dict[str, float]:
    residual = (actual - forecast) / scale
    found = {"centre": float(forecast.mean())}
    if few and few.free < SIDED:
        return _nested(found | _even_bounds(np.abs(residual), few))
    for level in LEVELS:
        tail = (1 - level / 100) / 2
        # A residual of -forecast / scale means sales of 0; the lowest of the bin brings the bound of all rows to 0.
        low = float((-forecast / scale).min()) if _is_zero(actual, tail) else _quantile(residual, tail, few)
        found[f"low_{level}"] = low
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
    found = {}
    for level in LEVELS:
        q = (1 + level / 100) / 2
        rank = math.ceil((len(size) + 1) * level / 100)
        known = rank <= len(size)
        high = np.sort(size)[rank - 1] * few.widening(q) if known else max(size.max(), _next_value(size, q, few))
        found[f"low_{level}"], found[f"high_{level}"] = -float(high), float(high)
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


def _quantile(residual: Array, q: float, few: Few | None = None) -> float:
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


# ---------------------------------------------------------------- rows

MEDIAN = "50"
# Quantile -> level and column of its table: ``top`` leaves as much above as ``low`` leaves below.
OF_LEVEL = {0.025: ("95", "low"), 0.1: ("80", "low"), 0.5: (MEDIAN, "low"), 0.9: ("80", "top"), 0.975: ("95", "top")}
Ready = Mapping[str, Mapping[str, Array]]
_ASKED = tuple(map(str, LEVELS))
COLUMNS = ("centre", "low", "high", "top")


def _tables(curve: Curve, forecast: Array, actual: Array) -> dict[str, Table]:
    """Level -> ``zero``: up to which forecast, in units, the lower bound is 0; and per bin, on the bent scale, its
    ``centre``, the bounds ``low`` and ``high``, and ``top``."""
    asked = [(str(level), level / 100) for level in LEVELS] + [(MEDIAN, 0.0)]
    return {name: _table(curve, forecast, actual, share) for name, share in asked}


def _table(curve: Curve, forecast: Array, actual: Array, share: float) -> Table:
    at, residual = curve.bent(forecast), curve.bent(actual) - curve.bent(forecast)
    zero = _zero_up_to(forecast, actual, (1 - share) / 2)
    rows = []
    for floored in (True, False):
        group = np.flatnonzero((forecast <= zero) == floored)
        for members in alike(forecast[group]) if len(group) else ():
            mine = group[members]
            like = residual[mine] if len(mine) >= SIDED else residual
            low, top = (_quantile(like, q) for q in ((1 - share) / 2, (1 + share) / 2))
            rows.append((float(at[mine].mean()), low, _quantile(like, max(share, 0.5)) if floored else top, top))
    return {"zero": [zero]} | {
        name: list(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)
    }


def _zero_up_to(forecast: Array, actual: Array, share: float) -> float:
    """The largest forecast, in units, at which still this share of the rows sells nothing; -1 where there is none."""
    nothing = (actual <= 0).astype(float)
    if not nothing.any():
        return -1.0
    often = IsotonicRegression(increasing=False).fit_transform(forecast, nothing) >= share
    return float(forecast[often].max()) if often.any() else -1.0


@dataclass(frozen=True)
class Intervals:
    """``blocks``: horizon block -> level ("80", "95", and "50" for the median) -> table of its bins."""

    curve: Curve
    blocks: dict[int, dict[str, Table]]

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
        curve = Curve.fit(forecast, actual)
        return cls(curve, {b: _tables(curve, forecast[mine], actual[mine]) for b, mine in _by_block(block)})

    def bounds(self, forecast: Array, block: Array) -> dict[int, tuple[Array, Array]]:
        """Level (80, 95) -> lower and upper bound per row, in units; the lower never below 0, the forecast inside."""
        asked = [(str(level), side) for level in LEVELS for side in ("low", "high")]
        columns = self._at(asked, forecast, block)
        found, low, high = {}, np.maximum(forecast, 0), forecast
        for level, below, above in zip(LEVELS, columns[::2], columns[1::2], strict=True):
            low, high = np.minimum(low, below), np.maximum(high, above)  # a wider level holds the narrower ones
            found[level] = low, high
        return found

    def quantiles(self, forecast: Array, block: Array) -> dict[float, Array]:
        """Quantile (2.5 … 97.5 %) -> sales per row, in units."""
        return dict(zip(QUANTILES, self._at([OF_LEVEL[q] for q in QUANTILES], forecast, block), strict=True))

    def _at(self, asked: list[tuple[str, str]], forecast: Array, block: Array) -> Array:
        """A row of sales, in units, for each level and column asked for."""
        found = np.zeros((len(asked), len(forecast)))
        for b in set(block.tolist()):
            mine = block == b
            # The longest block answers for one without residuals of its own.
            tables = self._ready.get(int(b)) or self._ready[max(self._ready)]
            found[:, mine] = self._columns(tables, asked, forecast[mine])
        return np.maximum(found, 0, out=found)

    @cached_property
    def _ready(self) -> dict[int, Ready]:
        """``blocks`` as arrays, which ``np.interp`` would make of lists at every question."""
        return {
            block: {
                level: {name: np.array(values) for name, values in table.items()} for level, table in tables.items()
            }
            for block, tables in self.blocks.items()
        }

    def _columns(self, tables: Ready, asked: list[tuple[str, str]], forecast: Array) -> Array:
        bent = self.curve.bent(forecast)
        added = [np.interp(bent, tables[level]["centre"], tables[level][name]) for level, name in asked]
        found = self.curve.units(bent + np.array(added))
        for values, (level, name) in zip(found, asked, strict=True):
            if name == "low":
                values[forecast <= tables[level]["zero"][0]] = 0.0
        return found

    def of_one(self) -> Callable[[float, int], dict[str, float]] | None:
        """:meth:`bounds` of a single row, in plain Python: ``low_80, high_80, low_95, high_95`` by forecast and block;
        None where there is no such short way."""
        power, foot = self.curve.power, ADDED**self.curve.power
        tables = {
            block: [
                (table["zero"][0], table["centre"], table["low"], table["high"])
                for table in map(of.__getitem__, _ASKED)
            ]
            for block, of in self.blocks.items()
        }
        longest = tables[max(tables)]

        def bounds(forecast: float, block: int) -> dict[str, float]:
            bent = ((max(forecast, 0.0) + ADDED) ** power - foot) / power
            found, low, high = {}, max(forecast, 0.0), forecast
            for level, (zero, centre, lows, highs) in zip(LEVELS, tables.get(block, longest), strict=True):
                below, above = (_lifted(bent + _between(bent, centre, values), power, foot) for values in (lows, highs))
                low, high = min(low, 0.0 if forecast <= zero else below), max(high, above)
                found[f"low_{level}"], found[f"high_{level}"] = low, high
            return found

        return bounds

    def to_json(self) -> str:
        blocks = {str(block): tables for block, tables in self.blocks.items()}
        return json.dumps({"format": FORMAT, "power": self.curve.power, "blocks": blocks})

    @classmethod
    def from_json(cls, text: str) -> Intervals:
        """Read what :meth:`to_json` wrote, or what bundles kept before there was a format.

        Raises
        ------
        ValueError
            A later format than this program knows.
        """
        raw: dict[str, Any] = json.loads(text)
        if "format" not in raw:
            return FirstIntervals(Curve(), {int(block): {"all": table} for block, table in raw.items()})
        if raw["format"] != FORMAT:
            raise ValueError(f"intervals have format {raw['format']}, this program reads {FORMAT}: upgrade it")
        return cls(Curve(raw["power"]), {int(block): tables for block, tables in raw["blocks"].items()})


def _between(at: float, points: list[float], values: list[float]) -> float:
    """As ``np.interp`` for one number."""
    k = bisect_right(points, at)
    if k == 0 or k == len(points):
        return values[max(k - 1, 0)]
    slope = (values[k] - values[k - 1]) / (points[k] - points[k - 1])
    return slope * (at - points[k - 1]) + values[k - 1]


def _lifted(bent: float, power: float, foot: float) -> float:
    """As :meth:`Curve.units`."""
    return max((max(bent, 0.0) * power + foot) ** (1 / power) - ADDED, 0.0)


class FirstIntervals(Intervals):
    """Intervals of bundles without a format: bounds of the residual over :func:`row_scale`; never learnt anew."""

    def _columns(self, tables: Ready, asked: list[tuple[str, str]], forecast: Array) -> Array:
        names = {("80", "top"): "q_90", ("95", "top"): "q_97.5", (MEDIAN, "low"): "q_50"}
        bins, scale = Bins({name: list(values) for name, values in tables["all"].items()}), row_scale(forecast)
        found = [forecast + bins.at(names.get(one, f"{one[1]}_{one[0]}"), forecast) * scale for one in asked]
        return np.array(found)

    def of_one(self) -> None:
        return None

    def to_json(self) -> str:
        return json.dumps({str(block): tables["all"] for block, tables in self.blocks.items()})


# ---------------------------------------------------------------- how far a row is off, for sums


@dataclass(frozen=True)
class Deviation:
    """``blocks``: horizon block -> ``centre`` (forecast, in units) and ``spread`` (root mean square error there, as a
    multiple of :func:`row_scale`)."""

    blocks: dict[int, Table]

    @classmethod
    def fit(cls, forecast: Array, actual: Array, block: Array) -> Deviation:
        """Learn from held-out forecasts and what was sold, in units."""
        curve = Curve.fit(forecast, actual)
        return cls({b: _spreads(curve, forecast[mine], actual[mine]) for b, mine in _by_block(block)})

    def of(self, forecast: Array, block: Array) -> Array:
        """Root mean square error to be expected of each row, in units."""
        found = np.zeros(len(forecast))
        for b in np.unique(block):
            mine = block == b
            bins = Bins(self.blocks.get(int(b)) or self.blocks[max(self.blocks)])
            found[mine] = bins.at("spread", forecast[mine]) * row_scale(forecast[mine])
        return found


def _spreads(curve: Curve, forecast: Array, actual: Array) -> Table:
    """Three points in each bin, so that also within a single one the deviation follows the curve."""
    points: dict[float, float] = {}
    for members in alike(forecast):
        size = forecast[members]
        steps = np.sqrt(np.mean(((actual[members] - size) / curve.slope(size)) ** 2))
        centres = np.unique(np.quantile(size, (0.1, 0.5, 0.9)))
        spreads = steps * curve.slope(centres) / row_scale(centres)
        points |= dict(zip(centres.tolist(), spreads.tolist(), strict=True))
    return {"centre": list(points), "spread": list(points.values())}


def _by_block(block: Array) -> Iterator[tuple[int, Array]]:
    """Each horizon block with the rows that it learns from."""
    for b in np.unique(block):
        mine = block == b
        yield int(b), mine if mine.sum() >= MIN_BLOCK else np.ones(len(block), bool)
