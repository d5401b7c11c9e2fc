"""Scenarios are kept under the caller's id, replaced, listed and forgotten."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room.clients.api import ApiClient
from ml.errors import InputError, NotFound
from ml.records import WHAT_IF, PredictionInput, ScenarioPlan

PLAN = ScenarioPlan.model_validate(
    {
        "name": "Ñandú", "store": "S01", "product": "P001", "date_from": "2026-01-05", "periods": 14, "unit_cost": 2.5,
        "variants": [{"name": "Base"}, {"name": "A", "days": [{"date": "2026-01-06", "price": 9.5}]}],
    }
)  # fmt: skip
ONE, TWO = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(scope="module")
def client(serve, make_settings):
    with serve(make_settings()) as api:
        api.services.store.migrate()
        yield ApiClient(api.url)


def test_kept_replaced_listed_and_forgotten(client):
    first = client.keep_scenario(ONE, PLAN)
    assert first.plan == PLAN
    assert client.scenario(ONE) == first
    client.keep_scenario(TWO, PLAN.model_copy(update={"name": "Other"}))
    again = client.keep_scenario(ONE, PLAN.model_copy(update={"name": "New"}))
    assert (again.created_at, again.created_by) == (first.created_at, first.created_by)
    assert again.updated_at > first.updated_at
    assert [item.plan.name for item in client.scenarios()] == ["New", "Other"]
    client.delete_scenario(TWO)
    assert [item.scenario_id for item in client.scenarios()] == [ONE]


def test_what_is_not_there_is_not_found(client):
    for ask in (client.scenario, client.delete_scenario):
        with pytest.raises(NotFound):
            ask("no-such-scenario")


@pytest.mark.parametrize(
    "wrong", [{"variants": PLAN.variants[:1]}, {"periods": 0}, {"unit_cost": -1.0}, {"name": ""}, {"name": "a\x00"}]
)
def test_a_plan_that_is_none_is_refused(client, wrong):
    with pytest.raises(InputError):
        client.keep_scenario(ONE, PLAN.model_copy(update=wrong))


# ---------------------------------------------------------------- differences


def planned(row, *variants, **changes):
    days = [{"name": "plain"}, *({"name": f"v{n}", "days": days} for n, days in enumerate(variants))]
    plan = {"name": "x", "store": row["store"], "product": row["product"], "date_from": row["date"], "periods": 7}
    return ScenarioPlan.model_validate({**plan, "variants": days, **changes})


def test_a_difference_is_that_of_the_forecasts_and_has_a_range(served, row):
    client, day = ApiClient(served.url), dt.date.fromisoformat(row["date"])
    days = [{"date": day + dt.timedelta(days=k), "promotion": 1.0} for k in range(3)]
    found = client.differences(planned(row, days, []))
    promoted, same = found.items
    asked = [PredictionInput(date=day + dt.timedelta(days=k), store=row["store"], product=row["product"], promotion=p)
             for p in (0.0, 1.0) for k in range(3)]  # fmt: skip
    said = [answer.prediction for answer in client.predict(asked, source=WHAT_IF)]
    assert promoted.units == pytest.approx(sum(said[3:]) - sum(said[:3]))
    assert (same.units, same.changed) == (0, 0)
    assert found.model.version == "1"
    if promoted.interval is None:
        assert promoted.unsupported > 0
    else:
        low, high = promoted.interval["80"]
        assert low < promoted.units < high
        assert promoted.interval["95"][0] < low


@pytest.mark.parametrize(
    "changes",
    [{"store": "nowhere"}, {"periods": 364, "date_from": "2040-01-01"},
     {"variants": [{"name": "a"}, {"name": "b", "days": [{"date": "2026-01-01", "promotion": 7}]}]}],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(served, row, changes):
    with pytest.raises(InputError):
        ApiClient(served.url).differences(planned(row, [], **changes))
