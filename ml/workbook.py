"""XLSX: refuse what would not fit into memory, choose the sheet, read its rows."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import fastexcel
import polars as pl

from ml.findings import finding, refused, shown
from ml.headers import Record, column_names, drop_nameless, header_at, known_names, nameless_findings, preamble, trimmed
from ml.records import Finding, ReadOptions
from ml.table import Table, no_bad_rows, usable_types

CELL_LIMIT = 60_000_000  # a workbook's used range is held dense in memory, about 24 bytes a cell
_WORKBOOK_LIMIT = 1024**3
_BIG_ROW = re.compile(rb"""\br=["'][A-Z]{0,3}(\d{6,7})["']""")
_BIG_COLUMN = re.compile(rb"""\br=["']([A-Z]{2,3})\d""")
_ZIP_KINDS = (("word/", "a Word document"), ("ppt/", "a presentation"), ("content.xml", "an OpenDocument file"))


def check_workbook(data: bytes) -> None:
    """Refuse zip files that are no workbook, and workbooks that would not fit into memory, before any parser."""
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise refused("file_damaged", kind="a zip archive or XLSX", detail=shown(error)) from error
    names = [entry.filename for entry in entries]
    if "xl/workbook.xml" not in names:
        for start, kind in _ZIP_KINDS:
            if any(name.startswith(start) for name in names):
                raise refused("file_not_table", kind=kind)
        raise refused("file_compressed", kind="a zip archive")
    if any(entry.flag_bits & 1 for entry in entries):
        raise refused("file_old_excel")
    _check_unpacked(data, entries)


def _check_unpacked(data: bytes, entries: list[zipfile.ZipInfo]) -> None:
    total = 0
    for entry in entries:
        sheet = entry.filename.startswith("xl/worksheets/")
        rows, columns, tail = 99_999, 26, b""
        for chunk in _unpack(data, entry):
            total += len(chunk)
            if total > _WORKBOOK_LIMIT:
                raise refused("file_too_large_inside", size="more than 1 GB", limit="1 GB")
            if sheet:
                part = tail + chunk
                rows = max([rows, *map(int, set(_BIG_ROW.findall(part)))])
                columns = max([columns, *map(_column_number, set(_BIG_COLUMN.findall(part)))])
                tail = chunk[-32:]
        if rows * columns > CELL_LIMIT:
            cells = f"{rows:,} × {columns:,} cells"
            raise refused("file_too_large_inside", size=cells, limit=f"{CELL_LIMIT:,} cells")


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _unpack(data: bytes, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The entry's real content; the sizes a zip file claims for itself are not believed."""
    at = entry.header_offset
    start = (
        at + 30 + int.from_bytes(data[at + 26 : at + 28], "little") + int.from_bytes(data[at + 28 : at + 30], "little")
    )
    packed = memoryview(data)[start : start + entry.compress_size]
    if entry.compress_type == zipfile.ZIP_STORED:
        yield bytes(packed)
        return
    inflate = zlib.decompressobj(-15)  # a raw stream, as zip files hold it
    try:
        for begin in range(0, len(packed), 1 << 16):
            rest = bytes(packed[begin : begin + (1 << 16)])
            while rest:
                yield inflate.decompress(rest, 1 << 20)
                rest = inflate.unconsumed_tail
    except zlib.error as error:
        raise refused("file_damaged", kind="XLSX", detail=shown(error)) from error


@dataclass(frozen=True)
class _Sheet:
    """The first rows of one sheet, and how many rows it has."""

    name: str
    head: list[Record]
    height: int

    @property
    def known(self) -> int:
        return known_names(self.head[header_at(self.head, 0)].cells)[0]


def read_xlsx(data: bytes, options: ReadOptions) -> Table:
    """Read the sheet that was asked for, or the one whose column names say most."""
    try:
        book = fastexcel.read_excel(data)
        sheet, findings = _choose_sheet(book, options.sheet)
        at = header_at(sheet.head, 0)
        header, above = sheet.head[at], sheet.head[:at]
        names, made = column_names(header.raw, at + 1)
        frame = _load_rows(book, sheet, at + 1, names)
    except fastexcel.FastExcelError as error:
        raise refused("file_damaged", kind="XLSX", detail=shown(str(error).splitlines()[0])) from error
    frame, dropped = drop_nameless(frame, made)
    findings += [f for f in nameless_findings(made, dropped, names) if f.code == "header_empty"]
    findings += preamble([shown(" ".join(filter(None, record.cells))) for record in above if any(record.cells)])
    findings += trimmed(header.raw)
    rows = pl.int_range(at + 2, at + 2 + frame.height, eager=True).alias("row")
    filled = ~frame.select(pl.all_horizontal(pl.all().is_null())).to_series() if frame.width else rows.is_null()
    if not filled.all():
        findings.append(finding("blank_lines", "info", count=int((~filled).sum())))
        frame, rows = frame.filter(filled), rows.filter(filled)
    dialect = ReadOptions(sheet=sheet.name, decimal=options.decimal)
    return Table(frame, rows, "xlsx", dialect, tuple(findings), no_bad_rows(frame.columns))


def _choose_sheet(book: fastexcel.ExcelReader, wanted: str | None) -> tuple[_Sheet, list[Finding]]:
    seen = list(book.sheet_names)
    if wanted is not None and wanted not in seen:
        raise refused("sheet_missing", sheet=shown(wanted), seen=", ".join(map(shown, seen[:20])))
    sheets = [_look_at(book, name) for name in ([wanted] if wanted else seen[:20])]
    filled = [sheet for sheet in sheets if any(any(record.cells) for record in sheet.head)]
    if not filled:
        raise refused("sheet_empty")
    best = max(filled, key=lambda sheet: sheet.known)
    others = ", ".join(shown(name) for name in seen if name != best.name)
    chosen = others and not wanted
    return best, [finding("sheet_chosen", "info", sheet=shown(best.name), others=others)] if chosen else []


def _look_at(book: fastexcel.ExcelReader, name: str) -> _Sheet:
    sheet = book.load_sheet(name, header_row=None, skip_rows=0, n_rows=31, dtypes="string")
    rows = sheet.to_polars().iter_rows()
    head = [Record(["" if c is None else str(c) for c in cells], row, row) for row, cells in enumerate(rows, 1)]
    return _Sheet(name, head, sheet.total_height)


def _load_rows(book: fastexcel.ExcelReader, sheet: _Sheet, skip: int, names: list[str]) -> pl.DataFrame:
    if sheet.height <= skip:
        raise refused("no_rows")
    frame = book.load_sheet(sheet.name, header_row=None, skip_rows=skip, schema_sample_rows=None).to_polars()
    return usable_types(frame.rename(dict(zip(frame.columns, names, strict=True))))[0]
