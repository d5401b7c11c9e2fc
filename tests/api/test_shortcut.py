"""One usual row takes the short way and gets the route's own answer; everything else is the route's as before."""

from __future__ import annotations

import dataclasses
import http.client
import inspect
import json
import logging
from urllib.parse import urlsplit

import pytest
from fastapi.routing import APIRoute

from api import shortcut
from api.loading import quick_for
from api.routes import predict as route
from ml.errors import ServiceDown
from ml.quick import Quick

NEVER_THE_SAME = ("request_id", "created_at")
THE_ROUTE = {"source": "api"}  # a query is not for the short way


@pytest.fixture
def no_route(monkeypatch):
    """Who reaches the route gets a fault."""

    async def refuse(*_):
        raise AssertionError("the route was asked")

    monkeypatch.setattr(route, "loaded_model", refuse)


def answered(reply) -> dict:
    assert reply.status_code == 200, reply.text
    return {name: value for name, value in reply.json().items() if name not in NEVER_THE_SAME}


@pytest.mark.parametrize("path", shortcut.PATHS)
def test_a_usual_row_does_not_reach_the_route(served, row, path, no_route):
    assert answered(served.post(path, json=row))["store"] == row["store"]


def test_both_ways_give_the_same_answer(served, many, row):
    spanish = {"tienda": row["store"], "producto": row["product"], "fecha": row["date"], "precio": 2.25, "festivo": 1}
    bare = {name: row[name] for name in ("store", "product", "date")}
    for plan in (*many[::97], row, spanish, bare, row | {"price": 9999.0, "promotion": 0.55}):
        assert answered(served.post("/predict", json=plan)) == answered(
            served.post("/predict", json=plan, params=THE_ROUTE)
        )


def test_both_ways_give_what_the_forecaster_gives_alone(served, many):
    """Quick rows beside the same rows as a frame, which a row outside the horizon makes of them."""
    far = many[27] | {"date": f"{int(many[27]['date'][:4]) + 1}{many[27]['date'][4:]}"}
    together = served.post("/predict", json={"instances": [*many[:60], far]}).json()["predictions"]
    assert "beyond_horizon" in together[-1]["warnings"]
    for plan, framed in zip(many[:60], together, strict=False):
        alone = answered(served.post("/predict", json=plan))
        for name in ("date", "store", "product", "support", "inputs", "warnings", "model", "data_version"):
            assert json.dumps(alone[name]) == json.dumps(framed[name])
        assert alone["prediction"] == pytest.approx(framed["prediction"], abs=1e-3)
        for level in ("80", "95"):
            assert alone["interval"][level] == pytest.approx(framed["interval"][level], abs=1e-3)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'"row"',
        b"\xff",
        b'{"store": 1}',
        b'{"date": "2026-01-01", "date": "2026-01-02"}',
        b'{"instances": []}',
        b'{"price": NaN}',
        b'{"unknown": 1}',
    ],
)
def test_what_is_refused_is_refused_by_the_route(served, body):
    replies = [
        served.post("/predict", content=body, headers={"Content-Type": "application/json"}, params=query).json()
        for query in ({}, THE_ROUTE)
    ]
    first, second = ({k: v for k, v in reply.items() if k != "request_id"} for reply in replies)
    assert first == second
    assert first["status"] == 422


def test_a_row_of_a_series_that_is_not_sold_is_answered_by_the_route(served, row):
    found = answered(served.post("/predict", json=row | {"store": "Nowhere"}))
    assert "new_series" in found["warnings"]


def test_a_body_in_pieces_or_of_unknown_length_is_read_whole(served, row):
    """The first piece was taken by the short way; the route must get it too."""
    body, address = json.dumps(row).encode(), urlsplit(served.url)
    expected = answered(served.post("/predict", json=row))
    for length in ({"Content-Length": str(len(body))}, {}):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        pieces = iter([body[:10], body[10:]])
        connection.request("POST", "/predict", pieces, {"Content-Type": "application/json", **length})
        reply = connection.getresponse()
        found = json.loads(reply.read())
        connection.close()
        assert reply.status == 200
        assert {k: v for k, v in found.items() if k not in NEVER_THE_SAME} == expected


def test_a_log_that_takes_nothing_is_said_by_the_route(served, row, monkeypatch):
    def down(rows):
        raise ServiceDown("prediction log", "nothing takes it")

    monkeypatch.setattr(served.services.spool, "log", down)
    reply = served.post("/predict", json=row)
    assert reply.status_code == 503
    assert reply.headers["retry-after"]
    assert reply.json()["code"] == "service_down"


def test_without_a_champion_the_route_says_why(bare, row):
    reply = bare.post("/predict", json=row)
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"


def test_metrics_and_headers_are_those_of_the_route(served, row):
    def counted() -> float:
        wanted = 'control_room_requests_total{method="POST",route="/predict",status="200"} '
        lines = [line for line in served.get("/metrics").text.splitlines() if line.startswith(wanted)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    before = counted()
    short = served.post("/predict", json=row)
    long = served.post("/predict", json=row, params=THE_ROUTE)
    assert counted() == before + 2
    names = [{name for name in reply.headers if name not in ("date",)} for reply in (short, long)]
    assert names[0] == names[1]
    assert short.headers["content-type"] == long.headers["content-type"]


def test_role_and_source_are_those_of_the_route(served):
    routes = [r for r in served.app.routes if isinstance(r, APIRoute) and r.path in shortcut.PATHS]
    assert {r.path for r in routes} == set(shortcut.PATHS)
    for found in routes:
        assert [d.dependency.needed for d in found.dependencies] == [shortcut.ROLE]
        assert inspect.signature(found.endpoint).parameters["source"].default == shortcut.SOURCE


def test_a_short_way_that_answers_something_else_is_not_taken(served, monkeypatch, caplog):
    monkeypatch.setattr(Quick, "difference", lambda self: 1.5)
    with caplog.at_level(logging.WARNING, "api.champion"):
        assert quick_for(served.services.champion.current.forecaster) is None
    assert "the long way" in caplog.text
    monkeypatch.setattr(Quick, "difference", lambda self: 1 / 0)
    assert quick_for(served.services.champion.current.forecaster) is None


def test_a_chain_too_large_for_the_table_is_answered_the_long_way(served, row, monkeypatch, caplog):
    monkeypatch.setattr("api.loading.QUICK_ROWS", 10)
    loaded = served.services.champion.current
    with caplog.at_level(logging.WARNING, "api.champion"):
        assert quick_for(loaded.forecaster) is None
    assert "too much memory" in caplog.text
    expected = answered(served.post("/predict", json=row))
    monkeypatch.setattr(served.services.champion, "current", dataclasses.replace(loaded, quick=None))
    found = answered(served.post("/predict", json=row))
    assert found["prediction"] == pytest.approx(expected["prediction"], abs=1e-3)
    assert {**found, "prediction": 0, "interval": 0} == {**expected, "prediction": 0, "interval": 0}
