"""Missing days and unusual sales on panels made by hand."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml import health

LAST = dt.date(2026, 3, 29)  # a Sunday
DAY = dt.timedelta(days=1)


def panel(changes=None, store="S1", product="P1", promoted=()):
    """Half a year of 10 units a day, 30 on Saturdays; ``changes``: days before the last -> sales."""
    dates = [LAST - DAY * back for back in range(181, -1, -1)]
    sold = {date: 30.0 if date.isoweekday() == 6 else 10.0 for date in dates}
    sold |= {LAST - DAY * back: value for back, value in (changes or {}).items()}
    rows = {
        "date": dates, "store": store, "product": product, "sales": [sold[date] for date in dates],
        "promotion": [float((LAST - date).days in promoted) for date in dates],
    }  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"sales": pl.Float64})


def test_missing_rows_are_counted_per_day_and_store():
    both = pl.concat([panel({3: None, 4: None}), panel({4: None}, product="P2"), panel({0: None}, store="S2")])
    counted = {item.date: (item.rows, item.missing) for item in health.days(both, "D")}
    assert len(counted) == health.SHOWN["D"]
    assert [counted[LAST - DAY * back] for back in (4, 3, 1, 0)] == [(3, 2), (3, 1), (3, 0), (3, 1)]
    first, second = health.stores(both, "D")
    assert (first.store, first.newest, first.silent_days) == ("S1", LAST, 1)
    assert first.missing == pytest.approx(3 / (2 * health.SHOWN["D"]))
    assert (second.newest, second.silent_days) == (LAST - DAY, 1)


def test_unusual_is_what_is_far_from_the_same_weekday():
    found = health.outliers(panel({1: 10.0, 8: 200.0, 2: 0.0, 3: 14.0}), "D")
    assert [(item.date, item.sales, round(item.usual, 6)) for item in found] == [
        (LAST - DAY * 8, 200.0, 30.0),
        (LAST - DAY * 2, 0.0, 10.0),
    ]


def test_promoted_days_and_small_sellers_are_no_outliers():
    assert health.outliers(panel({2: 90.0}, promoted=(2,)), "D") == ()
    small = panel({2: 0.0}).with_columns(pl.col("sales") / 3)
    assert health.outliers(small, "D") == ()


def test_days_before_the_last_weeks_are_no_news():
    assert health.outliers(panel({health.SHOWN["D"]: 300.0}), "D") == ()
    assert len(health.outliers(panel({health.SHOWN["D"] - 1: 300.0}), "D")) == 1


def test_weekly_data_is_compared_with_all_its_weeks():
    weeks = [LAST - DAY * 7 * back for back in range(60, -1, -1)]
    sales = [50.0] * 60 + [400.0]
    rows = pl.DataFrame({"date": weeks, "store": "S", "product": "P", "sales": sales})
    (found,) = health.outliers(rows, "W")
    assert (found.date, found.usual) == (LAST, pytest.approx(50.0))
    assert len(health.days(rows, "W")) == health.SHOWN["W"]
