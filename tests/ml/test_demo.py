"""The demo chain: reproducible, continued seamlessly, and with the patterns that it claims to have."""

import datetime as dt
import time

import numpy as np
import polars as pl
import pytest

from ml.demo import DAYS, generate, next_week, scaled, truth
from ml.errors import InputError

UNTIL = dt.date(2026, 11, 22)


@pytest.fixture(scope="module")
def sales() -> pl.DataFrame:
    return generate(UNTIL)


@pytest.fixture(scope="module")
def effects() -> pl.DataFrame:
    return truth(UNTIL)


def test_is_a_sales_frame(sales):
    assert dict(sales.schema) == {
        "date": pl.Date,
        "store": pl.String,
        "product": pl.String,
        "sales": pl.Float64,
        "price": pl.Float64,
        "promotion": pl.Float64,
        "holiday": pl.Int8,
    }
    assert sales.null_count().sum_horizontal()[0] == 0
    assert sales.select("date", "store", "product").is_unique().all()
    assert sales["date"].max() == UNTIL
    assert sales["date"].min() == UNTIL - dt.timedelta(days=DAYS - 1)
    assert sales["store"].n_unique() == 8
    assert sales.group_by("date").agg(pl.col("product").n_unique())["product"].max() <= 40
    assert sales["price"].min() > 0
    assert sales["promotion"].is_between(0, 1).all()


def test_sales_are_whole_and_not_negative(sales):
    assert (sales["sales"] >= 0).all()
    assert (sales["sales"] % 1 == 0).all()


def test_same_arguments_give_the_same_bits(sales):
    assert generate(UNTIL).equals(sales)
    assert not generate(UNTIL, seed=8).equals(sales)


def test_default_size_is_quick():
    begin = time.process_time()
    generate(UNTIL)
    assert time.process_time() - begin < 3


@pytest.mark.parametrize("seed", [7, 11])
def test_a_later_end_does_not_change_the_past(seed):
    size = {"seed": seed, "stores": 3, "products": 9}
    before = generate(UNTIL, days=120, **size)
    after = generate(UNTIL + dt.timedelta(days=7), days=127, **size)
    assert after.filter(pl.col("date") <= UNTIL).equals(before)
    later = generate(UNTIL + dt.timedelta(days=40), days=120, **size)
    shared = pl.col("date").is_between(later["date"].min(), UNTIL)
    assert later.filter(shared).equals(before.filter(shared))


def test_next_week_continues_the_chain():
    size = {"stores": 3, "products": 9}
    week = next_week(UNTIL, **size)
    assert week["date"].min() == UNTIL + dt.timedelta(days=1)
    assert week["date"].max() == UNTIL + dt.timedelta(days=7)
    whole = generate(UNTIL + dt.timedelta(days=7), days=60, **size)
    assert whole.filter(pl.col("date") > UNTIL).equals(week)


def test_weekly_pattern(sales):
    open_daily = sales.filter(pl.col("store") == "Madrid Centro", ~pl.col("product").str.starts_with("GRD"))
    mean = dict(open_daily.group_by(pl.col("date").dt.weekday()).agg(pl.col("sales").mean()).iter_rows())
    assert mean[6] > 1.2 * mean[2]
    assert mean[5] > 1.1 * mean[2]


def test_seasons_differ_by_category(sales):
    mean = _mean_by_month(sales)
    assert mean["ICE", 7] > 2 * mean["ICE", 1]
    assert mean["SWT", 12] > 1.3 * mean["SWT", 6]
    assert mean["DAI", 7] == pytest.approx(mean["DAI", 1], rel=0.35)


def _mean_by_month(sales):
    key = (pl.col("product").str.slice(0, 3).alias("kind"), pl.col("date").dt.month().alias("month"))
    means = sales.group_by(key).agg(pl.col("sales").mean())
    return {(kind, month): value for kind, month, value in means.iter_rows()}


def test_closed_stores_have_no_rows(sales):
    assert sales.filter(pl.col("date").dt.strftime("%m-%d").is_in(["01-01", "12-25"])).is_empty()
    closing = sales.filter(pl.col("store") == "Bilbao Abando")
    assert closing.filter((pl.col("date").dt.weekday() == 7) | (pl.col("holiday") == 1)).is_empty()
    assert not sales.filter(pl.col("store") == "Madrid Centro", pl.col("date").dt.weekday() == 7).is_empty()


def test_intermittent_products_sell_nothing_on_most_days(sales, effects):
    zeros = sales.join(effects, on="product").group_by("intermittent").agg((pl.col("sales") == 0).mean())
    share = dict(zeros.iter_rows())
    assert 0.5 < share[True] < 0.9
    assert 0.0 < share[False] < 0.02


