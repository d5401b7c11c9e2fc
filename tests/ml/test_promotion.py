from __future__ import annotations

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest

from ml.evaluation import evaluate
from ml.promotion import Rules, cluster_errors, days_to_tell, decide, noise_floor, paired_bootstrap, paired_gain
from ml.records import Recipe

XGB = Recipe(kind="xgboost", params={"rounds": 1})


def rows(errors: dict[str, float], seed: int = 0, days: int = 84, stores: int = 4) -> pl.DataFrame:
    """Backtest rows in which each model errs with the given standard deviation, independently."""
    rng = np.random.default_rng(seed)
    dates = [dt.date(2026, 1, 5) + dt.timedelta(days=i) for i in range(days)]
    frame = pl.DataFrame({"date": dates}).join(pl.DataFrame({"store": [f"s{i}" for i in range(stores)]}), how="cross")
    frame = frame.join(pl.DataFrame({"product": [f"p{i}" for i in range(5)]}), how="cross")
    n = frame.height
    y = rng.poisson(30, n).astype(float)
    fold = (pl.col("date") - dates[0]).dt.total_days() // 28
    return frame.with_columns(
        fold=fold,
        origin=(pl.lit(dates[0]) + pl.duration(days=28 * fold - 1)).cast(pl.Date),
        promotion=(pl.int_range(pl.len()) % 4 == 0).cast(pl.Float64),
        ahead=(pl.int_range(pl.len()) % 28) + 1,
        block=pl.lit(28),
        y=pl.Series(y),
        **{name: pl.Series(np.clip(y + rng.normal(0, sd, n), 0, None)) for name, sd in errors.items()},
    )


def judge(frame: pl.DataFrame, **more):
    names = [n for n in ("challenger", "champion", "seasonal_naive") if n in frame.columns]
    options = {"same_data": False, "challenger": XGB} | more
    return decide(frame, evaluate(frame, names, "v"), **options)


def test_a_truly_better_challenger_is_promoted():
    found = judge(rows({"challenger": 5, "champion": 6, "seasonal_naive": 9}))
    assert (found.verdict, found.promote) == ("better", True)
    assert found.gain_low > 0
    assert all(gate.passed for gate in found.gates)


def test_a_worse_one_is_not():
    found = judge(rows({"challenger": 6, "champion": 5, "seasonal_naive": 9}))
    assert (found.verdict, found.promote) == ("worse", False)


def test_equal_models_are_too_close_to_call():
    verdicts = [judge(rows({"challenger": 5, "champion": 5, "seasonal_naive": 9}, seed)) for seed in range(20)]
    assert sum(v.promote for v in verdicts) <= 1
    assert sum(v.verdict == "too_close" for v in verdicts) >= 17


def test_the_same_data_never_promotes():
    found = judge(rows({"challenger": 4, "champion": 8, "seasonal_naive": 9}), same_data=True)
    assert (found.verdict, found.promote) == ("unchanged", False)


def test_approval_waits_for_a_manager():
    found = judge(rows({"challenger": 5, "champion": 6, "seasonal_naive": 9}), policy="approval")
    assert (found.promote, found.needs_approval) == (False, True)


def test_the_first_must_reach_seasonal_naive():
    assert judge(rows({"challenger": 5, "seasonal_naive": 9})).promote
    refused = judge(rows({"challenger": 9, "seasonal_naive": 5}))
    assert (refused.verdict, refused.promote) == ("first", False)


def test_a_naive_model_may_be_the_first_champion():
    frame = rows({"seasonal_naive": 5}).with_columns(challenger=pl.col("seasonal_naive"))
    assert judge(frame, challenger=Recipe(kind="seasonal_naive")).promote
    assert not judge(frame, challenger=XGB).promote


def test_a_champion_of_another_business_is_not_compared():
    found = judge(rows({"challenger": 5, "seasonal_naive": 9}), foreign=0.0)
    assert (found.verdict, found.promote) == ("first", True)
    assert "knows 0% of these stores" in found.reason


def test_a_segment_that_gets_much_worse_stops_the_promotion():
    frame = rows({"challenger": 3, "champion": 6, "seasonal_naive": 9})
    bad = pl.when(pl.col("store") == "s0").then(pl.col("y") + 8).otherwise("challenger")
    found = judge(frame.with_columns(challenger=bad))
    assert "segments" in [gate.name for gate in found.gates if not gate.passed]
    assert not found.promote
    assert "store s0" in next(gate.note for gate in found.gates if gate.name == "segments")


def test_bootstrap_by_hand():
    gain, low, high = paired_bootstrap(np.array([[1.0, 2.0]] * 10), Rules())
    assert (gain, low, high) == pytest.approx((0.5, 0.5, 0.5))


def test_days_to_tell_grow_with_the_noise():
    assert days_to_tell(0.02, -0.02, 0.06, 84) == 84 * 3
    assert days_to_tell(0.02, 0.01, 0.03, 84) is None


# ---------------------------------------------------------------- what errs together, and luck


