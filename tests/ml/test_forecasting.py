from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml import demo
from ml.bundle import load_bundle
from ml.cleaning import make_panel
from ml.errors import InputError
from ml.forecasting import Forecaster, tail_of
from ml.records import Recipe
from ml.training import Tables
from ml.tuning import KNOWN_GOOD

BLOCKS = (7, 28)
SMALL = KNOWN_GOOD | {"rounds": 40, "max_depth": 4}


@pytest.fixture(scope="module")
def forecaster(bundle_folder) -> Forecaster:
    return Forecaster(load_bundle(bundle_folder))


def one(forecaster: Forecaster, ahead: int = 3, **inputs) -> pl.DataFrame:
    series = forecaster.catalog().row(0, named=True)
    row = {"date": forecaster.origin + dt.timedelta(days=ahead), "store": series["store"], "product": series["product"]}
    return pl.DataFrame([row | inputs])


def test_golden_rows_agree(forecaster):
    assert len(forecaster.bundle.golden) > 10
    assert forecaster.check_golden() < 1e-6


def test_all_series_and_days_are_answered_in_order(forecaster):
    rows = forecaster.next_days([], []).sample(fraction=1.0, shuffle=True, seed=1)
    found = forecaster.forecast(rows)
    assert_frame_equal(found.select("date", "store", "product"), rows.select("date", "store", "product"))
    assert found["prediction"].is_finite().all()
    assert (found["prediction"] >= 0).all()
    for low, high in (("low_80", "high_80"), ("low_95", "high_95")):
        assert (found[low] <= found["prediction"]).all()
        assert (found[high] >= found["prediction"]).all()
    assert (found["low_95"] <= found["low_80"]).all()
    assert found["warnings"].list.len().sum() == 0


def test_one_row_alone_gets_the_answer_it_gets_in_company(forecaster):
    rows = forecaster.next_days([], [])
    together = forecaster.forecast(rows)
    for index in (0, 40, rows.height - 1):
        alone = forecaster.forecast(rows[index])
        assert alone["prediction"][0] == pytest.approx(together["prediction"][index], rel=1e-6)


def test_what_is_left_out_is_filled_with_what_is_known(forecaster):
    bare = forecaster.forecast(one(forecaster))
    series = forecaster.catalog().row(0, named=True)
    assert bare["price"][0] == series["last_price"]
    assert bare["promotion"][0] == 0.0
    full = forecaster.forecast(one(forecaster, price=series["last_price"], promotion=0.0))
    assert full["prediction"][0] == bare["prediction"][0]


def test_promotion_raises_and_support_counts_like_days(forecaster):
    plain, promoted = (forecaster.forecast(one(forecaster, promotion=p)) for p in (0.0, 0.2))
    assert promoted["prediction"][0] > plain["prediction"][0]
    state = forecaster.state.filter(pl.col("sales").is_not_null())
    series = forecaster.catalog().row(0, named=True)
    mine = state.filter((pl.col("store") == series["store"]) & (pl.col("product") == series["product"]))
    near = (mine["price"] / series["last_price"] - 1).abs() <= 0.1
    assert plain["similar_days"][0] == int((near & (mine["promotion"] == 0)).sum()) > 50


def test_an_absurd_price_has_no_support(forecaster):
    found = forecaster.forecast(one(forecaster, price=9_999.0))
    assert found["similar_days"][0] == found["similar_sibling_days"][0] == 0
    assert found["outside"][0].to_list() == ["price"]
    assert found["warnings"][0].to_list() == ["no_similar_days", "price_outside"]


def test_a_plan_tried_only_elsewhere_is_said(chain, forecaster):
    """Without promotions of its own a series leans on those of its siblings."""
    series = forecaster.catalog().row(0, named=True)
    mine = (pl.col("store") == series["store"]) & (pl.col("product") == series["product"])
    never = chain.panel.frame.with_columns(promotion=pl.when(mine).then(0.0).otherwise("promotion"))
    usual = float(never.filter(mine)["price"].median())
    found = Forecaster(forecaster.bundle, never).forecast(one(forecaster, promotion=0.3, price=usual))
    assert found["similar_days"][0] == 0 < found["similar_sibling_days"][0]
    assert found["warnings"][0].to_list() == ["siblings_only", "promotion_outside"]


