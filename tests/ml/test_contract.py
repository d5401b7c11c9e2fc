"""The contract: every row of a file is used or listed, and everything that was noticed is said."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.contract import FINDING_CODES, FINDING_HINTS, Checked, check_file, rejected_csv, rejected_xlsx
from ml.records import Mapping, Preflight, ReadOptions

TODAY = dt.date(2026, 11, 23)
RANDOM_TABLES = int(os.environ.get("RANDOM_TABLES", "500"))  # 10,000 in a nightly run
ZOO = Path(__file__).resolve().parents[3] / "shared" / "csv_zoo"
HEADER = "date,store_id,product_id,category,quantity_sold,unit_price,promotion,revenue\n"
ROWS = [f"2026-01-0{i},STORE_001,PROD_00{i},food,{3 * i},9.99,0,{29.97 * i:.2f}\n" for i in range(1, 6)]
GOOD = HEADER + "".join(ROWS)
WEEKDAYS = ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"]


def check(data: str | bytes, filename: str = "sales.csv", **wanted: Any) -> Checked:
    """Check a file and hold the promises that every file must keep."""
    data = data.encode() if isinstance(data, str) else data
    checked = check_file(data, filename, **{"today": TODAY, **wanted})
    report = checked.preflight
    assert report.rows_used == checked.frame.height
    assert report.rows_rejected == checked.rejected.height
    assert report.rows_total == report.rows_used + report.rows_rejected
    assert checked.rejected["row"].is_unique().all()
    assert not checked.rejected["reason"].has_nulls()
    assert Preflight.model_validate_json(report.model_dump_json()) == report
    return checked


def codes(checked: Checked) -> dict[str, str]:
    return {found.code: found.severity for found in checked.preflight.findings}


def only(checked: Checked, code: str) -> Any:
    found = [finding for finding in checked.preflight.findings if finding.code == code]
    assert len(found) == 1, [f.code for f in checked.preflight.findings]
    return found[0]


def first_row(**cells: str) -> str:
    """The good file with some cells of its first row (row 2) changed."""
    names = HEADER.strip().split(",")
    values = dict(zip(names, ROWS[0].strip().split(","), strict=True)) | cells
    return HEADER + ",".join(values[name] for name in names) + "\n" + "".join(ROWS[1:])


def table(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def workbook(sheets: dict[str, list[list[Any]]]) -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target)
    day = book.add_format({"num_format": "dd/mm/yyyy"})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for at, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                if isinstance(cell, dt.date):
                    sheet.write_datetime(at, column, cell, day)
                elif cell is not None:
                    sheet.write(at, column, cell)
    book.close()
    return target.getvalue()


def parquet(**columns: Any) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(columns).write_parquet(target)
    return target.getvalue()


def zipped(**entries: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return target.getvalue()


def wide_workbook() -> bytes:
    """Two cells, as far apart as a sheet allows: a reader that keeps the range dense would need 400 GB."""
    small = workbook({"a": [["date", "sales"], [dt.date(2026, 1, 1), 3]]})
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(small)) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(b"</sheetData>", far))
    return target.getvalue()


# ---------------------------------------------------------------- the zoo


def zoo_cases() -> list[Any]:
    if not ZOO.is_dir():
        return [pytest.param("", "", marks=pytest.mark.skip(reason=f"the folder of nasty files is absent: {ZOO}"))]
    cases = json.loads((ZOO / "expected.json").read_text())
    return [pytest.param(case["file"], case["verdict"], id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("file", "verdict"), zoo_cases())
def test_zoo(file, verdict):
    checked = check((ZOO / file).read_bytes(), file)
    assert checked.preflight.verdict == verdict
    assert (verdict == "OK") == (not {"fix", "row", "reject"} & set(codes(checked).values()))
    for found in checked.preflight.findings:
        if found.severity == "row" and found.code != "no_rows_left":
            assert found.row
            assert found.column or found.code.startswith(("row_", "duplicate_"))
            assert found.hint


# ---------------------------------------------------------------- one file for every code

UNTIL_2026 = ["2026-01-01,3", "2026-01-02,4"]
EXAMPLES: dict[str, tuple[str, str | bytes, dict[str, Any]]] = {
    "file_empty": ("reject", b"", {}),
    "file_blank": ("reject", "\n\n  \n", {}),
    "file_compressed": ("reject", b"\x1f\x8b\x08\x00rest", {}),
    "file_not_table": ("reject", "<!DOCTYPE html><html></html>", {}),
    "file_old_excel": ("reject", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", {}),
    "file_damaged": ("reject", b"PAR1 and then nothing of use PAR1", {}),
    "file_too_large_inside": ("reject", wide_workbook(), {}),
    "encoding_unknown": ("reject", GOOD, {"options": ReadOptions(encoding="klingon")}),
    "encoding_mismatch": ("reject", first_row(category="café"), {"options": ReadOptions(encoding="ascii")}),
    "separator_invalid": ("reject", GOOD, {"options": ReadOptions(separator="<>")}),
    "sheet_missing": (
        "reject",
        workbook({"a": [["date", "sales"], [dt.date(2026, 1, 1), 3]]}),
        {"options": ReadOptions(sheet="b")},
    ),
    "sheet_empty": ("reject", workbook({"a": []}), {}),
    "header_too_long": ("reject", "x" * 70_000 + "\n1\n", {}),
    "header_missing": ("reject", "".join(ROWS), {}),
    "too_many_columns": ("reject", ",".join(f"c{i}" for i in range(3_000)) + "\n1\n", {}),
    "duplicate_header": ("reject", "date,sales,sales\n2026-01-01,3,3\n", {}),
    "unclosed_quote": ("reject", first_row(category='"food'), {}),
    "no_rows": ("reject", HEADER, {}),
    "columns_missing": ("reject", "date,store\n2026-01-01,a\n", {}),
    "mapping_unknown": ("reject", GOOD, {"mapping": Mapping(roles={"date": "day of sale"})}),
    "mapping_invalid": ("reject", GOOD, {"mapping": Mapping(roles={"date": "date", "sales": "date"})}),
    "frequency_unsupported": ("reject", table("date,sales", *(f"2025-{m:02}-01,5" for m in range(1, 13))), {}),
    "encoding_detected": ("fix", first_row(category="café").encode("latin-1"), {}),
    "byte_order_mark": ("fix", b"\xef\xbb\xbf" + GOOD.encode(), {}),
    "separator_detected": ("fix", GOOD.replace(",", ";"), {}),
    "preamble_skipped": ("fix", "Sales of the year\n\n" + GOOD, {}),
    "trailing_separator": ("fix", GOOD.replace("\n", ",\n"), {}),
    "header_empty": ("fix", table(",date,sales", "a,2026-01-01,3", "b,2026-01-02,4"), {}),
    "header_trimmed": ("fix", GOOD.replace("store_id,", " store_id ,", 1), {}),
    "header_read_as": ("fix", GOOD.replace(HEADER, HEADER.upper()), {}),
    "column_guessed": ("fix", table("date,amounts_of_it", *UNTIL_2026), {}),
    "decimal_comma": ("fix", table("date;sales", "2026-01-01;3,5", "2026-01-02;4,25"), {}),
    "thousands_separator": ("fix", table("date;sales", "2026-01-01;1.234,5", "2026-01-02;4,25"), {}),
    "number_ambiguous": ("fix", table("date;sales", "2026-01-01;1.234", "2026-01-02;980"), {}),
    "date_format": ("fix", table("date,sales", "31/01/2026,3", "01/02/2026,4"), {}),
    "date_order_ambiguous": ("fix", table("date,sales", "01/02/2026,3", "02/02/2026,4"), {}),
    "date_serial": ("fix", table("date,sales", "46023,3", "46024,4"), {}),
    "time_dropped": ("fix", table("date,sales", "2026-01-01 10:30,3", "2026-01-02 11:00:05,4"), {}),
    "flag_text": ("fix", first_row(promotion="yes"), {}),
    "percent_scaled": ("fix", first_row(promotion="20%"), {}),
    "formula_text": ("fix", first_row(store_id="=1+1"), {}),
    "invisible_characters": ("fix", first_row(store_id="STORE\u200b_1"), {}),
    "whitespace_trimmed": ("fix", first_row(store_id=" STORE_001"), {}),
    "unicode_normalised": ("fix", first_row(store_id="Cafe\u0301"), {}),
    "derived_mismatch": ("fix", table("date,weekday,sales", "2026-01-01,Mon,3", "2026-01-02,Fri,4"), {}),
    "revenue_mismatch": ("fix", first_row(revenue="99.97"), {}),
    "row_too_short": ("row", GOOD + "2026-01-06,STORE_001\n", {}),
    "row_too_long": ("row", GOOD + ROWS[0].strip() + ",x\n", {}),
    "row_empty": ("row", GOOD + ",,,,,,,\n", {}),
    "encoding_invalid": ("row", first_row(product_id="PROD_\ue000").encode().replace(b"\xee\x80\x80", b"\xff\xfe"), {}),
    "field_too_long": ("row", first_row(category="f" * 40_000), {}),
    "date_empty": ("row", first_row(date=""), {}),
    "date_invalid": ("row", first_row(date="next week"), {}),
    "date_impossible": ("row", first_row(date="2026-02-30"), {}),
    "date_future": ("row", first_row(date="2126-01-01"), {}),
    "date_too_old": ("row", first_row(date="1900-01-01"), {}),
    "sales_empty": ("row", first_row(quantity_sold=""), {}),
    "sales_negative": ("row", first_row(quantity_sold="-3"), {}),
    "sales_fractional": ("row", first_row(quantity_sold="3.5"), {}),
    "number_invalid": ("row", first_row(unit_price="abc"), {}),
    "number_not_finite": ("row", first_row(unit_price="-inf"), {}),
    "number_hex": ("row", first_row(unit_price="0x10"), {}),
    "number_currency": ("row", first_row(unit_price="9.99 €"), {}),
    "number_overflow": ("row", first_row(unit_price="1e400"), {}),
    "number_too_large": ("row", first_row(quantity_sold="1000000000000"), {}),
    "price_not_positive": ("row", first_row(unit_price="0"), {}),
    "promotion_out_of_range": ("row", first_row(promotion="2"), {}),
    "holiday_not_flag": ("row", table("date,holiday,sales", "2026-01-01,0.5,3", "2026-01-02,1,4"), {}),
    "flag_invalid": ("row", first_row(promotion="perhaps"), {}),
    "store_empty": ("row", first_row(store_id=" "), {}),
    "product_empty": ("row", first_row(product_id=""), {}),
    "duplicate_row": ("row", GOOD + ROWS[0], {}),
    "duplicate_conflict": ("row", GOOD + ROWS[0].replace(",3,", ",4,"), {}),
    "no_rows_left": ("row", GOOD.replace("9.99", "$9.99"), {}),
    "blank_lines": ("info", HEADER + "\n".join(ROWS), {}),
    "sheet_chosen": ("info", workbook({"a": [["date", "sales"], [dt.date(2026, 1, 1), 3]], "b": []}), {}),
    "column_dropped": ("info", parquet(date=[dt.date(2026, 1, 1)], sales=[3], tags=[[1, 2]]), {}),
    "role_duplicate": ("info", table("date,units_sold,ventas", "2026-01-01,3,30", "2026-01-02,4,40"), {}),
    "derived_ignored": ("info", table("date,weekday,sales", "2026-01-01,Thu,3", "2026-01-02,Fri,4"), {}),
    "value_missing": ("info", first_row(unit_price=""), {}),
    "revenue_other_basis": ("info", "".join([HEADER, *(row.rsplit(",", 1)[0] + ",1000\n" for row in ROWS)]), {}),
    "similar_names": ("info", first_row(store_id="Store_001"), {}),
    "duplicate_keys": ("info", "date,price\n2027-01-01,3\n2027-01-01,4\n", {"purpose": "predict"}),
}


def test_every_code_has_an_example():
    of_attributes = {code for code in FINDING_CODES if code.startswith("attribute_")}  # see test_sidetable.py
    assert set(EXAMPLES) | of_attributes == set(FINDING_CODES)
    assert set(FINDING_HINTS) <= set(FINDING_CODES)


@pytest.mark.parametrize("code", EXAMPLES)
def test_code(code):
    severity, data, wanted = EXAMPLES[code]
    checked = check(data, **wanted)
    assert codes(checked).get(code) == severity, codes(checked)
    found = only(checked, code)
    # a page can say the same in another language from the facts alone
    said = FINDING_CODES[code].format(**{"row": found.row, "column": found.column, "count": found.count, **found.facts})
    assert found.message == said
    assert found.hint == FINDING_HINTS.get(code, "")
    verdict = {"reject": "REJECT", "row": "ROWS"}.get(severity)
    assert verdict is None or checked.preflight.verdict == verdict
    if severity == "reject":
        assert checked.frame.is_empty()


# ---------------------------------------------------------------- what comes out


def test_frame_of_a_good_file():
    checked = check(GOOD)
    assert checked.preflight.verdict == "OK"
    assert checked.frame.schema == {
        "date": pl.Date,
        "store": pl.String,
        "product": pl.String,
        "sales": pl.Float64,
        "price": pl.Float64,
        "promotion": pl.Float64,
    }
    assert checked.frame.row(1) == (dt.date(2026, 1, 2), "STORE_001", "PROD_002", 6.0, 9.99, 0.0)
    report = checked.preflight
    assert (report.stores, report.products, report.frequency, report.missing_days) == (1, 5, "D", 0)
    assert (report.date_from, report.date_to) == (dt.date(2026, 1, 1), dt.date(2026, 1, 5))
    assert report.preview[0]["date"] == "2026-01-01"


def spanish_shop(separator: str, decimal: str, write: str, days: int = 365) -> str:
    lines = [separator.join(["Fecha", "DíaDeLaSemana", "Promociones", "Festivo", "Ventas"])]
    for at in range(days):
        day = dt.date(2025, 1, 1) + dt.timedelta(at)
        sales = f"{120 + at % 50}.{at % 10}5".replace(".", decimal)
        cells = [day.strftime(write), WEEKDAYS[day.weekday()], str(int(at % 9 == 0)), str(int(at % 60 == 0)), sales]
        lines.append(separator.join(cells))
    return table(*lines)


@pytest.mark.parametrize(
    ("separator", "decimal", "write", "encoding"),
    [
        (",", ".", "%Y-%m-%d", "utf-8"),
        (";", ",", "%d/%m/%Y", "cp1252"),
        (";", ",", "%d-%m-%y", "utf-8-sig"),
        ("\t", ",", "%d.%m.%Y", "utf-16"),
    ],
)
def test_spanish_shop_goes_straight_through(separator, decimal, write, encoding):
    checked = check(spanish_shop(separator, decimal, write).encode(encoding), "ventas.csv")
    report = checked.preflight
    assert report.verdict == "FIX"
    assert (report.rows_used, report.frequency, report.stores, report.products) == (365, "D", 1, 1)
    assert report.mapping.roles == {
        "date": "Fecha",
        "sales": "Ventas",
        "promotion": "Promociones",
        "holiday": "Festivo",
    }
    assert report.mapping.regressors == ()
    assert checked.frame["date"][0] == dt.date(2025, 1, 1)
    assert checked.frame["date"][-1] == dt.date(2025, 12, 31)
    assert checked.frame["sales"][1] == pytest.approx(121.15)
    assert checked.frame["store"].unique().to_list() == ["all"]
    assert checked.frame["holiday"].dtype == pl.Int8
    assert codes(checked)["derived_ignored"] == "info"


def test_row_and_column_are_those_a_person_sees():
    data = table(
        "Sales of the year", "", "Date;Units;Unit price", "2026-01-01;3;1,5", "", '2026-01-02;4;"a\nb"', "2026-01-03"
    )
    checked = check(data)
    rejected = checked.rejected.sort("row")
    assert rejected["row"].to_list() == [6, 7]
    assert rejected["column"].to_list() == ["Unit price", None]
    assert rejected["Unit price"].to_list() == ["a\nb", None]
    assert checked.frame["price"].to_list() == [1.5]


def test_a_row_is_listed_once_with_all_its_reasons():
    checked = check(first_row(date="2026-02-30", quantity_sold="-3", unit_price="abc"))
    assert checked.rejected.height == 1
    row = checked.rejected.row(0, named=True)
    assert (row["row"], row["column"], row["code"]) == (2, "date", "date_impossible")
    assert row["reason"].count(";") == 2
    assert {"date_impossible", "sales_negative", "number_invalid"} <= set(codes(checked))


def test_a_hundred_thousand_bad_rows_make_one_finding():
    checked = check(table("date,sales", *["2026-01-01,-5"] * 100_000, "2026-01-02,5"))
    found = only(checked, "sales_negative")
    assert (found.row, found.count) == (2, 100_000)
    assert checked.rejected.height == 100_000
    assert len(checked.preflight.findings) == 1


def test_raw_columns_named_like_ours_keep_apart():
    checked = check(table("date,sales,row,code,reason,column", "2026-01-01,5,1,2,3,4", "2026-01-02,x,1,2,3,4"))
    assert checked.rejected.columns[:4] == ["row", "column", "code", "reason"]
    assert checked.rejected["code (file)"].to_list() == ["2"]
    assert checked.rejected["row"].to_list() == [3]


def test_refused_file_still_lists_its_rows():
    checked = check(table("date,store", "2026-01-01,a", "2026-01-02,b", "2026-01-03"))
    assert checked.preflight.verdict == "REJECT"
    assert checked.preflight.rows_rejected == 3
    found = only(checked, "columns_missing")
    assert "sales" in found.message
    assert "date, store" in found.message


# ---------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["12", "3"], [12.0, 3.0]),
        (["12,5", "3"], [12.5, 3.0]),
        (["1.234,5", "3,25"], [1234.5, 3.25]),
        (["1,234.5", "3.25"], [1234.5, 3.25]),
        (["1.234", "980", "12"], [1234.0, 980.0, 12.0]),
        (["1.234.567", "3"], [1234567.0, 3.0]),
        (["1 234,5", "3,5"], [1234.5, 3.5]),
        (["0,125", "3,5"], [0.125, 3.5]),
        ([" 12 ", "3"], [12.0, 3.0]),
    ],
)
def test_sales_as_people_write_them(cells, expected):
    lines = [f"2026-01-0{at};{cell}" for at, cell in enumerate(cells, 1)]
    checked = check(table("fecha;kilos", *lines))
    assert checked.frame["sales"].to_list() == expected


def test_one_column_has_one_decimal_sign():
    checked = check(table("date;sales;price", "2026-01-01;1;9,99", "2026-01-02;2;8,5", "2026-01-03;3;9.99"))
    assert checked.rejected["row"].to_list() == [4]
    assert checked.preflight.dialect.decimal == ","


def test_chosen_decimal_sign_wins():
    rows = ["2026-01-01;1.234", "2026-01-02;2.345"]
    assert check(table("date;kilos", *rows), options=ReadOptions(decimal=",")).frame["sales"].to_list() == [1234, 2345]
    assert check(table("date;kilos", *rows), options=ReadOptions(decimal=".")).frame["sales"].to_list() == [
        1.234,
        2.345,
    ]


def test_the_sign_another_column_proves_decides_an_open_one():
    checked = check(table("date;units;price", "2026-01-01;1.234;9,99", "2026-01-02;2.345;8,50"))
    assert checked.frame["sales"].to_list() == [1234.0, 2345.0]
    assert checked.preflight.dialect.decimal == ","


@pytest.mark.parametrize(
    ("name", "fractions", "verdict"),
    [
        ("quantity_sold", 1, "ROWS"),
        ("quantity_sold", 20, "OK"),
        ("kilos", 20, "OK"),
        ("sales", 1, "ROWS"),
        ("sales", 8, "OK"),
    ],
)
def test_fractions_of_units_kilos_and_money(name, fractions, verdict):
    rows = [f"{dt.date(2026, 1, 1) + dt.timedelta(at)},{5.5 if at < fractions else 5}" for at in range(40)]
    checked = check(table(f"date,{name}", *rows))
    assert checked.preflight.verdict == verdict
    assert checked.preflight.rows_rejected == (fractions if verdict == "ROWS" else 0)


@pytest.mark.parametrize(
    ("cells", "order", "first"),
    [
        (["01/02/2026", "13/02/2026"], "dmy", dt.date(2026, 2, 1)),
        (["01/02/2026", "01/13/2026"], "mdy", dt.date(2026, 1, 2)),
        (["1-2-26", "2-2-26", "3-2-26"], "dmy", dt.date(2026, 2, 1)),
        (["02/01/2026", "02/02/2026", "02/03/2026"], "mdy", dt.date(2026, 2, 1)),
        (["20260102", "20260103"], "ymd", dt.date(2026, 1, 2)),
        (["2026/1/2", "2026/1/3"], "ymd", dt.date(2026, 1, 2)),
        (["2026-01-02T00:00:00", "2026-01-03T00:00:00"], "ymd", dt.date(2026, 1, 2)),
        (["2 ene 2026", "3 feb 2026"], "dmy", dt.date(2026, 1, 2)),
        (["2 de enero de 2026", "3 de marzo de 2026"], "dmy", dt.date(2026, 1, 2)),
        (["2026-W05", "2026-W06", "2026W07"], "ymd", dt.date(2026, 1, 26)),
        (["Jan 2, 2026", "Feb 3, 2026"], "dmy", dt.date(2026, 1, 2)),
    ],
)
def test_dates_as_people_write_them(cells, order, first):
    checked = check(table("date|sales", *(f"{cell}|3" for cell in cells)))
    assert checked.preflight.rows_used == len(cells)
    assert checked.preflight.dialect.date_order == order
    assert checked.frame["date"][0] == first


def test_chosen_date_order_wins():
    rows = table("date,sales", "01/02/2026,3", "02/02/2026,4")
    checked = check(rows, options=ReadOptions(date_order="mdy"))
    assert checked.frame["date"].to_list() == [dt.date(2026, 1, 2), dt.date(2026, 2, 2)]
    assert "date_order_ambiguous" not in codes(checked)


def test_discounts_in_percent_become_shares():
    checked = check(table("date,discount_pct,sales", "2026-01-01,20,3", "2026-01-02,0,4"))
    assert checked.frame["promotion"].to_list() == [0.2, 0.0]


def test_flags_in_words():
    rows = [f"2026-01-0{at},{word},3" for at, word in enumerate(["Sí", "no", "true", "X", "FALSE", "1"], 1)]
    checked = check(table("date,promo,sales", *rows))
    assert checked.frame["promotion"].to_list() == [1, 0, 1, 1, 0, 1]
    assert only(checked, "flag_text").count == 5


def test_names_stay_text():
    rows = ["2026-01-01,007,=1+1,3", "2026-01-02,007,@b,4", "2026-01-03, 007 ,=1+1,4"]
    checked = check(table("date,store,sku,sales", *rows))
    assert checked.frame["store"].unique().to_list() == ["007"]
    assert set(checked.frame["product"]) == {"=1+1", "@b"}
    assert only(checked, "formula_text").count == 3


def test_regressors_are_numbers_or_names():
    rows = ["2026-01-01,sí,Navidad,a,3", "2026-01-02,no,,0,4"]
    checked = check(table("date,abierto,event_name,state_holiday,sales", *rows))
    assert checked.preflight.mapping.regressors == ("abierto", "event_name", "state_holiday")
    assert checked.frame["abierto"].to_list() == [1.0, 0.0]
    assert checked.frame["event_name"].to_list() == ["Navidad", None]
    assert checked.frame["state_holiday"].to_list() == ["a", "0"]


# ---------------------------------------------------------------- rows against each other


def test_conflicting_rows_all_go_and_copies_go_but_one():
    data = table("date,sales", "2026-01-01,3", "2026-01-01,4", "2026-01-02,5", "2026-01-02,5", "2026-01-03,6")
    checked = check(data)
    assert checked.frame["date"].to_list() == [dt.date(2026, 1, 2), dt.date(2026, 1, 3)]
    assert dict(checked.rejected.select("row", "code").iter_rows()) == {
        2: "duplicate_conflict",
        3: "duplicate_conflict",
        5: "duplicate_row",
    }


def test_names_that_clean_up_to_one_are_one():
    checked = check(table("date,store,sales", "2026-01-01,a,3", "2026-01-01,a\u200b,4", "2026-01-02,a,5"))
    assert checked.rejected["code"].to_list() == ["duplicate_conflict"] * 2


@pytest.mark.parametrize(
    ("step", "left_out", "frequency", "missing"),
    [(1, (), "D", 0), (1, (3, 4), "D", 2), (7, (), "W", 0), (7, (2,), "W", 1)],
)
def test_frequency_and_gaps(step, left_out, frequency, missing):
    days = [dt.date(2025, 1, 6) + dt.timedelta(step * at) for at in range(30) if at not in left_out]
    rows = [f"{day},{shop},5" for shop in ("a", "b") for day in days]
    report = check(table("date,store,sales", *rows)).preflight
    assert (report.frequency, report.missing_days) == (frequency, 2 * missing)


@pytest.mark.parametrize(
    "cells",
    [["Mon", "Tue"], ["lunes", "MARTES"], ["L", "M"], ["1", "2"], ["0", "1"], ["2", "3"]],
)
def test_weekdays_of_any_convention_fit(cells):
    rows = [f"2026-01-0{5 + at},{cell},3" for at, cell in enumerate(cells)]
    checked = check(table("date,day_of_week,sales", *rows))
    assert codes(checked)["derived_ignored"] == "info"
    assert "day_of_week" not in checked.frame.columns


# ---------------------------------------------------------------- purpose, mapping, formats


def test_predict_needs_no_sales_and_takes_the_future():
    data = table("Fecha,Tienda,Precio,Ventas", "2027-01-01,a,3,", "2027-01-02,a,,", "1/2/3,a,3,")
    checked = check(data, purpose="predict")
    assert checked.frame.columns == ["date", "store", "product", "price"]
    assert checked.frame.height == 2
    assert checked.rejected["code"].to_list() == ["date_invalid"]
    assert check("date\n2026-12-01\n", purpose="predict").preflight.verdict == "OK"


def test_rows_to_predict_may_repeat():
    checked = check(table("date,price", "2027-01-01,3", "2027-01-01,4"), purpose="predict")
    assert checked.frame["price"].to_list() == [3.0, 4.0]


def test_mapping_of_a_person_counts():
    data = table("when,how many,amount,season", "2026-01-01,3,30,winter", "2026-01-02,4,40,winter")
    mapping = Mapping(roles={"date": "when", "sales": "amount"}, regressors=("season",))
    checked = check(data, mapping=mapping)
    assert checked.frame["sales"].to_list() == [30.0, 40.0]
    assert checked.frame["season"].to_list() == ["winter", "winter"]
    assert checked.preflight.mapping == mapping
    roles = {match.source: match.role for match in checked.preflight.columns}
    assert roles == {"when": "date", "how many": "ignore", "amount": "sales", "season": "regressor"}


def test_xlsx_is_held_to_the_same_rules():
    rows: list[list[Any]] = [["Fecha", "Tienda", "Ventas", "Precio"]]
    rows += [[dt.date(2026, 1, day), 1, day, 9.5] for day in range(1, 9)]
    rows[3][3], rows[4][2], rows[5][0] = "abc", -3, "soon"
    checked = check(workbook({"Datos": rows}), "ventas.xlsx")
    assert checked.preflight.format == "xlsx"
    assert checked.frame["store"].unique().to_list() == ["1"]
    listed = {row: (column, code) for row, column, code in checked.rejected.select("row", "column", "code").iter_rows()}
    assert listed == {
        4: ("Precio", "number_invalid"),
        5: ("Ventas", "sales_negative"),
        6: ("Fecha", "date_invalid"),
    }


def test_parquet_is_held_to_the_same_rules():
    days = [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3)]
    checked = check(parquet(date=days, store=[1, 1, 1], sales=[3, None, 5], price=[1.5, 2.5, float("nan")]))
    assert checked.preflight.format == "parquet"
    assert checked.frame["sales"].to_list() == [3.0]
    assert checked.rejected["code"].to_list() == ["sales_empty", "number_not_finite"]


def test_name_of_the_file_is_only_its_base():
    assert check(GOOD, "../../etc/passwd.csv").preflight.filename == "passwd.csv"


# ---------------------------------------------------------------- the list of left-out rows

DANGEROUS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"]


def dangerous_file() -> str:
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(["date", "sales", "=note()"])
    for at, note in enumerate(DANGEROUS, 1):
        writer.writerow([f"2026-01-0{at}", "-3", note])
    return target.getvalue()


def test_rejected_csv_is_text_that_opens_in_a_spreadsheet():
    data = rejected_csv(check(dangerous_file()).rejected)
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows[0] == ["row", "column", "code", "reason", "date", "sales", "'=note()"]
    assert [row[-1] for row in rows[1:]] == ["'" + note for note in DANGEROUS]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row)


def test_rejected_xlsx_holds_text_only():
    data = rejected_xlsx(check(dangerous_file()).rejected)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")
    frame = fastexcel.read_excel(data).load_sheet(0).to_polars()
    assert frame["row"].to_list() == [2, 3, 4, 5, 6, 7]
    assert frame["sales"].to_list() == ["'-3"] * 6


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_days_beyond_any_calendar_are_listed(unit):
    days = pl.Series([2**62, 1_767_225_600_000 * {"ms": 1, "us": 10**3, "ns": 10**6}[unit]])
    checked = check(parquet(date=days.cast(pl.Datetime(unit)), sales=[3, 4]))
    assert checked.rejected["row"].to_list() == [2]
    assert checked.frame["date"].to_list() == [dt.date(2026, 1, 1)]


def test_nothing_left_out_makes_an_empty_list():
    checked = check(GOOD)
    assert rejected_csv(checked.rejected).decode("utf-8-sig").splitlines() == [
        "row,column,code,reason,date,store_id,product_id,category,quantity_sold,unit_price,promotion,revenue"
    ]
    assert fastexcel.read_excel(rejected_xlsx(checked.rejected)).sheet_names == ["rows 1"]


# ---------------------------------------------------------------- random tables

cell = st.one_of(
    st.sampled_from(["", " ", "0", "1", "3.5", "9,99", "1.234", "-2", "NaN", "1e400", "0x1F", "$5", "sí", "=1+1"]),
    st.sampled_from(["2026-01-01", "2026-01-02", "2026-02-30", "01/02/2026", "2126-01-01", "45000", "a\nb", 'q"q']),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=6),  # many controls: no text
    st.dates(dt.date(2025, 1, 1), dt.date(2026, 10, 1)).map(str),
    st.integers(-5, 5_000).map(str),
)
NAMES = [
    "date",
    "Fecha",
    "store",
    "sku",
    "units_sold",
    "Ventas",
    "precio",
    "promo",
    "festivo",
    "open",
    "x",
    "DíaSemana",
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=6, unique=True))
    rows = draw(st.lists(st.lists(cell, min_size=len(names), max_size=len(names)), min_size=1, max_size=12))
    return names, rows


@given(
    tables(),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["training", "predict"]),
)
@settings(max_examples=RANDOM_TABLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_used_plus_listed_is_rows_in(made, separator, line_end, purpose):
    names, rows = made
    target = io.StringIO(newline="")
    writer = csv.writer(target, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *rows])
    checked = check(target.getvalue(), purpose=purpose, options=ReadOptions(separator=separator))
    assert checked.preflight.rows_total == len(rows)
    used = set(range(2, len(rows) + 2)) - set(checked.rejected["row"])
    assert len(used) == checked.frame.height
    assert len(checked.preflight.findings) <= 60


@given(st.binary(max_size=300))
@settings(max_examples=RANDOM_TABLES // 2, deadline=None)
def test_no_bytes_raise(data):
    check(data)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4), st.sampled_from(["xlsx", "parquet", "csv"]))
@settings(max_examples=RANDOM_TABLES // 3, deadline=None)
def test_damaged_files_do_not_raise(at, noise, kind):
    data = DAMAGED[kind]
    at %= len(data)
    check(data[:at] + noise + data[at + len(noise) :], f"a.{kind}")


DAMAGED = {
    "csv": GOOD.encode(),
    "xlsx": workbook({"a": [["date", "sales"], *([dt.date(2026, 1, day), day] for day in range(1, 9))]}),
    "parquet": parquet(date=[dt.date(2026, 1, day) for day in range(1, 9)], sales=list(range(8))),
}
