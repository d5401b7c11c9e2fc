"""A key that calls too often is told when it may again; others do not notice."""

from __future__ import annotations

import pytest

from api import rates
from api.rates import Rates

TOKEN = "the-console's-own-key"


def test_a_burst_passes_and_then_as_many_as_the_limit_says():
    found = Rates(60)
    assert [found.wait("a", now=0.0) for _ in range(15)] == [0.0] * 15
    assert found.wait("a", now=0.0) == pytest.approx(1.0)
    assert found.wait("a", now=0.4) == pytest.approx(0.6)
    assert found.wait("a", now=1.0) == 0.0
    assert found.wait("a", now=1.0) == pytest.approx(1.0)
    passed = sum(found.wait("a", now=1.0 + k / 10) == 0.0 for k in range(600))
    assert passed == pytest.approx(60, abs=1)


def test_keys_do_not_share_and_nought_is_no_limit():
    found = Rates(1)
    assert (found.wait("a", 0.0), found.wait("b", 0.0)) == (0.0, 0.0)
    assert found.wait("a", 0.0) > 0
    free = Rates(0)
    assert not any(free.wait("a", 0.0) for _ in range(1000))


def test_only_keys_that_have_called_lately_are_remembered(monkeypatch):
    monkeypatch.setattr(rates, "MOST", 10)
    found = Rates(60)
    for k in range(10):
        found.wait(f"old {k}", now=0.0)
    found.wait("busy", now=60.0)
    assert len(found._buckets) == 1


def test_over_the_limit_is_429_with_the_seconds_to_wait(serve, make_settings):
    with serve(make_settings(api_token=TOKEN, rate_limit=8)) as api:
        api.services.store.migrate()
        admin = {"X-API-Key": TOKEN}
        made = [api.post("/v1/keys", json={"name": "k", "role": "viewer"}, headers=admin).json() for _ in range(2)]
        first, second = ({"X-API-Key": one["secret"]} for one in made)
        assert [api.get("/v1/me", headers=first).status_code for _ in range(3)] == [200, 200, 429]
        refused = api.get("/v1/me", headers=first)
        assert refused.json()["code"] == "too_many"
        assert 1 <= int(refused.headers["Retry-After"]) <= 8
        assert api.get("/v1/me", headers=second).status_code == 200
        assert [api.get("/v1/me", headers=admin).status_code for _ in range(5)] == [200] * 5  # the console has no limit
