from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml.evaluation import evaluate
from ml.promotion import Rules, days_to_tell, decide, paired_bootstrap
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
