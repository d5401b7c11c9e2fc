"""``/metrics`` as a Prometheus server reads it, checked with the library's own parser."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families


def scraped(api, headers=None):
    reply = api.get("/metrics", headers=headers)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def alone(serve, make_settings):
    """Without a champion, with a key."""
    with serve(make_settings(api_token="key")) as made:
        made.services.store.migrate()
        yield made


def test_requests_are_counted_by_route_and_status_and_never_by_what_was_asked(alone):
    key = {"X-API-Key": "key"}
    for path in ("/livez", "/livez", "/v1/predictions/77", "/no/such/secret-path"):
        alone.get(path, headers=key)
    alone.get("/v1/models")
    alone.http.request("PROPFIND", "/livez", headers=key)
    found = scraped(alone, key)
    assert found["control_room_requests_total", "GET", "/livez", "200"] == 2
    assert found["control_room_requests_total", "GET", "refused", "401"] == 1
    assert found["control_room_requests_total", "GET", "unknown", "404"] == 1
    assert any(k[:3] == ("control_room_requests_total", "GET", "/v1/predictions/{prediction_id}") for k in found)
    assert any(k[1] == "other" for k in found if k[0] == "control_room_requests_total")
    assert found["control_room_request_seconds_count", "GET", "/livez"] == 2
    assert "secret-path" not in str(found)
    assert "77" not in {part for k in found for part in k}
    assert found["control_room_champion_ok",] == 0.0
    assert not any(k[0] == "control_room_model_info" for k in found)
    assert found["control_room_part_up", "mlflow"] == 0.0
    assert found["control_room_part_up", "database"] == 1.0


def test_it_takes_a_key(alone):
    assert alone.get("/metrics").status_code == 401


def test_the_champion_its_parity_and_the_rows_that_it_answered(served, row):
    before = scraped(served)
    reply = served.post("/predict", json={"instances": [row, row, {**row, "date": "never"}]})
    assert reply.status_code == 200
    after = scraped(served)
    rows = ("control_room_predicted_rows_total", "1")
    assert after[rows] - before.get(rows, 0.0) == 2
    assert after["control_room_champion_ok",] == 1.0
    assert 0 <= after["control_room_model_parity_units",] < 1e-3
    assert any(k[0] == "control_room_model_info" and "1" in k for k in after)
