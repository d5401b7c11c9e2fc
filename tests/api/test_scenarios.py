"""Scenarios are kept under the caller's id, replaced, listed and forgotten."""

from __future__ import annotations

import pytest

from control_room.clients.api import ApiClient
from ml.errors import InputError, NotFound
from ml.records import ScenarioPlan

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
