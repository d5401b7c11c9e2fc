"""Tables as files: CSV that Excel opens by double click, XLSX with a cover sheet that says what it is."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
import xlsxwriter

from control_room.i18n import decimal_mark, gettext

# A spreadsheet runs a cell that starts like this.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
CSV_MIME = "text/csv"
XLSX_MIME = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def as_text(value: Any) -> Any:
    """A cell that starts like a formula, made text; everything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def safe(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy whose text cells and column names no spreadsheet will run."""
    frame = frame.rename(columns=as_text)
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_datetime64_any_dtype(frame[name]):
            frame[name] = frame[name].map(as_text)
    return frame


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """CSV with BOM, in the separator and decimal mark that the reader's spreadsheet expects."""
    decimal = "," if decimal_mark() == "," else "."
    separator = ";" if decimal == "," else ","
    return safe(frame).to_csv(index=False, sep=separator, decimal=decimal).encode("utf-8-sig")


def xlsx_bytes(frame: pd.DataFrame, cover: Mapping[str, object]) -> bytes:
    """XLSX: a cover sheet with filters, model and data version, then the table."""
    buffer = io.BytesIO()
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "nan_inf_to_errors": True,
        "remove_timezone": True,
        "default_date_format": "yyyy-mm-dd",
    }
    with xlsxwriter.Workbook(buffer, options) as book:
        bold = book.add_format({"bold": True, "bottom": 1})
        _write_cover(book, bold, cover)
        _write_table(book, bold, safe(frame))
    return buffer.getvalue()


def _write_cover(book: xlsxwriter.Workbook, bold: Any, cover: Mapping[str, object]) -> None:
    sheet = book.add_worksheet(gettext("About"))
    made = {gettext("Made at (UTC)"): f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"}
    for index, (name, value) in enumerate({**cover, **made}.items()):
        sheet.write_string(index, 0, str(name), bold)
        sheet.write_string(index, 1, str(value))
    sheet.set_column(0, 0, 28)
    sheet.set_column(1, 1, 60)


def _write_table(book: xlsxwriter.Workbook, bold: Any, frame: pd.DataFrame) -> None:
    sheet = book.add_worksheet(gettext("Data"))
    moments = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    for column, name in enumerate(frame.columns):
        sheet.write_string(0, column, str(name), bold)
        for row, value in enumerate(frame[name], start=1):
            _write_cell(sheet, row, column, value, moments)
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, max(len(frame), 1), max(len(frame.columns) - 1, 0))
    sheet.set_column(0, max(len(frame.columns) - 1, 0), 16)


def _write_cell(sheet: Any, row: int, column: int, value: Any, moments: Any) -> None:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return
    if isinstance(value, pd.Timestamp | dt.datetime):
        sheet.write_datetime(row, column, pd.Timestamp(value).to_pydatetime(), moments)
    elif isinstance(value, dt.date):
        sheet.write_datetime(row, column, dt.datetime.combine(value, dt.time()))
    elif pd.api.types.is_number(value):
        sheet.write(row, column, value)
    else:
        sheet.write_string(row, column, str(value))