def test_unusual_dates_are_answered_and_flagged(forecaster):
    beyond = forecaster.forecast(one(forecaster, ahead=60))
    past = forecaster.forecast(one(forecaster, ahead=-10))
    assert beyond["warnings"][0].to_list() == ["beyond_horizon"]
    assert past["warnings"][0].to_list() == ["past_date"]
    assert np.isfinite(beyond["prediction"][0])
    with pytest.raises(InputError, match="too far ahead"):
        forecaster.forecast(one(forecaster, ahead=900))


def test_far_dates_are_answered_the_same_whatever_else_is_asked(forecaster):
    """Alone, in company of nearer and further dates, and in another order."""
    rows = pl.concat([one(forecaster, ahead) for ahead in (29, 33, 56, 57, 100, 300, 419, -3, 5)])
    together = forecaster.forecast(rows)
    other_way = forecaster.forecast(rows.reverse()).reverse()
    alone = pl.concat([forecaster.forecast(rows[i]) for i in range(rows.height)])
    for name in ("prediction", "low_80", "high_95"):
        assert together[name].to_list() == other_way[name].to_list() == alone[name].to_list()
    assert together["warnings"].to_list() == alone["warnings"].to_list()


def test_a_date_beyond_the_horizon_uses_the_newest_sales_it_may(chain, forecaster):
    """What sold within the last days changes the answer, also 40 days ahead."""
    recent = pl.col("date") > forecaster.origin - dt.timedelta(days=14)
    changed = chain.panel.frame.with_columns(sales=pl.when(recent).then(pl.col("sales") * 5).otherwise("sales"))
    moved = Forecaster(forecaster.bundle, changed).forecast(one(forecaster, 40))["prediction"][0]
    assert moved > 1.2 * forecaster.forecast(one(forecaster, 40))["prediction"][0]


def test_a_past_date_is_forecast_from_what_was_known_a_block_earlier(chain, forecaster):
    """Changing the last week's sales must not change the answer for a day within that week."""
    last_week = pl.col("date") > forecaster.origin - dt.timedelta(days=6)
    changed = chain.panel.frame.with_columns(sales=pl.when(last_week).then(999.0).otherwise("sales"))
    row = one(forecaster, ahead=0)
    same = Forecaster(forecaster.bundle, changed).forecast(row)
    assert same["prediction"][0] == pytest.approx(forecaster.forecast(row)["prediction"][0], rel=1e-9)


def test_a_new_product_starts_near_its_siblings(forecaster):
    series = forecaster.catalog()
    row = one(forecaster, product="never seen", price=float(series["last_price"].median()))
    found = forecaster.forecast(row)
    assert found["warnings"][0].to_list() == ["new_series"]
    assert 0 < found["prediction"][0] < 5 * series["mean_sales"].max()


def held_out(chain, to_data, make_bundle, judged, folder) -> tuple[Forecaster, pl.DataFrame]:
    """A forecaster that has never seen some series, and what these sold over its horizon."""
    origin = dt.date(2025, 11, 1)
    whole = make_panel(demo.generate(origin + dt.timedelta(days=28), days=300, stores=6, products=16), country="ES")
    frame = whole.frame.filter(pl.col("date") <= origin)
    pairs = frame.filter(pl.col("date") == origin).select("store", "product")
    some = pairs.gather_every(9)  # 9 and 16 have no common factor: every store, many products
    panel = make_panel(frame.join(some, on=["store", "product"], how="anti"), country="ES")
    data = to_data(panel)
    recipe = Recipe(kind="xgboost", params=SMALL, blocks=BLOCKS)
    small = dataclasses.replace(chain, panel=panel, data=data, tables=Tables(data, BLOCKS), recipe=recipe)
    sold = whole.frame.filter(pl.col("date") > origin, pl.col("sales").is_not_null())
    return Forecaster(make_bundle(folder, small, judged, recipe)), sold.join(some, on=["store", "product"])