def lucky(seed: int, luck: float, **other: float) -> pl.DataFrame:
    """Two models of one quality whose trainings are lucky with some products for a whole fold, in every store."""
    frame = rows({"challenger": 5, "champion": 5, "seasonal_naive": 9} | other, seed)
    rng = np.random.default_rng(seed + 1000)
    for name in ("challenger", "champion"):
        pairs = frame.select("product", "fold").unique(maintain_order=True)
        pairs = pairs.with_columns(shift=pl.Series(rng.normal(0, luck, pairs.height)))
        frame = frame.join(pairs, on=["product", "fold"], maintain_order="left")
        frame = frame.with_columns((pl.col(name) + pl.col("shift")).alias(name)).drop("shift")
    return frame


def test_luck_of_a_training_is_not_taken_for_a_gain():
    frames = [lucky(seed, 4.0) for seed in range(40)]
    pair = ("challenger", "champion")
    by_week = [paired_bootstrap(cluster_errors(frame, pair), Rules()) for frame in frames]
    both = [paired_gain(frame, pair) for frame in frames]
    assert sum(low > 0 for _, low, _ in by_week) >= 6  # store-weeks alone see 15 % and more "gains" of 2.5 %
    assert sum(low > 0 for _, low, _ in both) <= 3
    assert all(mine[2] - mine[1] >= week[2] - week[1] - 1e-12 for mine, week in zip(both, by_week, strict=True))


def test_the_clusters_by_hand():
    frame = rows({"challenger": 5, "champion": 6, "seasonal_naive": 9}, days=28, stores=2)
    found = cluster_errors(frame, ("challenger", "champion"), ("product", "fold"))
    part = frame.filter(pl.col("product") == "p0")
    expected = [float((part[name] - part["y"]).abs().sum()) for name in ("challenger", "champion")]
    assert found.shape == (5, 2)
    assert found[0].tolist() == pytest.approx(expected)


def test_few_clusters_make_a_wider_interval():
    rng = np.random.default_rng(3)
    errors = np.abs(rng.normal(10, 2, (6, 2)))
    few, many = paired_bootstrap(errors, Rules()), paired_bootstrap(np.tile(errors, (40, 1)), Rules())
    spread = errors[:, 1] - errors[:, 0]
    wanted = 2 * 2.5706 * (spread - few[0] * errors[:, 1]).std(ddof=1) / math.sqrt(6) / errors[:, 1].mean()
    assert few[2] - few[1] == pytest.approx(wanted, rel=0.25)  # Student's t with 5 degrees of freedom
    assert many[2] - many[1] < (few[2] - few[1]) / 5


def test_the_interval_holds_the_true_gain_as_often_as_it_says():
    pair, held = ("challenger", "champion"), 0
    for seed in range(60):
        _, low, high = paired_gain(rows({"challenger": 5, "champion": 5.5}, seed, days=56), pair)
        held += low <= 1 - 5 / 5.5 <= high
    assert held >= 53  # 95 % of 60 is 57


def test_one_product_leaves_weeks_of_stores_to_count():
    frame = rows({"challenger": 5, "champion": 6}).filter(pl.col("product") == "p0")
    pair = ("challenger", "champion")
    assert paired_gain(frame, pair) == paired_bootstrap(cluster_errors(frame, pair), Rules())


def test_the_same_recipe_on_the_same_rows_is_no_gain():
    frame = rows({"champion": 5, "seasonal_naive": 9}).with_columns(challenger=pl.col("champion"))
    found = judge(frame)
    assert (found.verdict, found.promote, found.gain) == ("too_close", False, 0.0)
    assert "the same recipe" in found.reason


def test_the_noise_floor_tells_how_far_seeds_lie_apart():
    """Against many backtests in which both models err by luck alone."""
    gains, floors = [], []
    for seed in range(30):
        frame = lucky(seed, 3.0)
        gains.append(paired_gain(frame, ("challenger", "champion"))[0])
        newest = pl.col("fold") == frame["fold"].max()
        frame = frame.with_columns(twin=pl.when(newest).then("champion"))
        floors.append(noise_floor(frame, 3))
    assert np.mean(floors) == pytest.approx(np.std(gains), rel=0.3)
    assert noise_floor(lucky(0, 3.0), 3) is None


def test_a_gain_below_the_noise_floor_is_too_close():
    frame = rows({"challenger": 5, "champion": 5.4, "seasonal_naive": 9, "twin": 5})
    shifted = pl.when(pl.col("product") == "p0").then(pl.col("challenger") + 12).otherwise("challenger")
    quiet, loud = judge(frame), judge(frame.with_columns(twin=shifted))
    assert quiet.promote
    floor = next(gate for gate in quiet.gates if gate.name == "noise_floor")
    assert 0 < floor.bound < floor.value == pytest.approx(quiet.gain)
    assert (loud.verdict, loud.promote) == ("too_close", False)
    assert "noise_floor" in loud.reason


def test_the_confidence_of_the_rules_is_the_one_that_is_named():
    frame = rows({"challenger": 5, "champion": 5.3, "seasonal_naive": 9})
    strict, usual = judge(frame, rules=Rules(confidence=0.99)), judge(frame)
    assert "99% interval" in strict.reason
    assert strict.gain_high - strict.gain_low > usual.gain_high - usual.gain_low
