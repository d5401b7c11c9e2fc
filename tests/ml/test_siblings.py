"""What a new series borrows: levels found again when a known series is taken away, attributes, dates."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml import demo
from ml.siblings import Siblings, attributes_of, levels_of

DAY = dt.date(2026, 3, 2)


def made(levels: dict[tuple[str, str], float], **attributes: dict) -> Siblings:
    frame = pl.DataFrame(
        [(s, p, v) for (s, p), v in levels.items()], schema=["store", "product", "level"], orient="row"
    )
    kept = frame.select("store", "product").with_columns(
        pl.col(name.split("_")[0]).replace_strict(values, default=None).alias(name.replace("_", "."))
        for name, values in attributes.items()
    )
    return Siblings(frame, kept)


def target(found: Siblings, **pair) -> float:
    return found._donors(pair)["_target"][0]


def test_a_product_new_in_a_store_sells_by_the_stores_size():
    """b sells twice of everything that a sells."""
    found = made({("a", "p"): 10, ("b", "p"): 20, ("a", "q"): 3, ("b", "q"): 6, ("a", "r"): 50})
    assert target(found, store="b", product="r") == pytest.approx(100)
    donors = found._donors({"store": "b", "product": "r"})
    assert donors.select("_store", "_product").rows() == [("a", "r")]


def test_an_unknown_product_is_like_those_of_its_store_with_its_attributes():
    levels = {("a", "p"): 10, ("a", "q"): 12, ("a", "r"): 500, ("b", "p"): 30}
    kinds = {"p": "bread", "q": "bread", "r": "toys"}
    found = made(levels, product_kind=kinds)
    assert target(found, store="a", product="new", **{"product.kind": "bread"}) == pytest.approx(11)
    assert target(found, store="a", product="new", **{"product.kind": "toys"}) == pytest.approx(500)
    assert target(found, store="a", product="new", **{"product.kind": None}) == pytest.approx(174)
    assert target(found, store="a", product="new") == pytest.approx(174)


def test_an_unknown_store_is_like_stores_with_its_attributes():
    levels = {
        (s, p): size * sold for s, size in (("big1", 4), ("big2", 4), ("small", 1)) for p, sold in (("p", 5), ("q", 7))
    }
    found = made(levels, store_size={"big1": "L", "big2": "L", "small": "S"})
    assert target(found, store="new", product="p", **{"store.size": "L"}) == pytest.approx(20)
    assert target(found, store="new", product="p", **{"store.size": "S"}) == pytest.approx(5)
    assert target(found, store="new", product="p") == pytest.approx(15)


def test_nothing_like_it_gets_the_mean_of_all():
    found = made({("a", "p"): 10, ("b", "q"): 30})
    assert target(found, store="new", product="new") == pytest.approx(20)


def test_features_are_the_mean_of_the_donors_and_units_follow_the_level():
    found = made({("a", "p"): 10, ("b", "p"): 20, ("a", "q"): 4, ("b", "q"): 8, ("c", "q"): 8})
    table = pl.DataFrame(
        {
            "store": ["a", "b", "a", "b", "c"],
            "product": ["p", "p", "q", "q", "q"],
            "date": [DAY] * 5,
            "r_weekday_4": [1.2, 1.4, 9.0, 9.0, 9.0],
            "r_store_trend": [0.5, 0.6, 0.5, 0.6, 0.7],
            "level": [10.0, 20.0, 4.0, 8.0, 8.0],
            "log_level": [0.0] * 5,
            "seasonal_naive": [11.0, 26.0, 4.0, 8.0, 8.0],
            "moving_average": [10.0, 20.0, 4.0, 8.0, 8.0],
        }
    )
    (lent,) = found.borrowed(pl.DataFrame({"store": ["c"], "product": ["p"], "date": [DAY]}), table).to_dicts()
    level = 20.0  # b sells twice of a, and c of q what b does
    assert lent["level"] == pytest.approx(level)
    assert lent["log_level"] == pytest.approx(np.log(level))
    assert lent["r_weekday_4"] == pytest.approx(1.3)
    assert lent["r_store_trend"] == 0.7
    assert lent["seasonal_naive"] == pytest.approx(level * 1.2)
    assert lent["moving_average"] == pytest.approx(level)


def test_a_date_without_donors_still_has_a_level():
    found = made({("a", "p"): 10, ("b", "p"): 20})
    table = pl.DataFrame(
        schema={"store": pl.String, "product": pl.String, "date": pl.Date}
        | dict.fromkeys(["r_lag", "level", "log_level", "seasonal_naive", "moving_average"], pl.Float64)
    )
    lent = found.borrowed(pl.DataFrame({"store": ["a"], "product": ["x"], "date": [DAY]}), table)
    assert lent["level"][0] == lent["seasonal_naive"][0] == pytest.approx(10)
    assert lent["r_lag"][0] is None


@pytest.mark.parametrize("end", [dt.date(2025, 6, 1), dt.date(2026, 3, 1)])
def test_levels_found_without_the_series_forecast_nearly_as_well_as_its_own(end):
    """Every series of a chain in turn is taken away; judged on the 28 days after."""
    sold = demo.generate(end + dt.timedelta(days=28), days=56, stores=6, products=16)
    levels = sold.filter(pl.col("date") <= end).group_by("store", "product", maintain_order=True)
    levels = levels.agg(level=pl.col("sales").mean())
    keys = levels.select("store", "product")
    ours = [
        Siblings(levels.filter(pl.int_range(pl.len()) != i), keys)._donors({"store": s, "product": p})["_target"][0]
        for i, (s, p) in enumerate(keys.iter_rows())
    ]
    after = sold.filter(pl.col("date") > end).join(levels.with_columns(ours=pl.Series(ours)), on=["store", "product"])
    error = {name: (after[name] - after["sales"]).abs().sum() for name in ("ours", "level")}
    by_all = (levels["level"].mean() - after["sales"]).abs().sum()
    assert error["ours"] < 1.15 * error["level"]
    assert error["ours"] < 0.65 * by_all


def test_levels_and_attributes_are_read_from_tables():
    table = pl.DataFrame({"store": ["a", "a", "b"], "product": ["p", "p", "p"], "level": [1.0, 3.0, None]})
    assert levels_of(table).rows() == [("a", "p", 2.0)]
    state = table.with_columns(pl.Series("store.size", ["S", None, "L"]))
    assert attributes_of(state, ("store.size", "product.none")).rows() == [("a", "p", "S"), ("b", "p", "L")]