def test_a_new_series_is_forecast_far_better_than_by_the_mean(tmp_path, chain, to_data, make_bundle, judged):
    found, sold = held_out(chain, to_data, make_bundle, judged, tmp_path / "b")
    asked = found.forecast(sold.drop("sales"))
    assert asked["warnings"].list.contains("new_series").all()
    assert sold.select("store", "product").n_unique() >= 8
    state = found.state.filter(pl.col("sales").is_not_null(), pl.col("date") > found.origin - dt.timedelta(days=28))
    product = state.group_by("product").agg(pl.col("sales").mean().alias("mean"))
    judged = sold.with_columns(forecast=asked["prediction"]).join(product, on="product")
    error = {
        name: float((value - judged["sales"]).abs().sum())
        for name, value in {"ours": judged["forecast"], "product": judged["mean"], "all": state["sales"].mean()}.items()
    }
    assert error["ours"] < 0.6 * error["all"]
    assert error["ours"] < error["product"]


def test_a_new_series_alone_gets_the_answer_it_gets_in_company(forecaster):
    rows = pl.concat(
        [
            one(forecaster, store="new store"),
            one(forecaster, 4, product="new product"),
            one(forecaster, 20, store="new store", product="new product"),
            one(forecaster, 50, product="new product"),
            one(forecaster, -4, product="new product"),
            one(forecaster),
        ]
    )
    together = forecaster.forecast(rows)
    for index in range(rows.height):
        alone = forecaster.forecast(rows[index])["prediction"][0]
        assert together["prediction"][index] == pytest.approx(alone, rel=1e-9)
    assert [w.to_list() for w in together["warnings"]][:3] == [["new_series"]] * 3


def test_a_series_that_is_sold_no_more_is_said(chain, forecaster):
    series = forecaster.catalog().row(0, named=True)
    mine = (pl.col("store") == series["store"]) & (pl.col("product") == series["product"])
    long_ago = forecaster.origin - dt.timedelta(days=100)
    ended = chain.panel.frame.filter(~mine | (pl.col("date") < long_ago))
    found = Forecaster(forecaster.bundle, ended).forecast(one(forecaster))
    assert found["warnings"][0].to_list() == ["ended_series"]
    assert found["prediction"][0] > 0


def test_a_store_that_came_after_training_is_said(chain, forecaster):
    renamed = chain.panel.frame.with_columns(store=pl.lit("opened yesterday ") + pl.col("store"))
    found = Forecaster(forecaster.bundle, renamed)
    assert found.forecast(one(found))["warnings"][0].to_list() == ["unseen_in_training"]


def test_newer_history_moves_the_origin(chain, forecaster):
    later = chain.panel.frame.with_columns(date=pl.col("date") + pl.duration(days=7))
    moved = Forecaster(forecaster.bundle, later)
    assert moved.origin == forecaster.origin + dt.timedelta(days=7)
    assert moved.next_days([], [], 1)["date"].unique().to_list() == [moved.origin + dt.timedelta(days=1)]


def test_a_state_that_lost_a_column_still_answers(chain, forecaster):
    found = Forecaster(forecaster.bundle, chain.panel.frame.drop("promotion"))
    assert found.forecast(one(found))["prediction"][0] > 0


@pytest.mark.parametrize("kind", ["linear", "seasonal_naive"])
def test_simple_models_serve_too(tmp_path, chain, judged, kind, make_bundle):
    bundle = make_bundle(tmp_path / kind, chain, judged, Recipe(kind=kind, blocks=(7, 28)))
    found = Forecaster(bundle)
    assert found.check_golden() < 1e-6
    assert found.forecast(found.next_days([], []))["prediction"].is_finite().all()


def test_the_tail_is_sorted_whatever_order_its_panel_has():
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=k) for k in range(3)]
    rows = pl.DataFrame(
        [(s, p, d) for s in "AB" for p in "xy" for d in days], ["store", "product", "date"], orient="row"
    )
    for mixed in (rows, rows.reverse(), rows.sample(fraction=1, shuffle=True, seed=1), rows.sort("product")):
        assert tail_of(mixed, "D", 7).equals(rows)
