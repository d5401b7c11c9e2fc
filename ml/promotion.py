"""The gate: a pure function from evidence to a decision with its reasons. Nothing moves in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtr, stdtrit

from ml.records import Decision, DecisionVerdict, Evaluation, Gate, Recipe

TWIN = "twin"  # the challenger's recipe with another seed, for some of a backtest's rows
TELLING = ("min_gain", "significant", "noise_floor")  # gates that tell a gain from none
FEWEST = 12  # clusters; the deviation of fewer says little
# What errs together: a store's week (weather, a holiday, a closure), and a product as long as one trained model
# forecasts it, in every store: lucky once, it is lucky throughout the fold. docs/promotion.md has figures.
UNITS: tuple[tuple[str, ...], ...] = (("store", "week"), ("product", "fold"))


@dataclass(frozen=True)
class Rules:
    """Bounds of the gate, as shares. ``seed`` makes the bootstrap repeatable."""

    min_gain: float = 0.01
    confidence: float = 0.95
    max_segment_loss: float = 0.10
    min_segment_share: float = 0.05
    coverage_band: float = 0.08
    resamples: int = 2000
    seed: int = 1


def cluster_errors(rows: pl.DataFrame, names: tuple[str, str], unit: Sequence[str] = UNITS[0]) -> np.ndarray:
    """Absolute errors of two models summed over what moves together, by default a week of a store.

    ``unit``: columns of the rows, or ``week``. Returns clusters × 2, in units.
    """
    errors = [(pl.col(name) - pl.col("y")).abs().sum().alias(name) for name in names]
    groups = rows.with_columns(week=pl.col("date").dt.truncate("1w")).group_by(unit).agg(errors)
    return groups.sort(unit).select(names).to_numpy()


def paired_gain(rows: pl.DataFrame, names: tuple[str, str], rules: Rules = Rules()) -> tuple[float, float, float]:
    """Gain of the first model over the second with its interval: the wider one of those over each kind of cluster.

    Kinds of which there are fewer than ``FEWEST`` are left out, unless there is no other.
    """
    units = [unit for unit in UNITS if set(unit) - {"week"} <= set(rows.columns)]
    clusters = [cluster_errors(rows, names, unit) for unit in units]
    counted = [errors for errors in clusters if len(errors) >= FEWEST] or clusters[:1]
    return max((paired_bootstrap(errors, rules) for errors in counted), key=lambda found: found[2] - found[1])


def paired_bootstrap(errors: np.ndarray, rules: Rules) -> tuple[float, float, float]:
    """Gain 1 - sum(challenger) / sum(other) with its percentile interval (Efron & Tibshirani 1993, ch. 13).

    ``errors``: clusters × (challenger, other). Clusters are drawn together for both models. The percentiles are
    expanded as few clusters need it (Hesterberg 2015, "What teachers should know about the bootstrap", sec. 4.2).
    """
    total = errors.sum(axis=0)
    gain = 1 - total[0] / total[1] if total[1] else 0.0
    draw = np.random.default_rng(rules.seed).integers(0, len(errors), (rules.resamples, len(errors)))
    sums = errors[draw].sum(axis=1)
    gains = 1 - sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
    tail = _expanded_tail(len(errors), rules.confidence)
    low, high = np.nanquantile(gains, [tail, 1 - tail])
    return float(gain), float(low), float(high)


def _expanded_tail(clusters: int, confidence: float) -> float:
    """Tail of the percentile interval that is as wide as Student's t would make it.

    Examples
    --------
    >>> round(_expanded_tail(10**6, 0.95), 4), round(_expanded_tail(12, 0.95), 4)
    (0.025, 0.0108)
    """
    if clusters < 2:
        return (1 - confidence) / 2
    t = stdtrit(clusters - 1, (1 + confidence) / 2)
    return float(ndtr(-math.sqrt(clusters / (clusters - 1)) * t))


def noise_floor(rows: pl.DataFrame, folds: int) -> float | None:
    """By how much two seeds of one recipe typically differ over the whole backtest, as a share of the error.

    From the rows that the challenger's twin answered: differences are summed per product within a fold, which is what
    one training errs together in; their signs are chance, so squares add up. None without a twin.
    """
    if TWIN not in rows.columns:
        return None
    known = rows.filter(pl.col(TWIN).is_not_null())
    errors = cluster_errors(known, ("challenger", TWIN), ("product", "fold"))
    trained, total = known["fold"].n_unique(), errors[:, 0].sum()
    if not total:
        return None
    return float(np.sqrt(((errors[:, 0] - errors[:, 1]) ** 2).sum()) / total * math.sqrt(trained / folds))


def days_to_tell(gain: float, low: float, high: float, days: int) -> int | None:
    """About how many more days of like evidence would make this gain significant: the interval shrinks as 1/sqrt."""
    half = (high - low) / 2
    if abs(gain) < 1e-6 or half <= abs(gain):
        return None
    return math.ceil(days * ((half / abs(gain)) ** 2 - 1))


def decide(
    rows: pl.DataFrame,
    evaluation: Evaluation,
    *,
    same_data: bool,
    challenger: Recipe,
    foreign: float | None = None,
    policy: str = "auto",
    rules: Rules = Rules(),
) -> Decision:
    """Judge the challenger against the champion (if there is one) and seasonal naive on the rows of one backtest.

    ``same_data``: the champion was trained on this very snapshot; then a retrain is a new throw of the same dice and
    never promotes. ``foreign``: a champion exists but took no part, because it knows only this share of the stores or
    products; then the challenger is the first one for this data.
    """
    gates = [_beats_naive(evaluation, challenger), *_coverage_gates(evaluation, rules)]
    if "champion" not in evaluation.overall:
        passed = gates[0].passed
        why = "There is no champion yet"
        if foreign is not None:
            why = f"The champion knows {foreign:.0%} of these stores or products, so it is not compared"
        reason = f"{why}; the challenger {'is at least as good as' if passed else 'does not reach'} seasonal naive."
        return _decision("first", passed, policy, gates, reason)
    gain, low, high = paired_gain(rows, ("challenger", "champion"), rules)
    floor = noise_floor(rows, rows["fold"].n_unique())
    gates = [*gates, *_gain_gates(gain, low, floor, rules), *_segment_gates(rows, evaluation, rules)]
    verdict, reason = _verdict(gain, low, high, gates, same_data, rules)
    more = days_to_tell(gain, low, high, rows["date"].n_unique()) if verdict == "too_close" else None
    promote = verdict == "better" and all(gate.passed for gate in gates)
    return _decision(verdict, promote, policy, gates, reason, (gain, low, high), more)


def _decision(
    verdict: DecisionVerdict,
    promote: bool,
    policy: str,
    gates: list[Gate],
    reason: str,
    gain: tuple[float, float, float] | None = None,
    more: int | None = None,
) -> Decision:
    value, low, high = gain or (None, None, None)
    waits = promote and policy == "approval"
    return Decision(
        verdict=verdict,
        promote=promote and not waits,
        needs_approval=waits,
        gain=value,
        gain_low=low,
        gain_high=high,
        days_to_tell=more,
        gates=tuple(gates),
        reason=reason,
    )


def _verdict(
    gain: float, low: float, high: float, gates: list[Gate], same_data: bool, rules: Rules
) -> tuple[DecisionVerdict, str]:
    span = f"{gain:+.1%} ({rules.confidence:.0%} interval {low:+.1%} to {high:+.1%})"
    if same_data:
        return "unchanged", f"The data has not changed since the champion was trained; it stays. Difference {span}."
    if high < 0:
        return "worse", f"The challenger's error is larger: gain {span}."
    if low == high == 0:
        return "too_close", "The challenger's forecasts are the champion's: it is the same recipe on the same rows."
    failed = [gate.name for gate in gates if not gate.passed]
    if small := [name for name in failed if name in TELLING]:
        least = f"at least {rules.min_gain:.0%}, an interval above 0 and more than another seed brings count"
        return "too_close", f"Too close to call: gain {span}; {least} (not reached: {', '.join(small)})."
    if failed:
        return "better", f"The challenger's error is smaller: gain {span}, but these gates failed: {', '.join(failed)}."
    return "better", f"The challenger's error is smaller: gain {span}, and every gate passed."


def _beats_naive(evaluation: Evaluation, challenger: Recipe) -> Gate:
    naive, mine = evaluation.overall["seasonal_naive"].wape, evaluation.overall["challenger"].wape
    # A naive model may be the best there is on little data; then equality is enough.
    equal_is_enough = challenger.kind in ("seasonal_naive", "moving_average")
    passed = mine < naive or (equal_is_enough and mine <= naive * (1 + 1e-9))
    return Gate(name="beats_seasonal_naive", passed=passed, value=mine, bound=naive, note="WAPE on the same rows")


def _coverage_gates(evaluation: Evaluation, rules: Rules) -> list[Gate]:
    found = []
    for level, share in evaluation.overall["challenger"].coverage.items():
        target = int(level) / 100
        passed = abs(share - target) <= rules.coverage_band
        note = f"share of actuals inside the {level} % interval, within {rules.coverage_band:.0%} of {target:.0%}"
        found.append(Gate(name=f"coverage_{level}", passed=passed, value=share, bound=target, note=note))
    return found


def _gain_gates(gain: float, low: float, floor: float | None, rules: Rules) -> list[Gate]:
    level = f"{rules.confidence:.0%}"
    found = [
        Gate(name="min_gain", passed=gain >= rules.min_gain, value=gain, bound=rules.min_gain, note="gain in WAPE"),
        Gate(
            name="significant", passed=low > 0, value=low, bound=0.0, note=f"lower end of the gain's {level} interval"
        ),
    ]
    if floor is not None:
        note = "gain beside what another seed of the same recipe typically changes"
        found.append(Gate(name="noise_floor", passed=gain > floor, value=gain, bound=floor, note=note))
    return found


def _segment_gates(rows: pl.DataFrame, evaluation: Evaluation, rules: Rules) -> list[Gate]:
    """No store, and no promotion state, that sells a notable share may get much worse."""
    total = float(rows["y"].sum())
    found = []
    for segment in evaluation.segments:
        if segment.by not in ("store", "promotion") or "champion" not in segment.wape:
            continue
        part = rows.filter(_in_segment(segment.by, segment.value))
        if total == 0 or float(part["y"].sum()) / total < rules.min_segment_share or not segment.wape["champion"]:
            continue
        loss = segment.wape["challenger"] / segment.wape["champion"] - 1
        found.append((loss, f"{segment.by} {segment.value}"))
    if not found:
        return []
    loss, worst = max(found)
    note = f"largest rise in WAPE of a store or promotion state: {worst}"
    return [
        Gate(
            name="segments",
            passed=loss <= rules.max_segment_loss,
            value=loss,
            bound=rules.max_segment_loss,
            note=note,
        )
    ]


def _in_segment(by: str, value: str) -> pl.Expr:
    if by == "promotion":
        return (pl.col("promotion") > 0) == (value == "yes")
    return pl.col(by) == value
