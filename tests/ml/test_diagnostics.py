"""Calibration, spreads and disagreements by hand on rows that are made for it."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml import diagnostics
from ml.diagnostics import calibration, disagreements, spreads

FIRST = dt.date(2026, 3, 2)


def rows(count=1_000, **columns):
    """Forecasts 1 to ``count``, of which every third day sold more than said; 28 periods ahead, by turns."""
    forecast = np.arange(1, count + 1, dtype=float)
    ahead = np.arange(count) % 28 + 1
    frame = pl.DataFrame(
        {
            "origin": [FIRST] * count, "date": [FIRST + dt.timedelta(days=int(a)) for a in ahead], "ahead": ahead,
            "store": ["S"] * count, "product": [f"P{n % 9}" for n in range(count)], "challenger": forecast,
            "y": forecast + np.where(np.arange(count) % 3 == 0, 30.0, 0.0),
        }
    )  # fmt: skip
    return frame.with_columns(in_80=pl.col("y") == pl.col("challenger"), in_95=pl.lit(True), **columns)


def test_forecasts_of_one_size_stand_beside_what_sold():
    bins = calibration(rows(), "challenger")
    assert [item.rows for item in bins] == [100] * 10
    assert [item.forecast for item in bins] == [50.5 + 100 * n for n in range(10)]
    assert [round(item.actual - item.forecast) for item in bins] == [10] * 10
    assert bins[0].coverage == {"80": pytest.approx(0.66), "95": 1.0}


def test_few_rows_make_few_bins():
    assert [item.rows for item in calibration(rows(120), "challenger")] == [60, 60]
    assert len(calibration(rows(20), "challenger")) == 1


def test_errors_by_week_ahead():
    judged = rows().with_columns(champion=pl.col("y") - 5, seasonal_naive=pl.col("y") + pl.col("ahead"))
    found = {
        (item.model, item.week): item.quantiles
        for item in spreads(judged, ["challenger", "champion", "seasonal_naive", "linear"])
    }
    assert set(found) == {(m, w) for m in ("challenger", "champion", "seasonal_naive") for w in (1, 2, 3, 4)}
    assert found["champion", 3] == (-5,) * 5
    assert found["challenger", 1] == (-30, -30, 0, 0, 0)
    assert found["seasonal_naive", 1][2] == 4


def test_weekly_data_has_a_spread_for_each_week():
    weekly = rows(400).with_columns(ahead=pl.Series(np.arange(400) % 4 + 1))
    weekly = weekly.with_columns(date=pl.col("origin") + pl.duration(days=7 * pl.col("ahead")))
    assert [item.week for item in spreads(weekly, ["challenger"])] == [1, 2, 3, 4]


def test_where_two_models_disagree_most():
    off = np.zeros(1_000)
    off[[7, 300, 900]] = [4, -90, 20]
    found = disagreements(rows().with_columns(champion=pl.col("challenger") + pl.Series(off)))
    assert [item.champion - item.challenger for item in found] == [-90, 20, 4]
    assert (found[0].product, found[0].actual, found[0].challenger) == ("P3", 331, 301)
    assert disagreements(rows()) == ()
    everywhere = disagreements(rows().with_columns(champion=pl.col("challenger") * 2))
    assert len(everywhere) == diagnostics.MOST_DISAGREEMENTS
