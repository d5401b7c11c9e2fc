"""Units, revenue, profit and break-even by hand on two days."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room import charts
from control_room.outcomes import Costs, Outcome, break_even, outcome
from ml.records import Answer, ModelRef, Support

NOW = dt.datetime(2026, 1, 4, tzinfo=dt.UTC)


def day(number: int, units: float, price: float | None, promotion: float | None, level: str = "ok") -> Answer:
    return Answer.model_validate(
        {
            "date": dt.date(2026, 1, number), "store": "S", "product": "P", "prediction": units, "unit": "units/day",
            "interval": {}, "support": Support(similar_days=0, level=level), "data_version": "d", "request_id": "r",
            "inputs": {"price": price, "promotion": promotion}, "created_at": NOW,
            "model": ModelRef(name="sales", version="7", alias=None, run_id="r"),
        }
    )  # fmt: skip


PLAIN = (day(5, 10, 4.0, 0.0), day(6, 20, 4.0, None))
CHEAP = (day(5, 16, 4.0, 0.25), day(6, 24, 4.0, 0.0, "none"))


def test_a_discount_is_taken_off_the_price_where_it_is_one():
    assert outcome("a", CHEAP, Costs()).revenue == 160
    assert outcome("a", CHEAP, Costs(discounted=True)).revenue == 16 * 3 + 24 * 4


def test_profit_takes_units_and_promoted_days():
    found = outcome("a", CHEAP, Costs(unit=2.0, promotion=5.0, discounted=True))
    assert (found.units, found.promotion_days, found.extrapolated) == (40, 1, 1)
    assert found.profit == 144 - 80 - 5


def test_without_a_price_or_a_cost_there_is_no_number():
    assert outcome("a", (day(5, 1, None, 0.0),), Costs(unit=1.0)).revenue is None
    assert outcome("a", PLAIN, Costs()).profit is None
    assert break_even(outcome("a", PLAIN, Costs()), outcome("b", CHEAP, Costs())) is None


def test_selling_the_break_even_earns_what_the_baseline_does():
    costs = Costs(unit=2.0, promotion=5.0, discounted=True)
    plain, cheap = outcome("a", PLAIN, costs), outcome("b", CHEAP, costs)
    needed = break_even(plain, cheap)
    assert needed is not None
    margin = (144 - 80) / 40
    assert needed * margin - 5 == pytest.approx(plain.profit)


def test_no_number_of_units_is_enough_at_a_loss_per_unit():
    plain = Outcome("a", (), 10, 40, 20, 0, 0)
    assert break_even(plain, Outcome("b", (), 100, 150, -50, 0, 0)) is None


def test_days_beyond_history_are_hatched(speak):
    speak("en")
    drawn = charts.what_if_chart([outcome("Base", PLAIN, Costs()), outcome("Cheap", CHEAP, Costs())])
    (hatched,) = [trace for trace in drawn.figure.data if trace.type == "bar"]
    assert list(hatched.x) == [dt.date(2026, 1, 6)]
    assert hatched.marker.pattern.shape == "/"
    assert drawn.alt == "Base: 30.0 in total. Cheap: 40.0 in total."
    dashes = [trace.line.dash for trace in drawn.figure.data if trace.type == "scatter"]
    assert len(set(dashes)) == 2
    assert not [t for t in charts.what_if_chart([outcome("Base", PLAIN, Costs())]).figure.data if t.type == "bar"]
