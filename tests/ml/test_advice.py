from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ml.advice import Error, Facts, Rules, advise, error_by_day, error_by_fold, expected_gain, weighted_drift

QUIET = Facts(champion="3", new_periods=7, new_rows=900, trained_rows=90_000, age_days=7.0)
WORTH = ("wait", "retrain")


def codes(facts: Facts) -> dict[str, str]:
    return {reason.code: reason.weight for reason in advise(facts).reasons}


def test_a_quiet_week_is_no_reason():
    advice = advise(QUIET)
    assert (advice.verdict, advice.wanted) == ("wait", False)
    assert {reason.weight for reason in advice.reasons} == {"none"}
    assert next(r for r in advice.reasons if r.code == "new_rows").facts["share"] == pytest.approx(0.01)


def test_without_a_champion_the_first_is_wanted():
    assert advise(Facts()).verdict == "retrain"


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"age_days": 30.0}, "wait"),  # one weak reason
        ({"age_days": 30.0, "new_rows": 4_500}, "retrain"),  # two
        ({"age_days": 91.0}, "retrain"),  # a strong one
        ({"new_rows": 14_400}, "retrain"),
        ({"drift": {"price": (0.25, 1.0)}}, "retrain"),
        ({"drift": {"price": (0.25, 1.0), "sales": (0.0, 9.0)}}, "wait"),  # drift of what hardly matters
    ],
)
def test_one_strong_or_two_weak_reasons(facts, verdict):
    assert advise(replace(QUIET, **facts)).verdict == verdict


def test_live_error_counts_by_its_interval():
    expected = Error(0.20, 0.17, 0.23, 9_000)
    worse = replace(QUIET, expected=expected, live=Error(0.30, 0.26, 0.34, 700, 14))
    assert codes(worse)["live_accuracy"] == "strong"
    assert codes(replace(worse, live=Error(0.24, 0.20, 0.28, 700, 14)))["live_accuracy"] == "weak"
    assert codes(replace(worse, live=Error(0.22, 0.20, 0.24, 700, 14)))["live_accuracy"] == "none"
    assert codes(replace(worse, live=Error(0.90, 0.80, 0.99, 49, 14))) == codes(QUIET) | {"live_few": "none"}
    assert codes(replace(worse, live=Error(0.90, 0.80, 0.99, 700, 6))) == codes(QUIET) | {"live_few": "none"}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"blockers": ("paused",)}, "paused"),
        ({"same_data": True}, "unchanged_data"),
        ({"new_rows": 27}, "few_new_rows"),
    ],
)
def test_what_is_in_the_way_blocks_but_the_reasons_stay(facts, code):
    advice = advise(replace(QUIET, age_days=200.0, **facts))
    assert (advice.verdict, advice.wanted) == ("blocked", True)
    assert [blocker.code for blocker in advice.blockers] == [code]


def test_corrected_history_is_a_weak_reason_and_no_blocker():
    advice = advise(replace(QUIET, new_periods=0, new_rows=0))
    assert (advice.verdict, codes(replace(QUIET, new_periods=0, new_rows=0))["data_changed"]) == ("wait", "weak")


def test_past_retrainings_that_brought_nothing_speak_against_weak_reasons_only():
    two_weak = replace(QUIET, age_days=30.0, new_rows=4_500)
    assert advise(replace(two_weak, gains=(0.0, 0.001, 0.0, 0.0))).verdict == "wait"
    assert advise(replace(two_weak, gains=(0.0, 0.04, 0.0))).verdict == "retrain"  # the interval is wide
    assert advise(replace(two_weak, gains=(0.0, 0.0))).verdict == "retrain"  # two say nothing yet
    assert advise(replace(two_weak, age_days=91.0, gains=(0.0, 0.0, 0.0, 0.0))).verdict == "retrain"


