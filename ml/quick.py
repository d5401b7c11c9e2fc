"""Forecasts of usual rows without a frame: what no request changes is computed when the model is loaded.

A row is *usual* when its series is sold now and its date lies within the horizon. All its features are then known
beforehand, as :meth:`ml.forecasting.Forecaster.planned` gives them, but for those that follow from the price,
promotion, holiday and regressors it asks for; a request sets only these. It answers what
:meth:`ml.forecasting.Forecaster.forecast` answers.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ml.cleaning import step
from ml.closures import NAMES
from ml.features import DAY_EFFECT, KEY, PRICE_RATIOS, SERIES, known_features, to_matrix
from ml.forecasting import Forecaster
from ml.models import OWN_PROMOTION, BlockTrees, Inputs, XGBoostModel
from ml.onedal_trees import hastened_blocks
from ml.onnx_trees import FEW, OnnxTrees
from ml.quick_one import QuickOne
from ml.records import LEVELS
from ml.training import as_inputs

TOLERANCE, RELATIVE = 1e-3, 1e-6  # units, and of what is compared where that is more, as api.replaying allows
PROVEN = 200  # rows of each block on which both must agree
PLANS = ((None, None), (0.9, 0.0), (1.1, 0.3))  # price as a share of the last one, and promotion, of rows compared
BESIDE = 2  # large requests whose trees are walked at once
MOST_EFFECTS = 10_000  # effects of days that are kept
Array = np.ndarray
Row = Mapping[str, Any]
Columnar = dict[str, list[Any]]

log = logging.getLogger("ml.quick")


@dataclass(frozen=True)
class Begun:
    """Columns of rows of which the trees may not have been walked yet. ``known``: all but those of ``units``."""

    known: Columnar
    units: Callable[[], Columnar]


class Quick:
    """Answers usual rows of one forecaster.

    Rows are mappings with ``date``, ``store``, ``product`` and those inputs that were given. Positions in the tables
    are those of :meth:`Forecaster.planned`: the number of the series times the horizon, plus the periods ahead less 1.
    """

    def __init__(self, forecaster: Forecaster) -> None:
        self.forecaster, self.horizon = forecaster, forecaster.horizon
        self._days = step(forecaster.frequency).days  # of a period
        planned, names = forecaster.planned(), list(forecaster.manifest.features)
        self._column = {name: k for k, name in enumerate(names)}
        self._ready = as_inputs(planned, names)
        self._defaults = {name: _values(planned[name]) for name in forecaster.inputs}
        self._keep_series(planned)
        self._keep_known(planned)
        self._block = planned["block"].to_numpy()
        self._trees = proven_trees(forecaster, self._block, self._ready)
        self._codes = {
            name: {text: float(k) for k, text in enumerate(forecaster.manifest.encoding.categories[name])}
            for name in forecaster.columns.text
        }
        days = forecaster.bundle.days
        self._flags = tuple(days.flags) if days and DAY_EFFECT in self._column else ()
        self._effects: dict[tuple[Any, ...], float] = {}
        # XGBoost needs no interpreter: of many rows the support is looked up meanwhile.
        self._beside = ThreadPoolExecutor(BESIDE, thread_name_prefix="trees")
        self._one = QuickOne(self)

    def _keep_series(self, planned: pl.DataFrame) -> None:
        """The number of each series that needs no sibling's history, and what is known of it."""
        first = planned.gather_every(self.horizon)
        borrows = planned["_borrows"].to_numpy().reshape(-1, self.horizon).max(axis=1)
        keys = zip(first["store"].to_list(), first["product"].to_list(), strict=True)
        self._series = {key: number for number, key in enumerate(keys) if not borrows[number]}
        self._support = self.forecaster.support.of_series(first.select(SERIES))
        self._untrained = first.select(known=~self.forecaster.trained_on())["known"].to_numpy()
        days = self.forecaster.bundle.days
        groups = first.select(days.groups if days else [])
        self._group_types = groups.schema
        self._groups = groups.rows() if groups.width else [()] * first.height

    def _keep_known(self, planned: pl.DataFrame) -> None:
        """What features that follow from the plan are made of."""
        f = self.forecaster
        ratios = PRICE_RATIOS if f.columns.price else {}
        self._past_prices = {self._column[n]: planned[past].cast(pl.Float64).to_numpy() for n, past in ratios.items()}
        same = [name for name in OWN_PROMOTION[1:] if name in self._column] if f.columns.promotion else []
        self._same, self._promoted = [self._column[name] for name in same], np.zeros((0, planned.height))
        if same:
            other = planned.drop("days_to_holiday", "days_since_holiday").with_columns(promotion=pl.lit(1.0))
            other = known_features(other, f.frequency, f.columns, f.manifest.country)
            self._promoted = to_matrix(other, same).T.copy()
        self._closed = dict(f.columns.closed_when)
        self._closes = NAMES[0] in self._column
        self._shut = planned["_shut"].to_numpy()

    # -- which rows

    def places(self, rows: Sequence[Row]) -> Array | None:
        """The position of every row; None when one of them is not usual."""
        found = []
        for row in rows:
            place = self._place(row)
            if place is None:
                return None
            found.append(place)
        return np.array(found, dtype=np.intp)

    def _place(self, row: Row) -> int | None:
        number = self._series.get((row["store"], row["product"]))
        ahead = self._ahead(row["date"])
        if number is None or not 1 <= ahead <= self.horizon:
            return None
        if self._closes and not self._closed.keys().isdisjoint(row):
            return None  # a day that closes changes the days around it
        return number * self.horizon + ahead - 1

    def places_of(self, rows: Columnar) -> Array | None:
        """As :meth:`places`, for the rows' columns."""
        if self._closes and not self._closed.keys().isdisjoint(rows):
            return None
        ahead = {date: self._ahead(date) for date in set(rows["date"])}
        numbers = list(map(self._series.get, zip(rows["store"], rows["product"], strict=True)))
        if None in numbers or not all(1 <= periods <= self.horizon for periods in ahead.values()):
            return None
        return np.array(numbers, np.intp) * self.horizon + [ahead[date] - 1 for date in rows["date"]]

    def _ahead(self, date: dt.date) -> int:
        return -(-(date - self.forecaster.origin).days // self._days)

    # -- forecast

    def forecast(self, rows: Sequence[Row], at: Array) -> list[dict[str, Any]]:
        """One mapping per row, as a row of :meth:`Forecaster.forecast`; ``at``: from :meth:`places`."""
        if len(rows) == 1 and (one := self._one.forecast(rows[0], at.item(0))) is not None:
            return [one]
        return self._together(rows, at)

    def _together(self, rows: Sequence[Row], at: Array) -> list[dict[str, Any]]:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = self.forecast_columns({name: [row.get(name) for row in rows] for name in names}, at)
        named = tuple(columns)
        return [dict(zip(named, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def forecast_columns(self, rows: Columnar, at: Array) -> Columnar:
        """As :meth:`forecast`, for the rows' columns and into columns; where a row says nothing stands None."""
        begun = self.begin_columns(rows, at)
        return begun.known | begun.units()

    def begin_columns(self, rows: Columnar, at: Array) -> Begun:
        """As :meth:`forecast_columns`; many rows are walked through the trees beside whoever asked for them."""
        given = [name for name in self._defaults if name in rows]
        plan = {name: self._used(name, rows.get(name), at) for name in self._defaults}
        x = self._featured(at, given, plan)
        block, shut = self._block[at], self._shut_of(at, given, plan)
        trees = self._beside.submit(self._predict, x, at, block) if len(x) >= FEW else None
        columns: Columnar = {name: _as_list(values) for name, values in plan.items()}
        columns["holiday"] = list(map(int, columns["holiday"]))
        columns |= self._supported(rows["date"], at, shut, plan)
        columns["ahead"], columns["block"] = (at % self.horizon + 1).tolist(), block.tolist()

        def units() -> Columnar:
            return self._units(trees.result() if trees else self._predict(x, at, block), block, shut)

        return Begun(columns | {key: rows[key] for key in KEY}, units)

    def _units(self, point: Array, block: Array, shut: Array) -> Columnar:
        sold = {"prediction": point}
        for level, (low, high) in self.forecaster.bundle.intervals.bounds(point, block).items():
            sold |= {f"low_{level}": low, f"high_{level}": high}
        closed = shut.any()
        return {name: (np.where(shut, 0.0, units) if closed else units).tolist() for name, units in sold.items()}

    def _used(self, name: str, values: list[Any] | None, at: Array) -> Array:
        """What was given, else what is known."""
        known = self._defaults[name][at]
        if values is None:
            return known
        if None in values:
            values = [usual if value is None else value for value, usual in zip(values, known, strict=True)]
        return np.array(values, dtype=known.dtype)

    def _featured(self, at: Array, given: Sequence[str], plan: Mapping[str, Array]) -> Array:
        """Features of the rows: as known beforehand, but for those that follow from what was given."""
        x = self._ready.x[at]
        for name in given:
            values = plan[name]
            if name in self._codes:
                codes = self._codes[name]
                x[:, self._column[f"{name}_code"]] = [codes.get(text, np.nan) for text in values]
            elif name in self._column:
                x[:, self._column[name]] = values
        if "price" in given:
            self._set_price(x, at, plan["price"])
        if "promotion" in given:
            promoted = plan["promotion"] > 0
            for k, known in zip(self._same, self._promoted, strict=True):
                x[promoted, k] = known[at[promoted]]
        if any(name in given for name in self._flags):
            x[:, self._column[DAY_EFFECT]] = self._day_effects(at, plan)
        x[np.isinf(x)] = np.nan  # as to_matrix does
        return x

    def _set_price(self, x: Array, at: Array, price: Array) -> None:
        with np.errstate(all="ignore"):
            for k, past in self._past_prices.items():
                x[:, k] = price / past[at]

    def _shut_of(self, at: Array, given: Sequence[str], plan: Mapping[str, Array]) -> Array:
        if self._closed.keys().isdisjoint(given):
            return self._shut[at]
        return np.any([plan[name] == value for name, value in self._closed.items()], axis=0)

    def _predict(self, x: Array, at: Array, block: Array) -> Array:
        point = np.zeros(len(x))
        for one in set(block.tolist()):
            mine = block == one
            point[mine] = self._of_block(one, x[mine], at[mine])
        return point

    def _of_block(self, block: int, x: Array, at: Array) -> Array:
        level = self._ready.level[at]
        if len(x) < FEW and block in self._trees:
            return self._trees[block].predict(x, level)
        inputs = Inputs(x, level, self._ready.seasonal_naive[at], self._ready.moving_average[at])
        return self.forecaster.bundle.model.predict(block, inputs)

    # -- effects of days: of flags that were given

    def _day_effects(self, at: Array, plan: Mapping[str, Array]) -> list[float]:
        flags = list(zip(*(plan[name].tolist() for name in self._flags), strict=True))
        keys = [(*self._cell(place), *told) for place, told in zip(at.tolist(), flags, strict=True)]
        if missing := [key for key in dict.fromkeys(keys) if key not in self._effects]:
            if len(self._effects) + len(missing) > MOST_EFFECTS:
                self._effects.clear()
                missing = list(dict.fromkeys(keys))
            self._effects |= dict(zip(missing, self._learnt(missing), strict=True))
        return [self._effects[key] for key in keys]

    def _cell(self, place: int) -> tuple[Any, ...]:
        """The day and the groups of a position."""
        number, k = divmod(place, self.horizon)
        date = self.forecaster.origin + dt.timedelta(days=self._days * (k + 1))
        return (date, *self._groups[number])

    def _learnt(self, keys: Sequence[tuple[Any, ...]]) -> list[float]:
        """By the one implementation, and kept: a plan repeats its flags on many rows."""
        days = self.forecaster.bundle.days
        assert days is not None
        text = self.forecaster.columns.text
        schema: dict[str, Any] = {"date": pl.Date, **self._group_types}
        schema |= {name: pl.String if name in text else pl.Float64 for name in self._flags}
        frame = pl.DataFrame(list(keys), schema=schema, orient="row")
        return days.of(frame.with_columns(pl.col(pl.Float64).fill_nan(None))).to_list()

    # -- support and warnings

    def _supported(self, dates: Sequence[dt.date], at: Array, shut: Array, plan: Mapping[str, Array]) -> Columnar:
        number, unknown = at // self.horizon, np.full(len(at), np.nan)
        price, promoted = plan.get("price", unknown), plan.get("promotion", unknown) > 0
        own, siblings = self._support.similar(number, promoted, price)
        outside = self._outside(number, plan, price, promoted)
        # As Forecaster._flags has them and in its order; the others cannot stand at a usual row.
        flags = {
            "unseen_in_training": self._untrained[number],
            "closed": shut,
            "off_calendar": self._off_calendar(dates),
            "no_similar_days": (own == 0) & (siblings == 0),
            "siblings_only": (own == 0) & (siblings > 0),
            "price_outside": outside.get("price", False),
            "promotion_outside": outside.get("promotion", False),
            "regressor_outside": _any(mask for name, mask in outside.items() if name not in ("price", "promotion")),
        }
        return {
            "similar_days": own.tolist(),
            "similar_sibling_days": siblings.tolist(),
            "outside": _standing(outside, len(at)),
            "warnings": _standing(flags, len(at)),
        }

    def _outside(self, number: Array, plan: Mapping[str, Array], price: Array, promoted: Array) -> dict[str, Array]:
        """As :meth:`ml.support.SupportTable.outside`: per input the rows at which it is."""
        masks = {}
        if "price" in plan:
            masks["price"] = self._support.price_outside(number, price)
        if "promotion" in plan:
            masks["promotion"] = self._support.promotion_outside(number, promoted)
        for name, (low, high) in self._support.table.limits.items():
            masks[name] = (plan[name] < low) | (plan[name] > high)
        for name, words in self._support.table.words.items():
            known = {*words, None}
            masks[name] = np.array([text not in known for text in plan[name]])
        return masks

    def _off_calendar(self, dates: Sequence[dt.date]) -> Array | bool:
        if self._days == 1:
            return False
        return np.array([(date - self.forecaster.origin).days % self._days > 0 for date in dates])

    # -- proof

    def difference(self, rows: int = 24) -> float:
        """Largest difference to the forecaster over the horizon and under other plans, as a multiple of what is
        tolerated."""
        every = self.forecaster.next_days([], [])
        some = every.gather_every(max(1, every.height // rows)).select(
            [c for c in every.columns if c in (*KEY, "price")]
        )
        worst = 0.0
        for share, promotion in PLANS:
            plan = some.select(KEY) if share is None else some.with_columns(promotion=pl.lit(promotion))
            if "price" in plan.columns:
                plan = plan.with_columns(pl.col("price") * share)
            worst = max(worst, self._off(plan))
        return worst

    def _off(self, plan: pl.DataFrame) -> float:
        rows = [{name: value for name, value in row.items() if value is not None} for row in plan.to_dicts()]
        known = [row for row in rows if (row["store"], row["product"]) in self._series]
        at = self.places(known)
        if at is None or not known:
            return 0.0
        expected = self.forecaster.forecast(pl.DataFrame(known, schema_overrides={"date": pl.Date})).rows(named=True)
        names = ("prediction", *(f"{side}_{level}" for level in LEVELS for side in ("low", "high")))
        singly = [self.forecast([row], at[k : k + 1])[0] for k, row in enumerate(known)]
        answers = [*self._together(known, at), *singly]
        pairs = [(a[name], b[name]) for a, b in zip(answers, expected * 2, strict=True) for name in names]
        return beyond(*np.array(pairs).T)


def beyond(found: Array, expected: Array) -> float:
    """Largest difference as a multiple of what is tolerated; NaN where one of them is none."""
    allowed = np.maximum(TOLERANCE, RELATIVE * np.abs(expected))
    return float((np.abs(found - expected) / allowed).max(initial=0.0))


def proven_trees(forecaster: Forecaster, block: Array, ready: Inputs) -> Mapping[int, BlockTrees]:
    """Trees that answer a few rows sooner, by block: those for oneDAL, where the model has them, else for ONNX Runtime.

    None, with the reason in the log, where they would not answer the same.
    """
    model = forecaster.bundle.model
    if blocks := hastened_blocks(model):
        return blocks
    if not isinstance(model, XGBoostModel):
        return {}
    found: dict[int, BlockTrees] = {}
    for one, members in model.blocks.items():
        mine = np.flatnonzero(block == one)
        rows = ready.take(mine[:: max(1, len(mine) // PROVEN)])
        try:
            trees = OnnxTrees(members)
            off = beyond(trees.predict(rows.x, rows.level), model.predict(one, rows))
        except Exception as error:  # whatever a converter or a runtime of another version brings: XGBoost goes on
            log.warning("block %d stays with XGBoost: %s: %s", one, type(error).__name__, error)
            return {}
        if not off <= 1:
            log.warning("block %d stays with XGBoost: ONNX Runtime is %.3g times the tolerance off", one, off)
            return {}
        found[one] = trees
    return found


def _values(column: pl.Series) -> Array:
    """Numbers as double precision with NaN for null, texts as objects."""
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).to_numpy()
    return np.array(column.to_list(), dtype=object)


def _any(masks: Iterable[Array]) -> Array | bool:
    found: Array | bool = False
    for mask in masks:
        found = found | mask
    return found


def _standing(masks: Mapping[str, Any], count: int) -> list[list[str]]:
    """Per row the names of the masks that stand at it, in their order."""
    found: list[list[str]] = [[] for _ in range(count)]
    for name, mask in masks.items():
        if mask is not False:
            for place in np.asarray(mask).nonzero()[0]:
                found[place].append(name)
    return found


def _as_list(values: Array) -> list[Any]:
    found = values.tolist()
    return [None if value != value else value for value in found]
