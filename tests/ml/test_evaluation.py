"""Metrics by hand on three rows; the evaluation of a real backtest."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from ml.evaluation import MIN_SEGMENT_ROWS, evaluate, held_out_intervals, measure, pinball, rmspe, wape
from ml.sums import KINDS

Y, F = np.array([2.0, 0.0, 8.0]), np.array([1.0, 1.0, 10.0])


def test_by_hand():
    found = measure(Y, F)
    assert found.wape == pytest.approx(4 / 10)
    assert found.bias == pytest.approx(2 / 10)
    assert found.mae == pytest.approx(4 / 3)
    assert found.rmse == pytest.approx(math.sqrt(6 / 3))
    assert found.rmspe == pytest.approx(math.sqrt((0.5**2 + 0.25**2) / 2))


def test_pinball_by_hand():
    found = pinball(np.array([10.0, 10.0, 10.0]), {0.9: np.array([8.0, 12.0, 10.0]), 0.1: np.array([8.0, 12.0, 10.0])})
    assert found.tolist() == pytest.approx([(0.9 * 2 + 0.1 * 2) / 2, (0.1 * 2 + 0.9 * 2) / 2, 0])


def test_intervals_are_judged_on_folds_that_they_have_not_seen(judged):
    """A fold whose sales are all ten times as high lies outside what the other fold says."""
    first = pl.col("fold") == 0
    moved = judged.with_columns(pl.when(first).then(pl.col("y") * 10 + 500).otherwise("y").alias("y"))
    found = held_out_intervals(moved, "challenger")
    assert found.filter(first)["in_95"].mean() == 0
    assert found.filter(first)["pinball"].mean() > 100


def test_a_single_fold_is_judged_by_every_other_day(judged):
    found = held_out_intervals(judged.filter(pl.col("fold") == 0), "challenger")
    assert 0.6 < found["in_80"].mean() < 0.95


def test_nothing_sold_is_not_a_perfect_score():
    assert math.isnan(wape(np.zeros(3), F))
    assert math.isnan(rmspe(np.zeros(3), F))
    assert measure(np.zeros(3), F).wape > 0


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        measure(np.zeros(0), np.zeros(0))


def test_the_backtest_is_judged_on_the_same_rows(judged):
    found = evaluate(judged, ["challenger", "seasonal_naive", "moving_average", "linear"], "v")
    assert {m.rows for m in found.overall.values()} == {judged.height}
    assert sum(fold.rows for fold in found.folds) == judged.height
    assert [fold.origin for fold in found.folds] == sorted(fold.origin for fold in found.folds)
    assert found.overall["challenger"].wape < found.overall["seasonal_naive"].wape
    assert 0.7 < found.overall["challenger"].coverage["80"] < 0.9
    assert 0.9 < found.overall["challenger"].coverage["95"] <= 1
    promoted = int((judged["promotion"] > 0).sum())
    wanted = {"store", "product", "horizon"} | ({"promotion"} if promoted >= MIN_SEGMENT_ROWS else set())
    assert {s.by for s in found.segments} == wanted
    by_store = [s for s in found.segments if s.by == "store"]
    assert sum(s.rows for s in by_store) == judged.height
    assert found.overall["challenger"].pinball < found.overall["seasonal_naive"].pinball
    assert [item.kind for item in found.sums] == list(KINDS)
    assert {item.sums for item in found.sums if item.kind == "all/horizon"} == {
        found.folds[-1].rows and len(found.folds)
    }
    assert sum(item.rows for item in found.calibration) == judged.height
    assert {item.model for item in found.spreads} == {"challenger", "seasonal_naive"}
    assert found.disagreements == ()  # no champion took part
    assert type(found).model_validate_json(found.model_dump_json()) == found
