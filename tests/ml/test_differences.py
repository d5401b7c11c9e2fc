"""The interval of a difference, against errors drawn by chance and against sums by hand."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml.differences import difference
from ml.sums import KINDS, Sums, _keys

FIRST = dt.date(2026, 3, 2)
# A row deviates by a tenth of what row_scale gives; a fifth of its variance is common to the series' whole horizon.
SPREAD = {"centre": [0.0, 1000.0], "spread": [0.5, 0.5]}
VARIANCE = {"series/period": 0.5, "series/week": 0.2, "series/horizon": 0.2, "all/period": 0.1}
SUMS = Sums({7: SPREAD}, VARIANCE, {}, 7)


def rows(values, similar=25, siblings=0):
    count = len(values)
    return pl.DataFrame(
        {
            "store": ["S"] * count, "product": ["P"] * count, "ahead": list(range(1, count + 1)), "block": [7] * count,
            "date": [FIRST + dt.timedelta(days=k) for k in range(count)],
            "prediction": [float(value) for value in values], "similar_days": [similar] * count,
            "similar_sibling_days": [siblings] * count, "outside": [[]] * count,
        },
        schema_overrides={"outside": pl.List(pl.String)},
    )  # fmt: skip


def test_a_plan_beside_itself_differs_by_nothing():
    found = difference(SUMS, rows([10, 20]), rows([10, 20], similar=0))
    assert (found.units, found.changed, found.unsupported) == (0, 0, 0)
    assert found.interval == {"80": (0, 0), "95": (0, 0)}


def test_errors_that_both_plans_share_cancel():
    """Every effect drawn 20,000 times: what the difference then deviates by is what the formula says."""
    before, after = [30.0] * 10, [30.0] * 4 + [55.0] * 3 + [20.0] * 3
    spread = [SUMS.deviation(rows(values)) for values in (before, after)]
    frame = rows(before).with_columns(_week=(pl.col("ahead") - 1) // 7)
    chance, errors = np.random.default_rng(1), 0.0
    for kind in KINDS:
        if kind in VARIANCE:
            keys = frame.select(pl.struct(_keys(kind)).rank("dense") if _keys(kind) else pl.lit(1)).to_series()
            codes = np.resize(keys.to_numpy().astype(int), frame.height) - 1
            errors = errors + np.sqrt(VARIANCE[kind]) * chance.standard_normal((20_000, codes.max() + 1))[:, codes]
    drawn = (errors * (spread[1] - spread[0])).sum(axis=1)
    assert SUMS.variance_of(rows(after), spread[1] - spread[0]) == pytest.approx(drawn.var(), rel=0.05)
    apart = (errors * spread[1]).sum(axis=1).var() + (errors * spread[0]).sum(axis=1).var()
    assert drawn.var() < 0.1 * apart


def test_how_well_the_effect_is_known_follows_from_the_days_like_it():
    """By hand: two changed days, each plan's mean known from n days, the errors of a plan's days alike."""
    before, after = rows([35, 35, 35], similar=100), rows([35, 48, 48], similar=16)
    one, other = 0.5 * np.sqrt(36), 0.5 * np.sqrt(49)
    known = (2 * one / 10) ** 2 + (2 * other / 4) ** 2
    shared = SUMS.variance_of(after, np.array([0, other - one, other - one]))
    low, high = difference(SUMS, before, after).interval["80"]
    assert (high - low) / 2 == pytest.approx(1.2815515655 * np.sqrt(known + shared))
    assert (high + low) / 2 == pytest.approx(26)
    few = difference(SUMS, before, after.with_columns(similar_days=pl.lit(1))).interval["80"]
    assert few[1] - few[0] > 2 * (high - low)
    helped = difference(SUMS, before, after.with_columns(similar_sibling_days=pl.lit(84))).interval["80"]
    assert helped[1] - helped[0] < high - low


def test_without_a_similar_day_nothing_can_be_said():
    plan = rows([10, 25, 25]).with_columns(similar_days=pl.Series([9, 0, 9]))
    found = difference(SUMS, rows([10, 10, 10]), plan)
    assert (found.interval, found.changed, found.unsupported, found.units) == (None, 2, 1, 30)


def test_nor_where_a_price_was_never_asked():
    outside = pl.Series([[], ["price"], []], dtype=pl.List(pl.String))
    found = difference(SUMS, rows([10, 10, 10]), rows([10, 8, 8]).with_columns(outside=outside))
    assert (found.interval, found.changed, found.unsupported) == (None, 2, 1)
