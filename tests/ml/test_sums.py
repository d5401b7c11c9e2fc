"""Intervals of sums: on simulated errors whose correlation is known, and on a real backtest."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml.bundle import load_bundle
from ml.errors import InputError, NotEnoughData
from ml.forecasting import Forecaster
from ml.sums import BOUNDS, KINDS, Sums, _meet, _variances, held_out

STORES, PRODUCTS, DAYS = 4, 12, 28
ORIGIN = dt.date(2026, 1, 4)


def fold(number: int, common: float, over: str = "all", seed: int = 0) -> pl.DataFrame:
    """Forecasts of 100 with errors of deviation 10, of whose variance the share ``common`` is the same in a group."""
    rng = np.random.default_rng([number, seed])
    grid = pl.DataFrame({"store": [f"s{i}" for i in range(STORES)]})
    grid = grid.join(pl.DataFrame({"product": [f"p{i}" for i in range(PRODUCTS)]}), how="cross")
    grid = grid.join(pl.DataFrame({"ahead": np.arange(1, DAYS + 1)}), how="cross")
    shared = {
        "all": np.zeros(grid.height, int),
        "store": grid["store"].rank("dense").to_numpy() - 1,
        "store/period": grid["store"].rank("dense").to_numpy() * DAYS + grid["ahead"].to_numpy() - 1 - DAYS,
    }[over]
    effect = rng.normal(size=shared.max() + 1)[shared]
    error = 10 * (np.sqrt(common) * effect + np.sqrt(1 - common) * rng.normal(size=grid.height))
    return grid.with_columns(
        fold=pl.lit(number), origin=pl.lit(ORIGIN), date=pl.lit(ORIGIN) + pl.duration(days="ahead"),
        block=pl.when(pl.col("ahead") <= 7).then(7).otherwise(28), challenger=pl.lit(100.0),
        y=pl.Series(100 + error), prediction=pl.lit(100.0),
    )  # fmt: skip


def folds(count: int, common: float, over: str = "all") -> pl.DataFrame:
    return pl.concat([fold(number, common, over) for number in range(count)])


def share_inside(sums: Sums, common: float, over: str, by: list[str], level: int, rounds: int = 25) -> float:
    """Over fresh folds, how often the totals lie inside."""
    hits = []
    for number in range(1000, 1000 + rounds):
        own = fold(number, common, over)
        found = sums.bounds(own, by)
        actual = own.group_by(by or pl.lit(0)).agg(pl.col("y").sum()).sort(by or "y")["y"]
        hits.append(((actual >= found[f"low_{level}"]) & (actual <= found[f"high_{level}"])).mean())
    return float(np.mean(hits))  # type: ignore[arg-type]


def width(found: pl.DataFrame, level: int = 95) -> float:
    return float((found[f"high_{level}"] - found[f"low_{level}"]).mean())  # type: ignore[arg-type]


def with_row_bounds(sums: Sums, rows: pl.DataFrame) -> pl.DataFrame:
    own = sums.bounds(rows, ["store", "product", "date"])
    return rows.sort("store", "product", "date").with_columns(own.select(BOUNDS))


# ---------------------------------------------------------------- known correlation


def test_sums_of_bounds_are_far_too_wide_for_independent_errors_and_ours_hold():
    sums = Sums.fit(folds(6, 0.0))
    fresh = with_row_bounds(sums, fold(99, 0.0))
    for by in ([], ["date"], ["store", "date"], ["product"]):
        naive = fresh.group_by(by or pl.lit(0)).agg(pl.col(*BOUNDS).sum())
        rows_per_sum = fresh.height / naive.height
        # Deviations of independent errors grow with the root of the rows, bounds added up with the rows.
        assert width(naive) > 0.5 * np.sqrt(rows_per_sum) * width(sums.bounds(fresh, by)), by
        for level in (80, 95):
            assert share_inside(sums, 0.0, "all", by, level) >= level / 100 - 0.08, (by, level)
    assert share_inside(sums, 0.0, "all", ["store", "date"], 80) == pytest.approx(0.80, abs=0.05)
    assert share_inside(sums, 0.0, "all", ["store", "date"], 95) == pytest.approx(0.95, abs=0.03)


def test_fully_correlated_errors_give_the_sums_of_bounds():
    """Then adding up bounds is right, and ours must not be narrower than the truth either."""
    sums = Sums.fit(folds(40, 1.0))
    fresh = fold(99, 1.0)
    rows = 10 * 1.96 * 2  # the 95 % interval of one row
    for by, count in ((["date"], STORES * PRODUCTS), ([], STORES * PRODUCTS * DAYS)):
        assert width(sums.bounds(fresh, by)) == pytest.approx(rows * count, rel=0.25)


@pytest.mark.parametrize("over", ["store", "store/period"])
def test_the_common_share_is_found_where_it_is(over):
    kind = {"store": "store/horizon", "store/period": "store/period"}[over]
    coded = folds(10, 0.3, over).with_columns(
        pl.col("store", "product").rank("dense"), _week=(pl.col("ahead") - 1) // 7, forecast=pl.lit(100.0), s=10.0
    )
    found = _variances(coded)
    assert found[kind] == pytest.approx(0.3, abs=0.12)
    assert found["series/period"] == pytest.approx(0.7, abs=0.1)
    assert sum(value for name, value in found.items() if name not in (kind, "series/period")) < 0.1


@pytest.mark.parametrize("by", [["store", "date"], ["store"], ["date"], ["product"], ["store", "product"]])
def test_sums_of_errors_that_stores_share_hold(by):
    sums = Sums.fit(folds(8, 0.3, "store"))
    assert share_inside(sums, 0.3, "store", by, 80) >= 0.80 - 0.06
    assert share_inside(sums, 0.3, "store", by, 95) >= 0.95 - 0.04


def test_one_fold_has_one_total_and_stays_honest():
    """Whatever the one total was by chance, the next ones lie inside as often as said."""
    inside = []
    for number in range(15):
        sums = Sums.fit(fold(number, 0.01, seed=7))
        inside.append(share_inside(sums, 0.01, "all", [], 80, rounds=10))
    assert np.mean(inside) >= 0.77


# ---------------------------------------------------------------- the formula


def test_the_deviation_is_that_of_the_whole_covariance_matrix():
    """Group sums against the n × n matrix they stand for."""
    sums = Sums.fit(folds(5, 0.3, "store"))
    rows = fold(99, 0.3).sample(60, seed=1).with_columns(prediction=pl.lit(100.0))
    week = (rows["ahead"] - 1) // 7
    same = {name: rows[name].to_numpy()[:, None] == rows[name].to_numpy()[None, :] for name in ("store", "product")}
    span = {
        "period": rows["ahead"].to_numpy()[:, None] == rows["ahead"].to_numpy()[None, :],
        "week": week.to_numpy()[:, None] == week.to_numpy()[None, :],
        "horizon": np.ones((60, 60), bool),
    }
    over = {"series": same["store"] & same["product"], **same, "all": np.ones((60, 60), bool)}
    deviation = sums.deviation(rows)
    shares = sum(value * (over[kind.split("/")[0]] & span[kind.split("/")[1]]) for kind, value in sums.variance.items())
    wanted = float(np.sqrt(deviation @ shares @ deviation))
    table = {**sums.kinds["all/horizon"], "high_95": [1.0], "low_95": [-1.0], "centre": [1.0]}
    exact = Sums(sums.spread, sums.variance, {"all/horizon": table}, 7).bounds(rows)
    assert exact["high_95"][0] - exact["prediction"][0] == pytest.approx(wanted)


def test_groups_of_two_kinds_overlap_in_groups_of_a_third():
    assert _meet("store/horizon", "product/period") == "series/period"
    assert _meet("all/week", "store/horizon") == "store/week"
    assert _meet("all/horizon", "all/horizon") == "all/horizon"


def test_a_closed_row_is_certain_and_a_single_row_keeps_its_bounds():
    sums = Sums.fit(folds(3, 0.2))
    rows = with_row_bounds(sums, fold(99, 0.2)).with_columns(low_80=pl.lit(91.0))
    assert set(sums.bounds(rows, ["store", "product", "date"])["low_80"]) == {91.0}
    shut = pl.col("store") == "s1"
    closed = rows.with_columns(pl.when(shut).then(0.0).otherwise(name).alias(name) for name in ("prediction", *BOUNDS))
    found = sums.bounds(closed, ["store"])
    assert found.filter(pl.col("store") == "s1").select("prediction", *BOUNDS).row(0) == (0, 0, 0, 0, 0)
    assert sums.bounds(closed)["high_95"][0] == pytest.approx(sums.bounds(closed.filter(~shut))["high_95"][0])


def test_bounds_are_ordered_and_hold_the_point():
    found = Sums.fit(folds(3, 0.9).with_columns(y=pl.col("y") + 400)).bounds(fold(99, 0.9), ["store", "date"])
    for one, other in (
        ("low_95", "low_80"),
        ("low_80", "prediction"),
        ("prediction", "high_80"),
        ("high_80", "high_95"),
    ):
        assert (found[one] <= found[other]).all()
    assert found["low_95"].min() >= 0  # type: ignore[operator]


def test_perfect_forecasts_leave_nothing_to_learn_and_nothing_breaks():
    found = Sums.fit(folds(2, 0.0).with_columns(y=pl.lit(100.0))).bounds(fold(99, 0.0))
    assert found.row(0)[0] == pytest.approx(100 * STORES * PRODUCTS * DAYS)
    assert np.isfinite(found.to_numpy()).all()


def test_json_keeps_every_bit():
    made = Sums.fit(folds(2, 0.3))
    assert Sums.from_json(made.to_json()) == made


def test_what_is_missing_is_named():
    sums = Sums.fit(folds(2, 0.3))
    with pytest.raises(InputError, match="block, region"):
        sums.bounds(fold(1, 0.0).drop("block"), ["region"])
    with pytest.raises(InputError, match="no forecast rows"):
        sums.bounds(fold(1, 0.0).head(0))


# ---------------------------------------------------------------- a real backtest


def test_held_out_sums_of_a_backtest(judged):
    found = held_out(judged)
    assert set(found["kind"]) == set(KINDS)
    for kind, least in (("series/week", 96), ("store/period", 96)):
        own = found.filter(pl.col("kind") == kind)
        assert own.height >= least
        inside = (own["y"] >= own["low_80"]) & (own["y"] <= own["high_80"])
        assert 0.65 < inside.mean() < 0.95
    totals = judged.group_by("fold").agg(pl.col("y", "challenger").sum()).sort("fold")
    whole = found.filter(pl.col("kind") == "all/horizon").sort("fold")
    assert whole["y"].to_list() == pytest.approx(totals["y"].to_list())
    assert whole["prediction"].to_list() == pytest.approx(totals["challenger"].to_list())


def test_one_fold_has_nothing_to_be_held_out(judged):
    assert held_out(judged.filter(pl.col("fold") == 0)).is_empty()


def test_the_forecaster_adds_up_its_forecast(bundle_folder):
    forecaster = Forecaster(load_bundle(bundle_folder))
    answered = forecaster.forecast(forecaster.next_days([], []))
    whole = forecaster.totals(answered)
    assert whole["prediction"][0] == pytest.approx(answered["prediction"].sum())
    assert whole["high_95"][0] < answered["high_95"].sum()
    assert whole["low_95"][0] > answered["low_95"].sum()
    by_day = forecaster.totals(answered.select("date", "store", "product", "prediction", *BOUNDS), ["date"])
    assert by_day["date"].to_list() == sorted(answered["date"].unique())
    assert by_day["prediction"].sum() == pytest.approx(whole["prediction"][0])
    by_week = forecaster.totals(answered, ["store", "week"])
    assert set(by_week["week"].dt.weekday()) == {1}


def test_a_bundle_from_before_says_what_to_do(bundle_folder):
    bundle = load_bundle(bundle_folder)
    forecaster = Forecaster(type(bundle)(**{**vars(bundle), "sums": None}))
    with pytest.raises(NotEnoughData, match="retrain_sales_model"):
        forecaster.totals(forecaster.next_days([], [], 1).with_columns(prediction=pl.lit(1.0)))
