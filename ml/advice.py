"""The retrain advisor: a pure function from what is known to "retrain", "wait" or "blocked", with its reasons.

It weighs, it does not guess: each reason carries the numbers it rests on, and one strong reason or two weak ones are
enough. More evidence never turns a "retrain" into a "wait".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from ml.records import Advice, AdviceBlocker, AdviceCode, AdviceReason, AdviceWeight, BlockerCode


@dataclass(frozen=True)
class Rules:
    """From when on a fact is a reason.

    Attributes
    ----------
    growth_weak, growth_strong
        New rows as a share of those learned from. Error falls with rows to the power of about -0.2 (Hestness et al.
        2017, "Deep learning scaling is predictable", find -0.07 to -0.35): 5 % more rows promise the gate's least
        gain of 1 %, 16 % promise 3 %.
    age_weak, age_strong
        Days since training. A month, and a quarter: a season later. Most models in use degrade with age alone (Vela et
        al. 2022, "Temporal quality degradation in AI models", 91 % of 128 pairs of model and data).
    drift_weak, drift_strong
        Stability index, weighted with importance: 0.10 and 0.25 (Siddiqi 2006, "Credit risk scorecards", ch. 10).
    min_new_rows
        Fewer cannot be told from chance: as many as the product asks for before it trains trees at all.
    min_live_rows, min_live_days
        Fewer matured predictions say nothing: a week of days, since errors of one day move together.
    min_gain
        What the gate asks for; past retrainings that surely bring less speak against another one.
    """

    growth_weak: float = 0.05
    growth_strong: float = 0.16
    age_weak: int = 30
    age_strong: int = 91
    drift_weak: float = 0.10
    drift_strong: float = 0.25
    min_new_rows: int = 28
    min_live_rows: int = 50
    min_live_days: int = 7
    min_gain: float = 0.01
    min_retrains: int = 3


@dataclass(frozen=True)
class Error:
    """A WAPE with its 95 % interval, as shares. ``rows`` and ``days`` it rests on."""

    wape: float
    low: float
    high: float
    rows: int = 0
    days: int = 0


@dataclass(frozen=True)
class Facts:
    """What is known now. Left out means not known, which is never a reason.

    ``champion``: its version, None when there is none; ``same_data``: it has learned from the very data published now.
    ``new_periods``: days or weeks after its last day; ``new_rows``: rows in them; ``trained_rows``: what it learned
    from. ``drift``: input -> (stability index, importance), importances of any scale. ``live``: error of predictions
    whose day has come; ``expected``: that of its backtest. ``gains``: of past retrainings, newest first, as a share
    of WAPE; 0 where the champion stayed. ``blockers``: what the caller has found in the way.
    """

    champion: str | None = None
    same_data: bool = False
    new_periods: int = 0
    new_rows: int = 0
    trained_rows: int = 0
    age_days: float | None = None
    drift: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    live: Error | None = None
    expected: Error | None = None
    gains: Sequence[float] = ()
    blockers: tuple[BlockerCode, ...] = ()


def advise(facts: Facts, rules: Rules = Rules()) -> Advice:
    """Retrain, wait, or why neither can be done now.

    Parameters
    ----------
    facts
        What is known; what is not known is left out.

    Returns
    -------
    ``blocked`` whatever the reasons say when something is in the way; then ``wanted`` says whether they ask for it.

    Examples
    --------
    >>> advise(Facts(champion="3", new_periods=120, new_rows=9_000, trained_rows=30_000)).verdict
    'retrain'
    >>> advise(Facts(champion="3", same_data=True)).blockers[0].code
    'unchanged_data'
    """
    gain, low, high = expected_gain(facts.gains)
    reasons = (*_reasons(facts, rules), *_against(facts, high, rules))
    blockers = tuple(_blockers(facts, rules))
    wanted = _asks(reasons)
    return Advice(
        verdict="blocked" if blockers else "retrain" if wanted else "wait",
        wanted=wanted,
        reasons=tuple(sorted(reasons, key=lambda reason: ("strong", "weak", "against", "none").index(reason.weight))),
        blockers=blockers,
        champion=facts.champion,
        expected_gain=gain,
        expected_gain_low=low,
        expected_gain_high=high,
        past_retrains=len(facts.gains),
    )


def expected_gain(gains: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean gain of past retrainings with its 95 % interval (Student's t); the interval needs two of them.

    Examples
    --------
    >>> expected_gain([0.04])
    (0.04, None, None)
    """
    if not gains:
        return None, None, None
    mean = float(np.mean(gains))
    if len(gains) < 2:
        return mean, None, None
    reach = float(stdtrit(len(gains) - 1, 0.975)) * float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
    return mean, mean - reach, mean + reach


def weighted_drift(drift: Mapping[str, tuple[float, float]]) -> float:
    """Stability index over all inputs, each counted by its importance; 0 where none is important.

    Examples
    --------
    >>> weighted_drift({"price": (0.5, 3.0), "promotion": (0.0, 1.0)})
    0.375
    """
    total = sum(max(importance, 0.0) for _, importance in drift.values())
    return sum(effect * max(importance, 0.0) for effect, importance in drift.values()) / total if total else 0.0


