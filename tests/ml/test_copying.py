"""Rows for COPY: what a frame gives, what single answers give, and what PostgreSQL itself would write."""

from __future__ import annotations

import datetime as dt
import io

import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.copying import (
    ALONE,
    BULK_ROWS,
    HEADER,
    LAST,
    ONE_OF_MANY,
    TRAILER,
    TYPES,
    WRITTEN,
    Logged,
    batch,
    beside,
    fields,
    frame_rows,
    log_rows,
    marks,
)
from ml.store import predictions

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
units = st.floats(allow_nan=False)
bounds = st.none() | st.tuples(units, units)
moments = st.integers(-(10**15), 3 * 10**15).map(
    lambda us: dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)
)
answers = st.fixed_dictionaries(
    {
        "created_at": moments,
        "date": st.dates(dt.date(1990, 1, 1), dt.date(2100, 1, 1)),
        "store": words,
        "product": words,
        "inputs": st.dictionaries(words, st.none() | words | units, max_size=3),
        "prediction": units,
        "low_high": st.tuples(bounds, bounds),
        "unit": words,
        "model": st.fixed_dictionaries({"version": words, "alias": st.none() | words, "run_id": words}),
        "data_version": words,
        "request_id": words,
        "support": st.fixed_dictionaries({"similar_days": st.integers(-(2**63), 2**63 - 1)}),
        "warnings": st.lists(words, max_size=3).map(tuple),
    }
)


def logged(answer):
    interval = {share: pair for share, pair in zip(("80", "95"), answer["low_high"], strict=True) if pair is not None}
    return Logged({**answer, "interval": interval}, "api")


def as_frame(rows):
    """The same rows as a frame, put together another way."""
    none = (None, None)
    columns = [
        (
            row["created_at"],
            row["date"],
            row["store"],
            row["product"],
            orjson.dumps(row["inputs"]).decode(),
            row["prediction"],
            *(row["interval"].get("80", none)),
            *(row["interval"].get("95", none)),
            row["unit"],
            *(row["model"][name] for name in ("version", "alias", "run_id")),
            row["data_version"],
            "api",
            row["request_id"],
            row["support"]["similar_days"],
            list(row["warnings"]) or None,
            ALONE,
        )
        for row in rows
    ]
    return pl.DataFrame(columns, schema=TYPES, orient="row")


def test_the_columns_are_those_of_the_log():
    assert list(TYPES) == [c.name for c in predictions.columns if c.name != "prediction_id"]


@settings(max_examples=200, deadline=None)
@given(st.lists(answers, max_size=4))
def test_single_answers_are_written_as_a_frame_of_them_is(found):
    rows = [logged(answer) for answer in found]
    told = log_rows(rows)
    assert told.rows == len(rows)
    frame = as_frame([row.parts for row in rows])
    assert WRITTEN.stream([told]) == frame_rows(frame) == frame_rows_without_pgpq(frame)


def frame_rows_without_pgpq(frame):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml.copying.pgpq", None)
        return frame_rows(frame)


def test_nulls_without_pgpq():
    row = {name: None for name in TYPES} | {"created_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC), "batch": ALONE}
    row |= {"date": dt.date(1999, 3, 2), "store": "Ñ", "product": "", "inputs": "{}", "warnings": ["a", "é"]}
    frame = pl.DataFrame([row, row | {"warnings": None, "similar_days": -3, "prediction": 1.5}], schema=TYPES)
    assert frame_rows_without_pgpq(frame) == frame_rows(frame)


def test_many_rows_are_sorted_by_series_and_the_last_of_them_is_marked():
    day = dt.date(2026, 3, 2)
    fields = {"unit": "u", "data_version": "d", "request_id": "r", "created_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC)}
    fields |= {"date": day, "inputs": {}, "low_high": (None, None), "warnings": (), "support": {"similar_days": 1}}
    fields |= {"model": {"version": "1", "alias": None, "run_id": "r"}}
    keys = [(f"S{k % 7}", f"P{k % 11}", float(k)) for k in range(BULK_ROWS)]
    rows = [logged({**fields, "store": s, "product": p, "prediction": value}) for s, p, value in keys]
    expected = as_frame([row.parts for row in rows]).sort("store", "product", maintain_order=True)
    expected = expected.with_columns(batch(len(rows)))
    assert expected["batch"].to_list() == [ONE_OF_MANY] * (BULK_ROWS - 1) + [LAST]
    assert WRITTEN.stream([log_rows(rows)]) == frame_rows(expected)
    one_less = WRITTEN.stream([log_rows(rows[1:])])
    assert one_less == frame_rows(as_frame([row.parts for row in rows[1:]]))
    assert set(marks(BULK_ROWS - 1)) == {b"\0\0\0\x02\0\0"}


def test_numbers_are_the_fields_of_their_rows():
    assert beside(fields([[1, -2]], ">i8")) == [
        b"\0\0\0\x08" + (1).to_bytes(8),
        b"\0\0\0\x08" + (-2).to_bytes(8, signed=True),
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(answers, min_size=1, max_size=4))
def test_postgresql_reads_them_and_writes_the_same(store, found):
    told = log_rows([logged(answer) for answer in found])
    with store._cursor() as cursor:
        cursor.execute("TRUNCATE predictions")
    assert store.log_rows([told]) == len(found)
    back = io.BytesIO()
    with store._cursor() as cursor:
        columns = f"SELECT {', '.join(TYPES)} FROM predictions ORDER BY prediction_id"
        cursor.copy_expert(f"COPY ({columns}) TO STDOUT (FORMAT binary)", back)
    assert back.getvalue() == HEADER + told.data + TRAILER
