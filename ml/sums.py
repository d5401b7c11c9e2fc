"""Intervals for sums of forecasts: a store's day, a product's week, everything over the whole horizon.

Errors go together (a warm week moves the whole chain, a wrong level the whole horizon of a series), so bounds of sums
are not sums of bounds. The error of a row is taken as its expected deviation times a sum of independent effects, one
for each of {series, store, product, all} × {period, week, horizon}. Their variances are those that explain best the
squared sums of the backtest's errors (method of moments as in variance components analysis, Searle et al. 1992, by
non-negative least squares); the deviation of any sum follows from group sums of the rows' deviations, in O(rows).

What this model of the errors misses is made good by conformal calibration of error / deviation on the backtest's own
sums of the same kind. Kinds with few sums (one total per fold) get a Student t instead, in which the model of the
errors counts like ``PRIOR`` observed sums.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from scipy.optimize import nnls

from ml.errors import InputError
from ml.intervals import Array, Bins, Deviation, Few, Table
from ml.records import LEVELS

OVER = {"series": ("store", "product"), "store": ("store",), "product": ("product",), "all": ()}
SPANS = {"period": ("ahead",), "week": ("_week",), "horizon": ()}
KINDS = tuple(f"{over}/{span}" for over in OVER for span in SPANS)
WEEK = {1: 7, 7: 4}  # days between two periods -> periods that the span ``week`` holds
PRIOR = 2.0
# What lasts a whole horizon is seen once per fold (and series), and once may be small by chance: this share of the
# variance is added as if one more had shown it. Chains measured had 0.001 to 0.02 in common over all.
LASTING = {"series/horizon": 0.05, "all/horizon": 0.005}
ENOUGH = 50  # groups after which an estimated variance gains no more weight against the others
NEEDED = ("store", "product", "date", "ahead", "block", "prediction")
BOUNDS = tuple(f"{side}_{level}" for level in LEVELS for side in ("low", "high"))


@dataclass(frozen=True)
class Sums:
    """What a bundle keeps to give intervals of totals.

    ``spread``: block -> deviation of a row by the size of its forecast; ``variance``: kind -> share of a row's error
    variance that such a group has in common; ``kinds``: kind -> table of :class:`ml.intervals.Bins`; ``week``: how
    many periods a ``week`` holds.
    """

    spread: dict[int, Table]
    variance: dict[str, float]
    kinds: dict[str, Table]
    week: int

    @classmethod
    def fit(cls, rows: pl.DataFrame, name: str = "challenger") -> Sums:
        """Learn from a backtest.

        Parameters
        ----------
        rows
            ``fold, origin, date, store, product, ahead, block, y`` and the forecast ``name``, in units: the result of
            :func:`ml.training.backtest`.
        """
        forecast, block = rows[name].to_numpy(), rows["block"].to_numpy()
        deviations = Deviation.fit(forecast, rows["y"].to_numpy(), block)
        spread, deviation = deviations.blocks, pl.Series(deviations.of(forecast, block))
        week = WEEK[_days_apart(rows)]
        coded = _coded(rows, week).with_columns(forecast=pl.Series(forecast), s=deviation)
        coded = coded.select("fold", "store", "product", "ahead", "_week", "y", "forecast", "s")
        variance = _variances(coded)
        return cls(spread, variance, {kind: _calibrated(coded, kind, variance) for kind in KINDS}, week)

    def bounds(self, forecast: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
        """Totals of forecast rows with their intervals.

        Parameters
        ----------
        forecast
            ``store, product, date, ahead, block, prediction``, in units. With ``low_80 … high_95`` beside them, a row
            that cannot sell (``high_95`` is 0) is certain, and a group of one row keeps that row's bounds.
        by
            Columns whose values make a group; none means one total of everything.

        Returns
        -------
        One row per group, sorted: ``by``, ``prediction`` and ``low_80, high_80, low_95, high_95`` in units; the lower
        bounds never below 0, the prediction inside.

        Raises
        ------
        InputError
            A column is missing, or there are no rows.
        """
        _refuse_unusable(forecast, by)
        groups = forecast.select(by).unique().sort(by) if by else pl.DataFrame({"_all": [0]})
        rows = _numbered(forecast, groups, list(by)).with_columns(s=pl.Series(self.deviation(forecast)))
        rows = _coded(rows, self.week)
        found = _totals(rows, self.week).join(_deviations(rows, ("_group",), self.variance), on="_group")
        found = found.sort("_group").with_columns(pl.col("deviation").sqrt())
        found = self._with_bounds(found)
        found = _single_rows(found, rows) if set(BOUNDS) <= set(forecast.columns) else found
        return pl.concat([groups.select(by), found.select("prediction", *BOUNDS)], how="horizontal")

    def variance_of(self, rows: pl.DataFrame, deviation: Array) -> float:
        """Variance of a sum whose rows (``store, product, ahead``) deviate by so much, which may be negative: then a
        shared effect makes them less."""
        coded = _coded(rows, self.week).with_columns(s=pl.Series(deviation), _group=pl.lit(0, pl.UInt32))
        return float(_deviations(coded, ("_group",), self.variance)["deviation"][0])

    def deviation(self, forecast: pl.DataFrame) -> Array:
        """Root mean square error to be expected of each row, in units; 0 of one that cannot sell."""
        found = Deviation(self.spread).of(forecast["prediction"].to_numpy(), forecast["block"].to_numpy())
        return np.where(forecast["high_95"].to_numpy() <= 0, 0.0, found) if "high_95" in forecast.columns else found

    def _with_bounds(self, found: pl.DataFrame) -> pl.DataFrame:
        """The bounds of each total, by the table of its kind."""
        point, deviation = found["prediction"].to_numpy(), found["deviation"].to_numpy()
        columns = {name: np.zeros(found.height) for name in BOUNDS}
        for kind in found["kind"].unique():
            mine = (found["kind"] == kind).to_numpy()
            for level, (low, high) in Bins(self.kinds[kind]).bounds(point[mine], deviation[mine]).items():
                columns[f"low_{level}"][mine], columns[f"high_{level}"][mine] = low, high
        return found.with_columns(**{name: pl.Series(values) for name, values in columns.items()})

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Sums:
        raw = json.loads(text)
        spread = {int(block): table for block, table in raw["spread"].items()}
        return cls(spread, raw["variance"], raw["kinds"], raw["week"])


def held_out(rows: pl.DataFrame, name: str = "challenger") -> pl.DataFrame:
    """Sums of every kind with the bounds that the *other* folds give.

    Returns
    -------
    ``kind, fold, y, prediction, low_80 … high_95`` per sum, in units; empty when there is only one fold.
    """
    folds = rows["fold"].unique().sort()
    parts = []
    for fold in folds if len(folds) > 1 else []:
        sums = Sums.fit(rows.filter(pl.col("fold") != fold), name)
        own = rows.filter(pl.col("fold") == fold).with_columns(pl.col(name).alias("prediction"), _week=_week(sums.week))
        for kind in KINDS:
            keys = list(_keys(kind))
            actual = own.group_by(keys or pl.lit(0)).agg(pl.col("y").sum()).sort(keys or "y")
            bounds = sums.bounds(own, keys).select("prediction", *BOUNDS)
            parts.append(bounds.with_columns(actual["y"], kind=pl.lit(kind), fold=pl.lit(fold)))
    return pl.concat(parts) if parts else pl.DataFrame()


def _keys(kind: str) -> tuple[str, ...]:
    over, span = kind.split("/")
    return (*OVER[over], *SPANS[span])


def _refuse_unusable(forecast: pl.DataFrame, by: Sequence[str]) -> None:
    if missing := [name for name in (*NEEDED, *by) if name not in forecast.columns]:
        raise InputError(f"Totals need the columns {', '.join(missing)}, as Forecaster.forecast gives them.")
    if forecast.is_empty():
        raise InputError("There are no forecast rows to add up.")


def _days_apart(rows: pl.DataFrame) -> int:
    days = (rows["date"] - rows["origin"]).dt.total_days() / rows["ahead"]
    return 7 if float(days.median() or 1) > 3 else 1  # type: ignore[arg-type]


def _week(periods: int) -> pl.Expr:
    return (pl.col("ahead") - 1) // periods


def _coded(rows: pl.DataFrame, week: int) -> pl.DataFrame:
    """Numbers for names (grouping by them is several times faster), and the week ahead."""
    return rows.with_columns(pl.col("store", "product").rank("dense"), _week=_week(week))


def _numbered(rows: pl.DataFrame, groups: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    if not by:
        return rows.with_columns(_group=pl.lit(0, pl.UInt32))
    return rows.join(groups.with_row_index("_group"), on=by, how="left", nulls_equal=True, maintain_order="left")


def _totals(rows: pl.DataFrame, week: int) -> pl.DataFrame:
    """Per group its total and its kind, by how many stores, products and periods it holds."""
    found = rows.group_by("_group").agg(
        pl.col("prediction").sum(), *(pl.col(name).n_unique() for name in ("store", "product", "ahead")), rows=pl.len()
    )
    one_store, one_product = pl.col("store") == 1, pl.col("product") == 1
    named = pl.when(one_store & one_product).then(pl.lit("series")).when(one_store).then(pl.lit("store"))
    over = named.when(one_product).then(pl.lit("product")).otherwise(pl.lit("all"))
    long = pl.when(pl.col("ahead") == 1).then(pl.lit("period")).when(pl.col("ahead") <= week).then(pl.lit("week"))
    return found.with_columns(kind=pl.concat_str(over, long.otherwise(pl.lit("horizon")), separator="/"))


def _single_rows(found: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """A total of one row is that row: its own bounds are the finer ones."""
    own = rows.group_by("_group").agg(pl.col(name).first().alias(f"_{name}") for name in BOUNDS)
    found = found.join(own, on="_group", maintain_order="left")
    alone = pl.col("rows") == 1
    return found.with_columns(pl.when(alone).then(f"_{name}").otherwise(name).alias(name) for name in BOUNDS)


def _meet(one: str, other: str) -> str:
    """The kind of the groups in which a group of one kind and one of another overlap."""
    (over, span), (over2, span2) = one.split("/"), other.split("/")
    both = next(name for name, keys in OVER.items() if set(keys) == {*OVER[over], *OVER[over2]})
    return f"{both}/{min(span, span2, key=list(SPANS).index)}"


def _variances(rows: pl.DataFrame) -> dict[str, float]:
    """Moment equations: for each kind, the squared sums of errors are what the variances say about such sums."""
    error = (pl.col("y") - pl.col("forecast")).sum().alias("e")
    sums = {kind: rows.group_by("fold", *_keys(kind)).agg(error, pl.col("s").sum()) for kind in KINDS}
    observed = {kind: float((groups["e"] ** 2).sum()) for kind, groups in sums.items()}
    expected = {kind: float((groups["s"] ** 2).sum()) for kind, groups in sums.items()}
    used = [kind for kind in KINDS if observed[kind] > 0]
    if not used:
        return {"series/period": 1.0}
    # Relative to what was observed: an interval of a large sum has to be as right as one of a small sum.
    shares = np.array([[expected[_meet(kind, cause)] / observed[kind] for cause in KINDS] for kind in used])
    weight = np.sqrt([min(sums[kind].height, ENOUGH) for kind in used])
    found, _ = nnls(shares * weight[:, None], weight)
    for kind, share in LASTING.items():
        found[KINDS.index(kind)] += share / sums[kind].height
    return {kind: float(value) for kind, value in zip(KINDS, found, strict=True) if value > 0}


def _deviations(rows: pl.DataFrame, group: tuple[str, ...], variance: dict[str, float]) -> pl.DataFrame:
    """Squared deviation per group: the shares that rows have in common add up before they are squared."""
    weights: dict[tuple[str, ...], float] = {}
    for kind, value in variance.items():
        keys = tuple(sorted({*group, *_keys(kind)}))
        if "ahead" in keys:  # a period lies within one week: the finer says it all
            keys = tuple(key for key in keys if key != "_week" or key in group)
        weights[keys] = weights.get(keys, 0.0) + value
    parts = [
        rows.group_by(keys).agg(pl.col("s").sum()).select(*group, deviation=pl.col("s") ** 2 * weight)
        for keys, weight in weights.items()
    ]
    return pl.concat(parts).group_by(group).agg(pl.col("deviation").sum())


def _calibrated(rows: pl.DataFrame, kind: str, variance: dict[str, float]) -> Table:
    """Bounds of error / deviation over the backtest's sums of one kind."""
    group = ("fold", *_keys(kind))
    sums = rows.group_by(group).agg(pl.col("forecast", "y").sum())
    sums = sums.join(_deviations(rows, group, variance), on=group).sort(group)
    forecast, y, squared = (sums[name].to_numpy() for name in ("forecast", "y", "deviation"))
    few = Few(_independent(sums, rows, variance), PRIOR)
    return Bins.fit(forecast, y, np.maximum(np.sqrt(squared), 1e-9), few=few).table


def _independent(sums: pl.DataFrame, rows: pl.DataFrame, variance: dict[str, float]) -> float:
    """How many independent sums these are worth: n times the variance that the folds' totals would have if they were.

    For equal and independent sums it is their number, for sums that all go together the number of folds.
    """
    apart = float(sums["deviation"].sum())
    together = float(_deviations(rows, ("fold",), variance)["deviation"].sum())
    errors = sums.group_by("fold").agg((pl.col("y") - pl.col("forecast")).sum())
    seen = float((errors["y"] ** 2).sum())
    worth = sums.height * apart / max(together, seen, 1e-9)
    return float(np.clip(worth, 1.0, sums.height))
