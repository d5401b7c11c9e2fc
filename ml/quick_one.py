"""One usual row in plain Python: a hundred calls of numpy for one number each take longer than the trees.

The same steps as :class:`ml.quick.Quick` takes for many rows, for the row that is asked for most: with a price, a
promotion or a holiday of its own, or none. What Quick makes of other rows it is left to make of them.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.features import KEY
from ml.support import SIMILAR_PRICE, Counts

if TYPE_CHECKING:
    from ml.quick import Quick

PLANNED = frozenset({*KEY, "price", "promotion", "holiday"})
NAN, INFINITE = float("nan"), float("inf")
LARGEST = 3.4028235677973366e38  # from here on a number is infinite in single precision


class QuickOne:
    """Answers one row of a :class:`ml.quick.Quick`, whose tables it uses."""

    def __init__(self, quick: Quick) -> None:
        self._quick = quick
        flags = {*quick._flags, *quick._closed}  # what follows from these is left to Quick
        self._planned = PLANNED - flags
        self._bounds = quick.forecaster.bundle.intervals.of_one()
        table = quick._support.table
        self._counts = {kind: _Sorted(counts) for kind, (_, counts, _) in table._indexes.items()}
        self._unpriced = {kind: unpriced for kind, (_, _, unpriced) in table._indexes.items()}
        self._limits = dict(table.limits)
        self._words = {name: {*words, None} for name, words in table.words.items()}

    def forecast(self, row: Mapping[str, Any], at: int) -> dict[str, Any] | None:
        """As :meth:`ml.quick.Quick.forecast`; None for a row that is not for here."""
        quick = self._quick
        block = quick._block.item(at)
        if self._bounds is None or block not in quick._trees or not row.keys() <= self._planned:
            return None
        plan = {name: values.item(at) for name, values in quick._defaults.items()}
        given = [name for name in plan if name in row]
        for name in given:
            value = row[name]
            if value is None:
                return None
            plan[name] = float(value)
        x = self._featured(at, given, plan)
        point = quick._trees[block].predict_one(x, quick._ready.level.item(at))
        shut = bool(quick._shut[at])
        units = {"prediction": point, **self._bounds(point, block)}
        found: dict[str, Any] = {name: None if value != value else value for name, value in plan.items()}
        found["holiday"] = int(found["holiday"])
        found |= dict.fromkeys(units, 0.0) if shut else units
        found |= self._supported(row["date"], at, shut, plan)
        found["ahead"], found["block"] = at % quick.horizon + 1, block
        found |= {key: row[key] for key in KEY}
        return found

    def _featured(self, at: int, given: list[str], plan: Mapping[str, Any]) -> np.ndarray:
        quick = self._quick
        x = quick._ready.x[at : at + 1].copy()
        for name in given:
            if name in quick._column:
                x[0, quick._column[name]] = _single(plan[name])
        if "price" in given:
            for k, past in quick._past_prices.items():
                before = past.item(at)
                x[0, k] = _single(plan["price"] / before) if before else NAN
        if "promotion" in given and plan["promotion"] > 0:
            for k, known in zip(quick._same, quick._promoted, strict=True):
                x[0, k] = _single(known.item(at))
        return x

    # -- support and warnings

    def _supported(self, date: dt.date, at: int, shut: bool, plan: Mapping[str, Any]) -> dict[str, Any]:
        quick, support = self._quick, self._quick._support
        number = at // quick.horizon
        price = plan.get("price", NAN)
        promoted = plan.get("promotion", NAN) > 0
        own, siblings = self._similar(number, promoted, price)
        outside = []
        if price < support.low.item(number) or price > support.high.item(number):  # no price is not outside
            outside.append("price")
        if promoted and support.never[number]:
            outside.append("promotion")
        inputs = len(outside)
        outside += [name for name, (low, high) in self._limits.items() if plan[name] < low or plan[name] > high]
        outside += [name for name, words in self._words.items() if plan[name] not in words]
        flags = {
            "unseen_in_training": quick._untrained[number],
            "closed": shut,
            "off_calendar": quick._days > 1 and (date - quick.forecaster.origin).days % quick._days > 0,
            "no_similar_days": not own and not siblings,
            "siblings_only": not own and siblings > 0,
            "price_outside": "price" in outside[:inputs],
            "promotion_outside": "promotion" in outside[:inputs],
            "regressor_outside": len(outside) > inputs,
        }
        return {
            "similar_days": own,
            "similar_sibling_days": siblings,
            "outside": outside,
            "warnings": [name for name, stands in flags.items() if stands],
        }

    def _similar(self, number: int, promoted: bool, price: float) -> tuple[int, int]:
        """As :meth:`ml.support.SeriesSupport.similar`."""
        own, product = (self._within(kind, number, promoted, price) for kind in ("series", "product"))
        if product > own:
            return own, product - own
        usual = self._quick._support.usual.item(number)
        relative = price / usual if usual else NAN if price == 0 or price != price else INFINITE
        store, itself = (self._within(kind, number, promoted, relative) for kind in ("store", "own"))
        return own, store - itself

    def _within(self, kind: str, number: int, promoted: bool, price: float) -> int:
        group = self._quick._support.groups[kind].item(number, int(promoted))
        unpriced: int = self._unpriced[kind].item(group)
        if price != price:
            return self._counts[kind].between(group, -INFINITE, INFINITE) + unpriced
        return self._counts[kind].between(group, price / (1 + SIMILAR_PRICE), price / (1 - SIMILAR_PRICE)) + unpriced


class _Sorted:
    """A :class:`ml.support.Counts` for one question at a time."""

    def __init__(self, counts: Counts) -> None:
        # Of a view, bisect takes plain numbers.
        self._values, self._keys, self._total = counts.values.data, counts.keys.data, counts.total.data
        self._width = len(counts.values) + 1

    def between(self, group: int, low: float, high: float) -> int:
        if group < 0:
            return 0
        first = group * self._width + bisect_left(self._values, low)
        last = group * self._width + bisect_right(self._values, high)
        found: int = self._total[bisect_left(self._keys, last)] - self._total[bisect_left(self._keys, first)]
        return found


def _single(value: float) -> float:
    """What is infinite in single precision is not known."""
    return value if -LARGEST < value < LARGEST else NAN