def test_expected_gain_by_hand():
    mean, low, high = expected_gain([0.0, 0.02, 0.04])
    assert mean == pytest.approx(0.02)
    assert high - mean == pytest.approx(4.3026527 * 0.02 / math.sqrt(3), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    assert expected_gain([]) == (None, None, None)
    assert advise(replace(QUIET, gains=(0.0, 0.02, 0.04))).past_retrains == 3


def test_error_by_day_by_hand():
    found = error_by_day([2.0, 4.0], [10.0, 10.0], 7)
    assert found.wape == pytest.approx(0.3)
    assert (found.rows, found.days) == (7, 2)
    assert found.high - found.wape == pytest.approx(12.706205 * math.sqrt(2 * 2) / 20, rel=1e-5)
    assert found.low == 0.0
    assert error_by_day([1.0], [5.0], 3) is None
    assert error_by_day([1.0, 1.0], [0.0, 0.0], 3) is None


def test_the_interval_over_days_holds_the_true_error_as_often_as_it_says():
    rng, held = np.random.default_rng(5), 0
    for _ in range(400):
        sold = rng.uniform(50, 150, 28)
        found = error_by_day(sold * np.abs(rng.normal(0, 0.25, 28)), sold, 280)
        held += found.low <= 0.25 * math.sqrt(2 / math.pi) <= found.high
    assert 0.91 <= held / 400 <= 0.99


def test_error_by_fold_allows_for_what_folds_differ_by():
    assert error_by_fold(0.2, [0.2]).high == pytest.approx(0.22)
    assert error_by_fold(0.2, [0.15, 0.2, 0.25]).high == pytest.approx(0.3)


# ---------------------------------------------------------------- what must hold for all facts

shares = st.floats(0, 2, allow_nan=False)
drifts = st.dictionaries(st.sampled_from(["sales", "price", "promotion", "store"]), st.tuples(shares, shares))
errors = st.builds(
    lambda wape, reach, rows, days: Error(wape, max(wape - reach, 0), wape + reach, rows, days),
    st.floats(0.01, 1), st.floats(0, 0.5), st.integers(0, 500), st.integers(0, 30),
)  # fmt: skip
facts_of_all_kinds = st.builds(
    Facts,
    champion=st.sampled_from([None, "1", "2"]),
    same_data=st.booleans(),
    new_periods=st.integers(0, 400),
    new_rows=st.integers(0, 10_000),
    trained_rows=st.integers(0, 50_000),
    age_days=st.none() | st.floats(0, 500),
    drift=drifts,
    live=st.none() | errors,
    expected=st.none() | errors,
    gains=st.lists(st.floats(0, 0.2), max_size=6).map(tuple),
    blockers=st.lists(st.sampled_from(["paused", "run_active", "airflow_away"]), max_size=2, unique=True).map(tuple),
)


def not_less(before: Facts, after: Facts) -> None:
    """Whatever the blockers: what was wanted still is, and what was open stays open."""
    was, now = advise(before), advise(after)
    assert now.wanted >= was.wanted
    if was.verdict in WORTH and now.verdict in WORTH:
        assert WORTH.index(now.verdict) >= WORTH.index(was.verdict)


@given(facts_of_all_kinds, st.sampled_from(["sales", "price", "promotion", "store"]), st.floats(0, 1))
def test_more_drift_never_turns_retrain_into_wait(facts, name, more):
    if name not in facts.drift:
        return
    effect, importance = facts.drift[name]
    not_less(facts, replace(facts, drift={**facts.drift, name: (effect + more, importance)}))


@given(facts_of_all_kinds, st.integers(0, 5_000))
def test_more_rows_never_do(facts, more):
    not_less(facts, replace(facts, new_rows=facts.new_rows + more))


@given(facts_of_all_kinds, st.floats(0, 300))
def test_more_age_never_does(facts, more):
    if facts.age_days is not None:
        not_less(facts, replace(facts, age_days=facts.age_days + more))


@given(facts_of_all_kinds, st.floats(0, 0.5))
def test_a_larger_live_error_never_does(facts, more):
    if facts.live is not None:
        live = replace(facts.live, **{n: getattr(facts.live, n) + more for n in ("wape", "low", "high")})
        not_less(facts, replace(facts, live=live))


@given(facts_of_all_kinds)
def test_blocked_exactly_when_something_is_in_the_way(facts):
    advice = advise(facts)
    assert (advice.verdict == "blocked") == bool(advice.blockers)
    assert set(facts.blockers) <= {blocker.code for blocker in advice.blockers}
    if not advice.blockers:
        assert (advice.verdict == "retrain") == advice.wanted


@given(drifts, st.floats(0.1, 10))
def test_importances_have_any_scale(drift, factor):
    assume(all(weight == 0 or weight > 1e-300 for _, weight in drift.values()))  # less loses digits
    scaled = {name: (effect, weight * factor) for name, (effect, weight) in drift.items()}
    assert weighted_drift(scaled) == pytest.approx(weighted_drift(drift))


def test_rules_hold_their_order():
    rules = Rules()
    assert rules.growth_weak < rules.growth_strong
    assert rules.age_weak < rules.age_strong
    assert rules.drift_weak < rules.drift_strong
