"""Files that a spreadsheet opens right and does not run."""

from __future__ import annotations

import datetime as dt
import io

import fastexcel
import pandas as pd
import pytest

from control_room import exports

FRAME = pd.DataFrame(
    {
        "Date": [dt.date(2026, 1, 5), dt.date(2026, 1, 6)],
        "Name": ["=cmd|'x'!A1", "María"],
        "Units": [-1234.5, None],
        "At": [dt.datetime(2026, 1, 5, 10, tzinfo=dt.UTC), None],
    }
)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_text_that_looks_like_a_formula_is_text(start):
    assert exports.as_text(f"{start}1+1") == f"'{start}1+1"


def test_numbers_and_plain_text_are_left_alone():
    assert [exports.as_text(value) for value in (-5, "a=b", None)] == [-5, "a=b", None]


@pytest.mark.parametrize(("locale", "separator", "decimal"), [("en", ",", "."), ("es", ";", ","), ("es_MX", ",", ".")])
def test_csv_in_the_readers_form(speak, locale, separator, decimal):
    speak(locale[:2], locale)
    data = exports.csv_bytes(FRAME)
    assert data.startswith(b"\xef\xbb\xbf")
    read = pd.read_csv(io.BytesIO(data), sep=separator, decimal=decimal, encoding="utf-8-sig")
    assert read["Units"][0] == -1234.5
    assert list(read["Name"]) == ["'=cmd|'x'!A1", "María"]


def test_a_column_name_that_looks_like_a_formula_is_text(speak):
    speak("en")
    assert exports.csv_bytes(pd.DataFrame({"=A1": [1]})).decode("utf-8-sig").startswith("'=A1")


def test_xlsx_has_a_cover_and_typed_cells(speak):
    speak("en")
    book = fastexcel.read_excel(exports.xlsx_bytes(FRAME, {"Filters": "store = S01", "Model": "v7"}))
    assert book.sheet_names == ["About", "Data"]
    cover = book.load_sheet("About", header_row=None).to_pandas().astype(str)
    assert {"store = S01", "v7"} <= set(cover.iloc[:, 1])
    data = book.load_sheet("Data").to_pandas()
    assert list(data["Name"]) == ["'=cmd|'x'!A1", "María"]
    assert data["Units"][0] == -1234.5
    assert pd.isna(data["Units"][1])
    assert pd.Timestamp(data["Date"][0]) == pd.Timestamp("2026-01-05")


def test_the_frame_is_not_changed():
    before = FRAME.copy()
    exports.csv_bytes(FRAME)
    pd.testing.assert_frame_equal(FRAME, before)


def test_an_empty_table_is_a_file_too(speak):
    speak("es")
    assert exports.xlsx_bytes(pd.DataFrame(columns=["Fecha"]), {})
