"""Many rows by column: read, answered and logged exactly as one by one, or not read at all."""

from __future__ import annotations

import datetime as dt
import json
import random

import pytest

from api.columns import Told, read_columns
from api.rows import Form
from api.scoring import answer, written
from api.strict import parse
from ml.copying import BULK_ROWS, Logged, log_rows
from ml.records import RowError

NOW = dt.datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def loaded(served):
    return served.services.champion.require()


@pytest.fixture(scope="module")
def usual(loaded, many):
    """Rows that need no sibling's history."""
    form = Form.of(loaded)
    return [row for row in many if loaded.quick.places([form.read(1, row)]) is not None]


def read_singly(form, body):
    return [form.read(i, row) for i, row in enumerate(parse(body)["instances"], 1)]


def test_answers_and_log_are_those_of_single_rows(loaded, usual):
    draw = random.Random(3)
    rows = [{**row, "price": round(draw.uniform(0.5, 9), 2)} for row in draw.choices(usual, k=600)]
    body, form = json.dumps({"instances": rows}).encode(), Form.of(loaded)
    columns = read_columns(form, body)
    told = Told(loaded, loaded.quick.begin_columns(columns, loaded.quick.places_of(columns)), "request-1", NOW)
    singly = read_singly(form, body)
    found = loaded.quick.forecast(singly, loaded.quick.places(singly))
    answers = [answer(loaded, row, "request-1", NOW) for row in found]
    assert told.sent() == written({"predictions": answers})
    assert told.logged("a%source") == log_rows([Logged(one, "a%source") for one in answers])


def bodies(row):
    """Bodies of three rows that are plain, and of three that are not."""
    plain = [row | {"price": price} for price in (1, 2.5, 1e9)]
    spanish = {"store": "tienda", "product": "producto", "date": "fecha", "price": "precio", "promotion": "promociones"}
    text = json.dumps({"instances": plain})
    yield "as it is", text, True
    yield "spaces and ints", json.dumps({"instances": [row | {"promotion": k} for k in (0, 1, 1)]}, indent=3), True
    yield "Spanish", json.dumps({"instances": [{spanish[k]: v for k, v in one.items()} for one in plain]}), True
    yield "holiday", json.dumps({"instances": [row | {"holiday": k} for k in (0, 1.0, 0)]}), True
    yield "key twice", text.replace('"price": 2.5', '"price": 9, "price": 2.5'), False
    yield "name twice", json.dumps({"instances": [one | {"precio": 2} for one in plain]}), False
    yield "instances twice", text[:-1] + ', "instances": []}', False
    yield "escapes", text.replace('"price"', '"pr\\u0069ce"', 1), False
    yield "NaN", text.replace("2.5", "NaN"), False
    yield "too large for a float", text.replace("2.5", "1e999"), False
    for name, value in (
        ("null", None),
        ("text for a number", "2.5"),
        ("bool for a price", True),
        ("zero", 0),
        ("negative", -1.0),
        ("beyond", 1e9 + 1),
        ("list", [1]),
    ):
        yield name, json.dumps({"instances": [plain[0], row | {"price": value}, plain[2]]}), False
    for name, field, value in (
        ("store of another type", "store", 5),
        ("empty store", "store", " "),
        ("control character", "product", "a\x7f"),
        ("no date", "date", "2026-02-30"),
        ("date of another form", "date", "20260105"),
        ("far date", "date", "2099-01-05"),
        ("promotion", "promotion", 1.5),
        ("half a holiday", "holiday", 0.5),
        ("unknown", "colour", 1),
    ):
        yield name, json.dumps({"instances": [row | {field: value}] * 3}), False
    yield "other keys", json.dumps({"instances": [plain[0], {**plain[1], "holiday": 1}, plain[2]]}), False
    yield "other order", json.dumps({"instances": [plain[0], dict(reversed(plain[1].items())), plain[2]]}), True
    fewer = {key: value for key, value in plain[1].items() if key != "price"}
    yield "a key less", json.dumps({"instances": [plain[0], fewer, plain[2]]}), False
    yield "another key instead", json.dumps({"instances": [plain[0], fewer | {"holiday": 1}, plain[2]]}), False
    yield "texts and numbers", json.dumps({"instances": [plain[0], plain[1] | {"price": "2"}, plain[2]]}), False
    yield "not an object", json.dumps({"instances": [plain[0], 5, plain[2]]}), False
    yield "no date at all", json.dumps({"instances": [{"store": row["store"], "product": row["product"]}] * 3}), False
    yield "beside instances", json.dumps({"instances": plain, "x": 1}), False
    yield "no rows", json.dumps({"instances": []}), False
    yield "too many", json.dumps({"instances": [row] * 5001}), False
    yield "no list", json.dumps({"instances": row}), False
    yield "not JSON", text[:-1], False


def test_what_is_plain_is_read_as_single_rows_are_and_nothing_else(loaded, row):
    form = Form.of(loaded)
    for name, body, plain in bodies(row):
        columns = read_columns(form, body.encode())
        assert (columns is not None) == plain, name
        if columns is not None:
            named = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            singly = read_singly(form, body.encode())
            assert named == singly, name
            assert [list(map(type, one.values())) for one in named] == [
                [type(two[key]) for key in one] for one, two in zip(named, singly, strict=True)
            ], name


@pytest.mark.parametrize("count", [200, BULK_ROWS])
def test_a_large_body_is_logged_before_it_is_answered_and_errors_stay_in_their_places(served, usual, count):
    rows = [usual[k * 7 % len(usual)] for k in range(count)]
    reply = served.post("/predict", json={"instances": rows}, headers={"X-Request-ID": f"by-column-{count}"})
    answers = reply.json()["predictions"]
    assert [(one["store"], one["product"], one["date"]) for one in answers] == [
        (one["store"], one["product"], one["date"]) for one in rows
    ]
    items = served.get("/historical-predictions", params={"limit": 1000}).json()["items"]
    logged = [item for item in reversed(items) if item["request_id"] == f"by-column-{count}"]
    many = sorted(answers, key=lambda one: (one["store"], one["product"])) if len(rows) >= BULK_ROWS else answers
    assert [item["prediction"] for item in logged] == [one["prediction"] for one in many]
    assert [item["interval"] for item in logged] == [one["interval"] for one in many]
    broken = [*rows[:100], {**rows[100], "price": -1}, *rows[101:]]
    mixed = served.post("/predict", json={"instances": broken}).json()["predictions"]
    assert (
        mixed[100]["error"]
        == RowError(row=101, field="price", code="out_of_range", message=mixed[100]["error"]["message"]).model_dump()
    )
    kept = [one["prediction"] for k, one in enumerate(answers) if k != 100]
    assert [one["prediction"] for k, one in enumerate(mixed) if k != 100] == kept
