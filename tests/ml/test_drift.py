"""Drift: what moves is found, what only goes on is not; the index against one computed by hand."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml import demo
from ml.cleaning import make_panel
from ml.drift import Learned, measure_drift, stability_index

UNTIL = dt.date(2026, 3, 1)
CUT = UNTIL - dt.timedelta(days=28)
NEW = pl.col("date") > CUT


def panel(days: int = 600) -> pl.DataFrame:
    return make_panel(demo.generate(UNTIL, days=days, stores=4, products=20), country="ES").frame


def learned(frame: pl.DataFrame) -> Learned:
    return Learned("3", "abc", frame.filter(~NEW), CUT)


def scaled(frame: pl.DataFrame, column: str, factor: float) -> pl.DataFrame:
    return frame.with_columns(pl.when(NEW).then(pl.col(column) * factor).otherwise(pl.col(column)).alias(column))


def levels(frame: pl.DataFrame) -> dict[str, str]:
    found = measure_drift(learned(frame), frame, "D", ())
    return {item.feature: item.level for item in found.features}


def test_the_index_as_computed_by_hand():
    # (0.7 - 0.5) ln(0.7 / 0.5) + (0.3 - 0.5) ln(0.3 / 0.5)
    assert stability_index(np.array([50, 50]), np.array([7, 3])) == pytest.approx(0.2 * np.log(1.4) - 0.2 * np.log(0.6))
    assert stability_index(np.array([5, 3, 2]), np.array([50, 30, 20])) == pytest.approx(0, abs=1e-12)


def test_the_same_weeks_a_year_before_are_the_reference():
    frame = panel()
    found = measure_drift(learned(frame), frame, "D", ())
    assert (found.reference, found.version, found.data_version) == ("year_before", "3", "abc")
    assert found.reference_from == CUT + dt.timedelta(days=1 - 364)
    assert found.reference_to == UNTIL - dt.timedelta(days=364)
    assert (found.date_from, found.date_to) == (CUT + dt.timedelta(days=1), UNTIL)
    assert {item.feature for item in found.features} == {"sales", "price", "promotion", "store", "product"}
    young = panel(200)
    assert measure_drift(learned(young), young, "D", ()).reference == "recent"


def test_sales_that_only_go_on_have_not_moved():
    found = levels(panel())
    assert (found["sales"], found["store"]) == ("none", "none")


def test_what_moves_is_found():
    frame = panel()
    assert levels(scaled(frame, "price", 1.4))["price"] == "strong"
    assert levels(scaled(frame, "sales", 2.5))["sales"] == "strong"
    everything = frame.with_columns(promotion=pl.when(NEW).then(0.3).otherwise(pl.col("promotion")))
    assert levels(everything)["promotion"] == "strong"
    store = frame["store"][0]
    one_store = frame.with_columns(
        sales=pl.when(NEW & (pl.col("store") == store)).then(pl.col("sales") * 20).otherwise(pl.col("sales"))
    )
    assert levels(one_store)["store"] == "strong"


def test_a_season_is_no_drift():
    """Sales that double every February, as they did the February before."""
    february = pl.col("date").dt.month() == 2
    frame = panel().with_columns(sales=pl.when(february).then(pl.col("sales") * 2).otherwise(pl.col("sales")))
    assert levels(frame)["sales"] == "none"


def test_more_drift_has_a_larger_effect():
    frame = panel()
    found = []
    for factor in (1.0, 1.2, 1.5, 2.0):
        moved = scaled(frame, "sales", factor)
        found.append({f.feature: f for f in measure_drift(learned(moved), moved, "D", ()).features}["sales"])
    assert [item.distance for item in found] == sorted(item.distance for item in found)
    assert found[-1].psi > found[0].psi


def test_columns_of_text_and_numbers_known_in_advance():
    frame = panel().with_columns(
        weather=pl.when(NEW).then(pl.lit("storm")).otherwise(pl.lit("fair")),
        heat=pl.when(NEW).then(35.0).otherwise(pl.col("date").dt.ordinal_day() % 30 * 1.0),
    )
    found = {f.feature: f for f in measure_drift(learned(frame), frame, "D", ("weather", "heat")).features}
    assert (found["weather"].kind, found["weather"].distance, found["weather"].level) == ("category", 1.0, "strong")
    assert found["heat"].kind == "numeric"
    assert found["heat"].level == "strong"


@pytest.mark.parametrize("days", [0, 3])
def test_too_little_says_so(days):
    frame = panel(200)
    known = Learned("3", "abc", frame, UNTIL - dt.timedelta(days=days))
    found = measure_drift(known, frame, "D", ())
    assert (found.reference, found.features) == (None, ())
    assert f"{days} new periods" in found.note


def test_one_shop_with_one_product():
    days = [UNTIL - dt.timedelta(days=i) for i in range(500)]
    sales = {
        "date": days,
        "sales": [10.0 + i % 7 for i in range(500)],
        "store": ["all"] * 500,
        "product": ["all"] * 500,
    }
    frame = make_panel(pl.DataFrame(sales).sort("date"), country="ES").frame
    assert levels(frame)["sales"] == "none"
    assert measure_drift(learned(frame), frame, "D", ()).rows == 28
