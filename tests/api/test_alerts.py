"""The route on real published data; what each kind is, tests/ml/test_alerts.py says."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml.errors import ServiceDown
from ml.records import Alerts


def asked(api, **query) -> Alerts:
    reply = api.get("/v1/alerts", params=query)
    assert reply.status_code == 200, reply.text
    return Alerts.model_validate(reply.json())


def test_without_data_it_says_so(bare):
    reply = bare.get("/v1/alerts")
    assert (reply.status_code, reply.json()["code"]) == (409, "no_data")


def test_a_week_that_sold_far_beyond_its_interval_comes_first(forgetful, row):
    served = forgetful
    store, newest = served.services.store, dt.date.fromisoformat(served.get("/v1/catalog").json()["date_to"])
    days = [newest + dt.timedelta(days=k) for k in range(1, 8)]
    rows = [{**row, "date": str(day)} for day in days]
    said = served.post("/predict", params={"source": "alerts"}, json={"instances": rows}).json()["predictions"]
    units = [10 * one["prediction"] + 1_000 for one in said]
    sold = [(day, row["store"], row["product"], value) for day, value in zip(days, units, strict=True)]
    store.upsert_actuals(pl.DataFrame(sold, ["date", "store", "product", "sales"], orient="row"), "alerts")
    found = asked(served, limit=5)
    first = found.items[0]  # other tests' predictions of the days before may make a run of it, of more units yet
    assert (first.store, first.product) == (row["store"], row["product"])
    beyond = next(item for item in found.items if item.kind == "outside_band")
    missed = sum(units) - sum(one["prediction"] for one in said)
    assert (beyond.store, beyond.product, beyond.units) == (row["store"], row["product"], pytest.approx(missed))
    assert len(found.items) <= 5 <= sum(found.counts.values()) + 5
    assert found.unknown == ()


def test_the_jumps_are_worked_out_once(served, monkeypatch):
    before = asked(served)
    monkeypatch.setattr("api.alerting.expected_jumps", lambda *_: pytest.fail("worked out again"))
    assert asked(served).counts.get("jump") == before.counts.get("jump")


def test_a_database_that_is_away_is_named(served, monkeypatch):
    def away(*_):
        raise ServiceDown("database", "away")

    monkeypatch.setattr("api.alerting.live", away)
    found = asked(served)
    assert found.unknown == ("database",)
    assert not {"outside_band", "bias"} & set(found.counts)
