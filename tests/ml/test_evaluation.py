"""Metrics by hand on three rows; the evaluation of a real backtest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ml.evaluation import MIN_SEGMENT_ROWS, evaluate, measure, rmspe, wape

Y, F = np.array([2.0, 0.0, 8.0]), np.array([1.0, 1.0, 10.0])


def test_by_hand():
    found = measure(Y, F)
    assert found.wape == pytest.approx(4 / 10)
    assert found.bias == pytest.approx(2 / 10)
    assert found.mae == pytest.approx(4 / 3)
    assert found.rmse == pytest.approx(math.sqrt(6 / 3))
    assert found.rmspe == pytest.approx(math.sqrt((0.5**2 + 0.25**2) / 2))


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