def test_promotions_last_days_to_weeks_and_not_everywhere(sales):
    runs = (
        sales.filter(pl.col("product") == "BEV-03 Cola")
        .sort("store", "date")
        .with_columns(run=pl.col("promotion").ne(pl.col("promotion").shift()).over("store").cum_sum().over("store"))
        .filter(pl.col("promotion") > 0)
        .group_by("store", "run")
        .agg(days=(pl.col("date").max() - pl.col("date").min()).dt.total_days() + 1)
    )
    assert runs.height > 8
    assert runs["days"].max() <= 14
    stores = sales.filter(pl.col("promotion") > 0).group_by("date", "product").agg(pl.col("store").n_unique())["store"]
    assert stores.min() < stores.max() <= 8


def test_products_are_launched_and_end(sales):
    life = sales.group_by("product").agg(first=pl.col("date").min(), last=pl.col("date").max())
    assert life.filter(pl.col("first") > sales["date"].min()).height >= 2
    assert life.filter(pl.col("last") < UNTIL - dt.timedelta(days=28)).height >= 2
    assert life.filter(pl.col("first") == sales["date"].min(), pl.col("last") == UNTIL).height >= 30


@pytest.mark.parametrize("year", [2023, 2030])
def test_launches_are_seen_whenever_the_demo_is_started(year):
    frame = generate(dt.date(year, 5, 1), stores=1)
    assert frame.filter(pl.col("date").min().over("product") > pl.col("date").min()).height > 0


def _fit(frame: pl.DataFrame) -> np.ndarray:
    """Elasticity and promotion effect by least squares, with store, month and weekday as dummies."""
    frame = frame.filter(pl.col("sales") > 0).with_columns(
        month=pl.col("date").dt.strftime("%Y-%m"), weekday=pl.col("date").dt.weekday().cast(pl.String)
    )
    dummies = frame.select("store", "month", "weekday").to_dummies(drop_first=True).to_numpy()
    x = np.column_stack([frame["price"].log(), frame["promotion"], np.ones(frame.height), dummies])
    return np.linalg.lstsq(x, frame["sales"].log().to_numpy(), rcond=None)[0][:2]


def test_regression_finds_the_true_effects(sales, effects):
    always_sold = sales.filter(pl.len().over("product") > 6000).partition_by("product", as_dict=True)
    regular = effects.filter(~pl.col("intermittent"), pl.col("product").is_in([name for (name,) in always_sold]))
    found = np.array([_fit(always_sold[name,]) for name in regular["product"]])
    true = regular.select("elasticity", "promotion_effect").to_numpy()
    assert len(true) > 25
    assert (np.sign(found) == np.sign(true)).all()
    assert np.abs(found - true).max() < 0.7
    assert np.abs(found - true).mean(axis=0) == pytest.approx([0, 0], abs=0.25)


def test_noise_is_wider_than_poisson(sales):
    usual = sales.filter(pl.col("product") == "BAK-02 Croissant", pl.col("promotion") == 0)
    spread = usual.group_by(
        "store", week=pl.col("date").dt.strftime("%G-%V"), weekend=pl.col("date").dt.weekday() > 5
    ).agg(ratio=pl.col("sales").var() / pl.col("sales").mean())
    assert spread["ratio"].mean() > 2


def test_truth_names_what_is_sold(sales, effects):
    assert set(effects["product"]) == set(sales["product"])
    assert (effects["elasticity"] < 0).all()
    assert (effects["promotion_effect"] > 0).all()


def test_scale():
    assert scaled(1.0) == (8, 40)
    assert scaled(0.1) == (2, 4)
    stores, products = scaled(0.25)
    frame = generate(UNTIL, days=30, stores=stores, products=products)
    assert frame["store"].n_unique() == 2
    assert frame["product"].n_unique() <= 10


def test_names_stay_distinct_in_a_larger_chain():
    frame = generate(UNTIL, days=3, stores=20, products=90)
    assert frame["store"].n_unique() == 20
    assert frame.select("date", "store", "product").is_unique().all()


@pytest.mark.parametrize("name", ["days", "stores", "products"])
def test_refuses_an_empty_chain(name):
    with pytest.raises(InputError, match=f"{name} of at least 1, not 0"):
        generate(UNTIL, **{name: 0})


def test_refuses_an_unknown_country():
    with pytest.raises(InputError, match="'XX'"):
        generate(UNTIL, days=5, country="XX")