def error_by_day(absolute: Sequence[float], sold: Sequence[float], rows: int) -> Error | None:
    """WAPE of matured predictions from sums per day, with the interval of a ratio over days (Cochran 1977, ch. 6).

    ``absolute``: sum of absolute errors per day, ``sold``: sum of sales, both in units. None when nothing was sold or
    there is one day only.
    """
    e, y = np.asarray(absolute, float), np.asarray(sold, float)
    if len(y) < 2 or y.sum() <= 0:
        return None
    wape = float(e.sum() / y.sum())
    spread = float(np.sqrt(((e - wape * y) ** 2).sum() * len(y) / (len(y) - 1))) / float(y.sum())
    reach = float(stdtrit(len(y) - 1, 0.975)) * spread
    return Error(wape, max(wape - reach, 0.0), wape + reach, rows, len(y))


def error_by_fold(wape: float, folds: Sequence[float], rows: int = 0) -> Error:
    """What a backtest lets expect of one more fold: two deviations of the folds' errors, at least a tenth.

    A prediction interval by t would be 5 deviations wide on three folds and never sound an alarm.
    """
    deviation = float(np.std(folds, ddof=1)) if len(folds) > 1 else 0.0
    reach = max(2 * deviation, 0.1 * wape)
    return Error(wape, max(wape - reach, 0.0), wape + reach, rows, 0)


# ---------------------------------------------------------------- what speaks for it


def _asks(reasons: Sequence[AdviceReason]) -> bool:
    counts = {weight: sum(reason.weight == weight for reason in reasons) for weight in ("strong", "weak", "against")}
    return counts["strong"] > 0 or counts["weak"] - counts["against"] >= 2


def _reasons(facts: Facts, rules: Rules) -> Iterator[AdviceReason]:
    if facts.champion is None:
        yield _reason("no_champion", "strong")
        return
    if found := _live(facts, rules):
        yield found
    if facts.drift:
        yield _drift(facts, rules)
    if facts.new_periods <= 0 and not facts.same_data:
        yield _reason("data_changed", "weak")
    growth = facts.new_rows / facts.trained_rows if facts.trained_rows else 0.0
    weight = _weight(growth, rules.growth_weak, rules.growth_strong)
    yield _reason("new_rows", weight, rows=facts.new_rows, periods=facts.new_periods, share=growth)
    if facts.age_days is not None:
        yield _reason("age", _weight(facts.age_days, rules.age_weak, rules.age_strong), days=round(facts.age_days))


def _live(facts: Facts, rules: Rules) -> AdviceReason | None:
    """Strong when the intervals do not touch; weak when the error is beyond what was to be expected."""
    live, expected = facts.live, facts.expected
    if live is None or expected is None:
        return None
    numbers = {"wape": live.wape, "low": live.low, "high": live.high, "expected": expected.wape,
               "expected_high": expected.high, "rows": live.rows, "days": live.days}  # fmt: skip
    weight: AdviceWeight = "none"
    if live.rows < rules.min_live_rows or live.days < rules.min_live_days:
        return _reason("live_few", "none", **numbers)
    if live.wape > expected.high:
        weight = "strong" if live.low > expected.high else "weak"
    return _reason("live_accuracy", weight, **numbers)


def _drift(facts: Facts, rules: Rules) -> AdviceReason:
    total = weighted_drift(facts.drift)
    worst = max(facts.drift, key=lambda name: (facts.drift[name][0] * facts.drift[name][1], name))
    weight = _weight(total, rules.drift_weak, rules.drift_strong)
    effect, importance = facts.drift[worst]
    shares = sum(max(weight, 0.0) for _, weight in facts.drift.values())
    return _reason("drift", weight, index=total, feature=worst, effect=effect, importance=importance / (shares or 1.0))


def _against(facts: Facts, high: float | None, rules: Rules) -> Iterator[AdviceReason]:
    if high is not None and len(facts.gains) >= rules.min_retrains and high < rules.min_gain:
        yield _reason("small_gains", "against", retrains=len(facts.gains), high=high)


def _weight(value: float, weak: float, strong: float) -> AdviceWeight:
    return "strong" if value >= strong else "weak" if value >= weak else "none"


def _reason(code: AdviceCode, weight: AdviceWeight, **facts: float | int | str) -> AdviceReason:
    return AdviceReason(code=code, weight=weight, facts=facts)


# ---------------------------------------------------------------- what is in the way


def _blockers(facts: Facts, rules: Rules) -> Iterator[AdviceBlocker]:
    for code in facts.blockers:
        yield AdviceBlocker(code=code)
    if facts.champion is None:
        return
    if facts.same_data:
        yield AdviceBlocker(code="unchanged_data")
    elif facts.new_periods > 0 and facts.new_rows < rules.min_new_rows:
        yield AdviceBlocker(code="few_new_rows", facts={"rows": facts.new_rows, "needed": rules.min_new_rows})
