"""What a scenario brings: units, revenue, profit, and what it must sell to be worth it. Arithmetic on answers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml.records import Answer


@dataclass(frozen=True)
class Costs:
    """``unit``: what one unit costs; ``promotion``: a promoted day on top; ``discounted``: promotions cut the price."""

    unit: float | None = None
    promotion: float | None = None
    discounted: bool = False


@dataclass(frozen=True)
class Outcome:
    """One scenario under one model. Revenue is None where a price is missing, profit where the cost of a unit is."""

    name: str
    answers: tuple[Answer, ...]
    units: float
    revenue: float | None
    profit: float | None
    promotion_days: int
    promotion_cost: float

    @property
    def extrapolated(self) -> int:
        """Days that no day of the history supports."""
        return sum(unsupported(answer) for answer in self.answers)


def unsupported(answer: Answer) -> bool:
    return answer.support.level == "none" or bool(answer.support.outside)


def outcome(name: str, answers: Sequence[Answer], costs: Costs) -> Outcome:
    """Add up the days of one scenario."""
    units = sum(answer.prediction for answer in answers)
    paid = [_paid(answer, costs.discounted) for answer in answers]
    known = [price for price in paid if price is not None]
    revenue = (
        sum(answer.prediction * price for answer, price in zip(answers, known, strict=True))
        if len(known) == len(paid)
        else None
    )
    days = sum(_promotion(answer) > 0 for answer in answers)
    cost = (costs.promotion or 0.0) * days
    profit = None if revenue is None or costs.unit is None else revenue - units * costs.unit - cost
    return Outcome(name, tuple(answers), units, revenue, profit, days, cost)


def break_even(baseline: Outcome, other: Outcome) -> float | None:
    """How many units the scenario must sell to earn what the baseline does, at its own mean margin per unit.

    None without profits, and where a unit earns nothing: then no number of them is enough.

    Examples
    --------
    >>> plain = Outcome("", (), units=100, revenue=500, profit=200, promotion_days=0, promotion_cost=0)
    >>> cheap = Outcome("", (), units=150, revenue=600, profit=120, promotion_days=3, promotion_cost=30)
    >>> break_even(plain, cheap)
    230.0
    """
    if baseline.profit is None or other.profit is None or other.units <= 0:
        return None
    margin = (other.profit + other.promotion_cost) / other.units
    return (baseline.profit + other.promotion_cost) / margin if margin > 0 else None


def _paid(answer: Answer, discounted: bool) -> float | None:
    """What a customer pays for one unit that day."""
    price = answer.inputs.get("price")
    if price is None:
        return None
    return float(price) * (1 - _promotion(answer)) if discounted else float(price)


def _promotion(answer: Answer) -> float:
    return float(answer.inputs.get("promotion") or 0.0)
