"""CSV and its relatives: separator, header, rows, and the rows that do not fit."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv

from ml.decoding import HEAD, refuse_other_text, to_utf8
from ml.findings import finding, reason, refused, shown
from ml.headers import (
    MAX_COLUMNS,
    Record,
    column_names,
    drop_nameless,
    header_at,
    known_names,
    nameless_findings,
    preamble,
    trimmed,
)
from ml.records import Finding, ReadOptions
from ml.table import Table, no_bad_rows, raw_name

SEPARATORS = (",", ";", "\t", "|")
_SHORT, _LONG = "row_too_short", "row_too_long"
SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}


@dataclass(frozen=True)
class _Layout:
    """Where the columns are: ``offset`` is the byte after the header, ``skipped`` the lines above it."""

    separator: str
    names: tuple[str, ...]
    header_row: int
    offset: int
    skipped: tuple[str, ...] = ()


def _layout(data: bytes, wanted: str | None) -> _Layout:
    head = codecs.getincrementaldecoder("utf-8")("replace").decode(data[:HEAD])
    refuse_other_text(head)
    told = re.match(r'"?sep=([^\w\s"]|\t)"?\r?\n', head, re.ASCII)  # spreadsheets write such a line, and hide it
    choices = [_separator_option(wanted)] if wanted else [told.group(1)] if told else SEPARATORS
    lines = list(io.StringIO(head, newline=""))
    read = {sep: _records(lines, sep, len(data) > HEAD) for sep in choices}
    separator = max(read, key=lambda sep: _fit(read[sep]))
    records = read[separator]
    if not records:
        raise refused("header_too_long", limit=HEAD)
    at = header_at(records, 1 if told else 0)
    header = records[at]
    return _Layout(
        separator=separator,
        names=_with_surplus(header.raw, records[at + 1 :]),
        header_row=header.row,
        offset=sum(len(line.encode()) for line in lines[: header.lines]),
        skipped=tuple(shown(separator.join(record.cells)) for record in records[bool(told) : at] if any(record.cells)),
    )


def _separator_option(wanted: str) -> str:
    separator = {"tab": "\t", "\\t": "\t"}.get(wanted, wanted)
    if len(separator.encode()) != 1 or separator.isalnum() or separator in '"\r\n':
        raise refused("separator_invalid", separator=shown(wanted))
    return separator


def _records(lines: list[str], separator: str, cut: bool) -> list[Record]:
    """The first records of the file as a spreadsheet would split them; the last one is dropped if it may be cut."""
    found: list[Record] = []
    reader = csv.reader(lines, delimiter=separator)
    try:
        for row, cells in enumerate(reader, 1):
            found.append(Record(cells, row, reader.line_num))
            if len(found) == 300:
                return found
    except csv.Error:
        return found
    return found[:-1] if cut else found


def _fit(records: list[Record]) -> tuple[int, bool, float, int]:
    if not records:
        return 0, False, 0.0, 0
    at = header_at(records, 0)
    width = len(records[at].cells)
    rows = [len(record.cells) for record in records[at + 1 :] if record.cells]
    alike = sum(cells == width for cells in rows) / len(rows) if rows else 1.0
    known = known_names(records[at].cells[:MAX_COLUMNS])[0] if width > 1 else 0  # a title may be a known word
    return known, width > 1, alike, width


def _with_surplus(header: list[str], records: list[Record]) -> tuple[str, ...]:
    """The header, made as wide as the rows when these all end with separators that the header does not have."""
    if len(header) > MAX_COLUMNS:
        raise refused("too_many_columns", columns=len(header), limit=MAX_COLUMNS)
    widths = Counter(len(record.cells) for record in records if record.cells)
    width = widths.most_common(1)[0][0] if widths else len(header)
    wide = [record.cells[len(header) :] for record in records if len(record.cells) == width]
    if len(header) < width <= len(header) + 3 and not any(any(cells) for cells in wide):
        return (*header, *[""] * (width - len(header)))
    return tuple(header)


@dataclass
class _BadRow:
    at: int  # which record after the header, blank lines not counted, from 1
    cells: int
    text: str


@dataclass(frozen=True)
class _Body:
    """The rows below the header, without the line ends after the last one; a view, since files are large."""

    data: bytes
    begin: int
    end: int

    @property
    def view(self) -> memoryview:
        return memoryview(self.data)[self.begin : self.end]

    @property
    def line_ends(self) -> int:
        return self.data.count(b"\n", self.begin, self.end) or self.data.count(b"\r", self.begin, self.end)


def read_csv(data: bytes, options: ReadOptions) -> tuple[Table, bool]:
    """Read delimited text; the second value is true when bytes that are no text were replaced by U+FFFD."""
    text = to_utf8(data, options.encoding)
    if not text.data[:HEAD].strip() and not text.data.strip():
        raise refused("file_blank")
    layout = _layout(text.data, options.separator)
    names, made = column_names(layout.names, layout.header_row)
    body = _body(text.data, layout.offset)
    quoted = b'"' in text.data
    frame, bad = _parse(body, names, layout.separator, quoted)
    rows, bad_numbers, blanks = _row_numbers(body, frame.height, bad, layout.header_row)
    if quoted:
        _refuse_swallowed_rows(frame, rows, bad, bad_numbers, layout.separator)
    frame, dropped = drop_nameless(frame, made)
    ragged, said = _ragged_rows(bad, bad_numbers, frame.columns, len(names), layout.separator)
    findings = [*text.findings(), *_layout_findings(layout, options), *nameless_findings(made, dropped, names), *said]
    if blanks:
        findings.append(finding("blank_lines", "info", count=blanks))
    dialect = ReadOptions(separator=layout.separator, encoding=text.encoding, decimal=options.decimal)
    return Table(frame, rows, "csv", dialect, tuple(findings), ragged), text.damaged


def _body(data: bytes, begin: int) -> _Body:
    end = len(data)
    while end > begin and data[end - 1] in b"\r\n":
        end -= 1
    if begin == end:
        raise refused("no_rows")
    return _Body(data, begin, end)


def _parse(body: _Body, names: list[str], separator: str, quoted: bool) -> tuple[pl.DataFrame, list[_BadRow]]:
    """Split the rows; quickly if all have the right number of cells, else again, in order, to number the others."""
    bad: list[_BadRow] = []

    def note(row: pa.csv.InvalidRow) -> str:
        bad.append(_BadRow(row.number, row.actual_columns, row.text))
        return "skip"

    whole = min(body.end - body.begin + 1024, 2**31 - 1)  # a row longer than a block needs one block for all
    tries = ((True, 1 << 22, lambda row: "error"), (False, 1 << 22, note), (False, whole, note))
    for threads, block, on_bad in tries:
        bad.clear()
        try:
            return _arrow(body.view, names, separator, quoted, threads, block, on_bad), bad
        except pa.ArrowInvalid as error:
            failure = error
    raise refused("file_damaged", kind="CSV", detail=shown(failure)) from failure


def _arrow(
    body: memoryview,
    names: list[str],
    separator: str,
    quoted: bool,
    threads: bool,
    block: int,
    on_bad: Callable[[pa.csv.InvalidRow], str],
) -> pl.DataFrame:
    table = pa.csv.read_csv(
        pa.BufferReader(pa.py_buffer(body)),
        read_options=pa.csv.ReadOptions(use_threads=threads, block_size=block, column_names=names),
        parse_options=pa.csv.ParseOptions(
            delimiter=separator, newlines_in_values=quoted, ignore_empty_lines=True, invalid_row_handler=on_bad
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    )
    return pl.DataFrame(pl.from_arrow(table))


def _row_numbers(body: _Body, good: int, bad: list[_BadRow], header_row: int) -> tuple[pl.Series, list[int], int]:
    """The number a person sees for each good and bad row, and how many blank lines lie between them."""
    total = good + len(bad)
    numbers, blanks = np.arange(1, total + 1, dtype=np.int64), 0
    if body.line_ends != total - 1:
        seen = _records_that_hold_something(body)
        if len(seen) == total:
            numbers, blanks = seen, int(seen[-1] - total)
    if not bad:
        return pl.Series("row", numbers + header_row), [], blanks
    at = np.array([row.at for row in bad], dtype=np.int64) - 1
    keep = np.ones(total, dtype=bool)
    keep[at] = False
    return pl.Series("row", numbers[keep] + header_row), (numbers[at] + header_row).tolist(), blanks


def _records_that_hold_something(body: _Body) -> np.ndarray:
    """Numbers, from 1, of the records that are not blank lines; line ends inside quotes end no record."""
    data = bytes(body.view).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    signs = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(signs == 10)
    inside = np.searchsorted(np.flatnonzero(signs == 34), ends) & 1
    ends = ends[inside == 0]
    starts = np.concatenate(([0], ends + 1))
    lengths = np.concatenate((ends, [len(data)])) - starts
    return np.flatnonzero(lengths > 0).astype(np.int64) + 1


def _refuse_swallowed_rows(
    frame: pl.DataFrame, rows: pl.Series, bad: list[_BadRow], numbers: list[int], separator: str
) -> None:
    """A quote that is never closed turns the rows after it into one cell; such a file must not be half read."""
    others = frame.width - 1
    for row, number in zip(bad, numbers, strict=True):
        ends = row.text.count("\n") or row.text.count("\r")
        odd = row.text.count('"') % 2 == 1
        if ends and (odd or row.text.count(separator) >= others * (ends + 1)):
            raise refused("unclosed_quote", row=number)
    if not others:
        return
    for column in frame:
        many = column.str.contains("\n", literal=True)
        if many.any():
            cells = column.filter(many)
            swallowed = cells.str.count_matches(separator, literal=True) >= others * cells.str.count_matches("\n")
            if swallowed.any():
                raise refused("unclosed_quote", row=int(rows.filter(many).filter(swallowed)[0]))


def _layout_findings(layout: _Layout, options: ReadOptions) -> Iterator[Finding]:
    if layout.separator != "," and options.separator is None:
        name = SEPARATOR_NAMES.get(layout.separator, layout.separator)
        yield finding("separator_detected", "fix", separator=name)
    yield from preamble(list(layout.skipped))
    yield from trimmed(layout.names)


def _ragged_rows(
    bad: list[_BadRow], numbers: list[int], columns: list[str], width: int, separator: str
) -> tuple[pl.DataFrame, list[Finding]]:
    kept = [(row, number) for row, number in zip(bad, numbers, strict=True) if not _is_blank(row)]
    if not kept:
        return no_bad_rows(columns), []
    own = pl.DataFrame(
        {"row": [number for _, number in kept], "cells": [row.cells for row, _ in kept]},
        schema={"row": pl.Int64, "cells": pl.Int64},
    ).with_columns(code=pl.when(pl.col("cells") < width).then(pl.lit(_SHORT)).otherwise(pl.lit(_LONG)))
    groups = own.group_by("code", maintain_order=True).agg(pl.col("row", "cells").first(), pl.len().alias("count"))
    findings = [
        finding(code, "row", row=row, count=count, cells=cells, columns=width)
        for code, row, cells, count in groups.iter_rows()
    ]
    said = {
        cells: reason(_SHORT if cells < width else _LONG, cells=cells, columns=width) for cells in own["cells"].unique()
    }
    own = own.select(
        "row",
        pl.lit(None, dtype=pl.String).alias("column"),
        "code",
        pl.col("cells").replace_strict(said).alias("reason"),
    )
    cells = zip(*(_as_wide(_split(row.text, separator), len(columns), separator) for row, _ in kept), strict=True)
    raw = [pl.Series(raw_name(name), texts, dtype=pl.String) for name, texts in zip(columns, cells, strict=True)]
    return own.hstack(raw), findings


def _is_blank(row: _BadRow) -> bool:
    return row.cells == 1 and not row.text.strip()


def _split(text: str, separator: str) -> list[str]:
    if '"' not in text:
        return text.split(separator)
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error:  # one cell beyond the csv module's limit
        return [text]


def _as_wide(cells: list[str], width: int, separator: str) -> list[str | None]:
    if len(cells) > width:
        return [*cells[: width - 1], separator.join(cells[width - 1 :])]
    return [*cells, *[None] * (width - len(cells))]
