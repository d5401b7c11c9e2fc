"""Rows of a file, checked by whole columns: each either complete or refused with its first reason."""

import datetime as dt

import polars as pl
import pytest

from api.rows import Form

FORM = Form(
    numbers=("temperature",), texts=("event",), only_store=None, only_product="P", last_date=dt.date(2026, 3, 1)
)
DAY = dt.date(2026, 2, 1)


def rows(**columns):
    height = max(map(len, columns.values()))
    return pl.DataFrame({"row": range(2, 2 + height), "date": [DAY] * height, "store": ["S"] * height} | columns)


def test_good_rows_stay_as_they_are_and_the_only_product_is_filled_in():
    good, faulty = FORM.complete(rows(price=[1.5, None], temperature=[3, None], event=["fair ", None]))
    assert faulty.height == 0
    assert good.to_dicts() == [
        {"row": 2, "date": DAY, "store": "S", "price": 1.5, "temperature": 3.0, "event": "fair", "product": "P"},
        {"row": 3, "date": DAY, "store": "S", "price": None, "temperature": None, "event": None, "product": "P"},
    ]


@pytest.mark.parametrize(
    ("columns", "column", "code"),
    [
        ({"date": [DAY, dt.date(2026, 3, 2)]}, "date", "too_far_ahead"),
        ({"store": ["S", None]}, "store", "missing"),
        ({"temperature": [None, "warm"]}, "temperature", "not_a_number"),
        ({"temperature": [20.0, -2e12]}, "temperature", "out_of_range"),
        ({"event": ["fair", "x" * 201]}, "event", "not_a_name"),
        ({"event": ["fair", "a\x07b"]}, "event", "not_a_name"),
    ],
)
def test_a_row_is_refused_with_row_column_and_code(columns, column, code):
    good, faulty = FORM.complete(rows(**columns))
    assert good["row"].to_list() == [2]
    assert faulty.select("row", "column", "code").rows() == [(3, column, code)]
    assert faulty["reason"].str.starts_with(column).all()


def test_numbers_as_words_and_the_first_of_several_reasons():
    many = rows(date=[dt.date(2027, 1, 1), DAY], temperature=["warm", None], event=[5.0, 2.5])
    good, faulty = FORM.complete(many)
    assert faulty.select("row", "code").rows() == [(2, "not_a_number")]
    assert good["event"].to_list() == ["2.5"]


def test_a_file_that_names_no_store_is_refused_row_by_row_where_there_are_several():
    good, faulty = FORM.complete(rows(price=[1.0, 2.0]).drop("store"))
    assert good.height == 0
    assert faulty["code"].to_list() == ["missing", "missing"]
