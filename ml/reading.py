"""Bytes of an uploaded file to a table that nobody has checked yet.

Magic bytes come before any parser, then encoding, separator and header. Every row of the file ends up either in
``Table.frame`` or in ``Table.bad_rows`` with a reason. Row numbers are those a spreadsheet shows for the file (the
header of an ordinary file is row 1); Parquet, which has no rows to look at, is numbered the same way.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import charset_normalizer
import fastexcel
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ml.findings import VALUE_LIMIT, Fact, finding, reason, refused, shown
from ml.records import ROLES, ColumnMatch, Finding, Mapping, ReadOptions
from ml.values import as_text, blank, read_dates, read_flags, read_numbers
from ml.vocabulary import EXACT, PART, WEAK, Meaning, meaning_of, says_percent

MAX_COLUMNS = 1_000
FIELD_LIMIT = 32_767  # what one spreadsheet cell can hold; longer text is a lost quote, not a name
HEAD = 65_536  # bytes that decide kind, separator and header
UNPACKED_LIMIT = 4 * 1024**3  # bytes of a workbook or Parquet file once it is unpacked
CELL_LIMIT = 60_000_000  # a workbook's used range is held dense in memory, about 24 bytes a cell
SEPARATORS = (",", ";", "\t", "|")
SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
BAD_COLUMNS = ("row", "column", "code", "reason")
INVISIBLE = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"

Format = Literal["csv", "xlsx", "parquet"]


@dataclass(frozen=True)
class Table:
    """An unchecked table: columns as in the file, ``rows`` the row number a person sees for each frame row.

    ``frame`` is text for CSV, native types for XLSX and Parquet. ``bad_rows`` holds what the parser itself left out:
    row, column, code, reason, then the raw cells as text.
    """

    frame: pl.DataFrame
    rows: pl.Series
    format: Format
    dialect: ReadOptions
    findings: tuple[Finding, ...]
    bad_rows: pl.DataFrame


def read_table(data: bytes, filename: str, options: ReadOptions = ReadOptions()) -> Table:  # noqa: B008 - frozen
    """Read CSV, XLSX or Parquet bytes; what the bytes are counts, not what the name says.

    Parameters
    ----------
    data
        The whole file.
    filename
        Only for messages; see :func:`safe_name`.
    options
        What a person chose; everything left out is detected.

    Raises
    ------
    FileRefused
        The bytes are no table that can be read. ``facts["finding"]`` says which rule refused it.

    Examples
    --------
    >>> read_table(b"date;sales\\n2026-01-01;3\\n", "a.csv").frame.columns
    ['date', 'sales']
    """
    kind = _kind(data)
    if kind == "parquet":
        return _read_parquet(data)
    if kind == "xlsx":
        return _read_xlsx(data, options)
    return _read_csv(data, options)


def safe_name(filename: str) -> str:
    """The base name of an uploaded file with nothing in it that a path, a shell or a page could mistake.

    Examples
    --------
    >>> safe_name("../../etc/passwd.csv")
    'passwd.csv'
    """
    base = re.split(r"[/\\]", unicodedata.normalize("NFC", filename))[-1]
    base = re.sub(r"[^\w.()+ -]", "_", base).strip(" .-")
    stem, dot, ending = base.rpartition(".")
    if len(base) > 120 and dot:
        base = stem[: 119 - len(ending[:10])] + "." + ending[:10]
    return base[:120] or "upload"


# ---------------------------------------------------------------- what kind of file

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "file_compressed", "a gzip archive"),
    (b"BZh9", "file_compressed", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "file_compressed", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "file_compressed", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "file_compressed", "a 7-zip archive"),
    (b"Rar!\x1a\x07", "file_compressed", "a RAR archive"),
    (b"%PDF-", "file_not_table", "a PDF document"),
    (b"\x89PNG\r\n", "file_not_table", "a PNG image"),
    (b"\xff\xd8\xff", "file_not_table", "a JPEG image"),
    (b"GIF8", "file_not_table", "a GIF image"),
    (b"II*\x00", "file_not_table", "a TIFF image"),
    (b"SQLite format 3\x00", "file_not_table", "an SQLite database"),
    (b"ARROW1\x00\x00", "file_not_table", "an Arrow file"),
    (b"\x7fELF", "file_not_table", "a program"),
    (b"\xd0\xcf\x11\xe0", "file_old_excel", "an old Office document"),
)
_TEXT_KINDS: tuple[tuple[str, str], ...] = (
    (r"\s*(<!doctype html|<html|<head|<body|<table|<meta)", "an HTML page"),
    (r"\s*<(\?xml|[a-zA-Z][\w:.-]*[\s>])", "an XML document"),
    (r'\s*(\{\s*"|\{\s*\}|\[\s*[\[{])', "a JSON document"),
    (r"\{\\rtf|%!PS|-----BEGIN ", "a document"),
)
_CONTROLS = bytes(set(range(32)) - {7, 9, 10, 11, 12, 13, 26, 27})


def _kind(data: bytes) -> Format:
    if not data:
        raise refused("file_empty")
    for magic, code, kind in _MAGIC:
        if data.startswith(magic):
            raise refused(code, kind=kind)
    if data.startswith(b"PAR1"):
        return "parquet"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        _check_workbook(data)
        return "xlsx"
    return "csv"


def _refuse_other_text(head: str) -> None:
    for pattern, kind in _TEXT_KINDS:
        if re.match(pattern, head, re.IGNORECASE):
            raise refused("file_not_table", kind=kind)


def _is_binary(head: bytes) -> bool:
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls >= 3 and controls > 0.02 * len(head)


# ---------------------------------------------------------------- encoding

_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Western shops write; a byte that gives anything else speaks against the encoding.
_WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüœŒ€£¡¿ªº°·«»‘’“”–—…™®©´½¼¾²³\u00a0")
_WESTERN_ENCODINGS = ("cp1252", "cp850", "mac_roman")
_UTF8_PAIR = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ASCII = bytes(range(128))


@dataclass(frozen=True)
class _Text:
    """The file as UTF-8; ``damaged`` when bytes that are no text were replaced by U+FFFD."""

    data: bytes
    encoding: str
    damaged: bool = False
    bom: bool = False

    def findings(self) -> list[Finding]:
        found = []
        if self.encoding != "utf-8":
            found.append(finding("encoding_detected", "fix", encoding=self.encoding, sample=self._sample()))
        elif self.bom:
            found.append(finding("byte_order_mark", "fix"))
        return found

    def _sample(self) -> str:
        first = re.search(rb"[^\n\r,;\t|]*[\x80-\xff][^\n\r,;\t|]*", self.data)
        part = first.group()[:200] if first else self.data[:40]
        return shown(part.decode("utf-8", "replace").strip())


def _to_utf8(data: bytes, encoding: str | None) -> _Text:
    text = _decode_as(data, encoding) if encoding else _decode_detected(data)
    body = text.data.rstrip(b"\x1a\x00") if text.data.endswith((b"\x1a", b"\x00")) else text.data
    if b"\x00" in body:
        return _Text(body.replace(b"\x00", "\ufffd".encode()), text.encoding, True, text.bom)
    return _Text(body, text.encoding, text.damaged, text.bom)


def _decode_as(data: bytes, encoding: str) -> _Text:
    try:
        info = codecs.lookup(encoding)
        "".encode(info.name)  # refuses codecs that are not text encodings (base64, zip …)
    except (LookupError, ValueError) as error:
        raise refused("encoding_unknown", encoding=shown(encoding)) from error
    name = "utf-8" if info.name == "utf-8-sig" else info.name
    bom = name == "utf-8" and data.startswith(codecs.BOM_UTF8)
    body = data[3:] if bom else data
    try:
        text = body.decode(name).removeprefix("\ufeff")
    except UnicodeError as error:
        if name == "utf-8":
            return _Text(body.decode("utf-8", "replace").encode(), name, True, bom)
        raise refused("encoding_mismatch", encoding=name, detail=shown(error)) from error
    return _Text(text.encode("utf-8", "replace"), name, False, bom)


def _decode_detected(data: bytes) -> _Text:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            body = data[len(mark) :] if encoding == "utf-8" else data
            return _decode_marked(body, encoding)
    wide = _wide_without_mark(data[:HEAD])
    if wide:
        return _decode_marked(data, wide)
    if _is_binary(data[:HEAD]):
        raise refused("file_not_table", kind="binary data")
    if data.isascii() or _is_utf8(data):
        return _Text(data, "utf-8")
    return _decode_legacy(data)


def _decode_marked(data: bytes, encoding: str) -> _Text:
    try:
        if encoding == "utf-8" and _is_utf8(data):
            return _Text(data, encoding, bom=True)
        return _Text(data.decode(encoding).encode(), encoding, bom=True)
    except UnicodeError:
        return _Text(data.decode(encoding, "replace").encode("utf-8", "replace"), encoding, damaged=True, bom=True)


def _wide_without_mark(head: bytes) -> str | None:
    """UTF-16 without a mark has a zero in nearly every second byte of plain text."""
    half = len(head) // 2
    if half < 2:
        return None
    if head[1::2].count(0) > 0.7 * half and head[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > 0.7 * half and head[1::2].count(0) < 0.1 * half else None


def _is_utf8(data: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), 1 << 22):
            decoder.decode(data[at : at + (1 << 22)])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _decode_legacy(data: bytes) -> _Text:
    """Bytes that are not UTF-8: another encoding if it explains all of them, else UTF-8 with damaged rows."""
    high = data.translate(None, _ASCII)
    whole = sum(len(match) for match in _UTF8_PAIR.findall(data))
    if whole <= len(high) - whole and not set(high) <= {0xC2, 0xC3}:
        encoding = _western(high) or _guessed(data, len(high))
        if encoding:
            return _Text(data.decode(encoding).encode(), encoding)
    return _Text(data.decode("utf-8", "replace").encode(), "utf-8", damaged=True)


def _western(high: bytes) -> str | None:
    for encoding in _WESTERN_ENCODINGS:
        try:
            if set(high.decode(encoding)) <= _WESTERN:
                return encoding
        except UnicodeDecodeError:
            continue
    return None


def _guessed(data: bytes, high: int) -> str | None:
    """Another alphabet, if there is enough text to tell."""
    if high < 40:
        return None
    best = charset_normalizer.from_bytes(data[:HEAD]).best()
    if best is None or best.encoding.startswith("utf"):
        return None
    try:
        data.decode(best.encoding)
    except UnicodeDecodeError:
        return None
    return best.encoding


# ---------------------------------------------------------------- separator and header


@dataclass(frozen=True)
class _Layout:
    """Where the columns are: ``offset`` is the byte after the header, ``skipped`` the lines above it."""

    separator: str
    names: tuple[str, ...]
    header_row: int
    offset: int
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Record:
    """One record of the first lines; ``cells`` are trimmed, ``raw`` are not."""

    raw: list[str]
    row: int
    lines: int

    @property
    def cells(self) -> list[str]:
        return [cell.strip() for cell in self.raw]


def _layout(data: bytes, wanted: str | None) -> _Layout:
    head = codecs.getincrementaldecoder("utf-8")("replace").decode(data[:HEAD])
    _refuse_other_text(head)
    told = re.match(r'"?sep=(.)"?\r?\n', head)
    choices = [_separator_option(wanted)] if wanted else [told.group(1)] if told else list(SEPARATORS)
    lines = list(io.StringIO(head, newline=""))
    cut = len(data) > HEAD
    read = {sep: _records(lines, sep, cut) for sep in choices if len(sep.encode()) == 1}
    separator = max(read, key=lambda sep: _fit(read[sep]))
    records = read[separator]
    if not records:
        raise refused("header_too_long", limit=HEAD)
    at = _header_at(records, 1 if told else 0)
    header = records[at]
    return _Layout(
        separator=separator,
        names=_with_surplus(header.raw, records[at + 1 :]),
        header_row=header.row,
        offset=sum(len(line.encode()) for line in lines[: header.lines]),
        skipped=tuple(shown(separator.join(record.cells)) for record in records[:at] if any(record.cells)),
    )


def _separator_option(wanted: str) -> str:
    separator = {"tab": "\t", "\\t": "\t"}.get(wanted, wanted)
    if len(separator.encode()) != 1 or separator.isalnum() or separator in '"\r\n':
        raise refused("separator_invalid", separator=shown(wanted))
    return separator


def _records(lines: list[str], separator: str, cut: bool) -> list[_Record]:
    """The first records of the file as a spreadsheet would split them; the last one is dropped if it may be cut."""
    found: list[_Record] = []
    reader = csv.reader(lines, delimiter=separator)
    try:
        for row, cells in enumerate(reader, 1):
            found.append(_Record(cells, row, reader.line_num))
            if len(found) == 300:
                return found
    except csv.Error:
        return found
    return found[:-1] if cut else found


def _known(cells: Iterable[str]) -> tuple[int, bool]:
    meanings = [meaning_of(cell) for cell in cells if cell]
    sure = [meaning for meaning in meanings if meaning.score >= 0.9]
    return len(sure), any(meaning.kind == "date" for meaning in meanings)


def _header_at(records: list[_Record], first: int) -> int:
    """Index of the row that names the columns: one with two known names and a date, else the first with text."""
    for at, record in enumerate(records[:30]):
        known, date = _known(record.cells[:MAX_COLUMNS])
        if at >= first and known >= 2 and date:
            return at
    return next((at for at, record in enumerate(records) if at >= first and any(record.cells)), 0)


def _fit(records: list[_Record]) -> tuple[int, bool, float, int]:
    if not records:
        return 0, False, 0.0, 0
    at = _header_at(records, 0)
    width = len(records[at].cells)
    rows = [len(record.cells) for record in records[at + 1 :] if record.cells]
    alike = sum(cells == width for cells in rows) / len(rows) if rows else 1.0
    return _known(records[at].cells[:MAX_COLUMNS])[0], width > 1, alike, width


def _with_surplus(header: list[str], records: list[_Record]) -> tuple[str, ...]:
    """The header, made as wide as the rows when these all end with separators that the header does not have."""
    if len(header) > MAX_COLUMNS:
        raise refused("too_many_columns", columns=len(header), limit=MAX_COLUMNS)
    widths = Counter(len(record.cells) for record in records if record.cells)
    width = widths.most_common(1)[0][0] if widths else len(header)
    wide = [record.cells[len(header) :] for record in records if len(record.cells) == width]
    if len(header) < width <= len(header) + 3 and not any(any(cells) for cells in wide):
        return (*header, *[""] * (width - len(header)))
    return tuple(header)


def _trim(name: str) -> str:
    return re.sub(f"[{INVISIBLE}]", "", name).strip()


def _column_names(raw: Iterable[str], row: int) -> tuple[list[str], list[str]]:
    """Trimmed, unique names, and the names that had to be made up for columns without one."""
    names = [_trim(name) for name in raw]
    if len(names) > MAX_COLUMNS:
        raise refused("too_many_columns", columns=len(names), limit=MAX_COLUMNS)
    for name, times in Counter(filter(None, names)).items():
        if times > 1:
            raise refused("duplicate_header", row=row, column=shown(name), times=times)
    taken, made = set(names), []
    for at, name in enumerate(names):
        if not name:
            names[at] = next(f"column_{at + 1}{'_' * i}" for i in range(99) if f"column_{at + 1}{'_' * i}" not in taken)
            made.append(names[at])
    return names, made


# ---------------------------------------------------------------- CSV


@dataclass
class _BadRow:
    at: int  # which record after the header, blank lines not counted, from 1
    cells: int
    text: str


def _read_csv(data: bytes, options: ReadOptions) -> Table:
    text = _to_utf8(data, options.encoding)
    if not text.data.strip():
        raise refused("file_blank")
    layout = _layout(text.data, options.separator)
    names, made = _column_names(layout.names, layout.header_row)
    body = _body(text.data, layout.offset)
    if not len(body):
        raise refused("no_rows")
    quoted = b'"' in text.data
    frame, bad = _parse(body, names, layout.separator, quoted)
    rows, bad_numbers, blanks = _row_numbers(body, frame.height, bad, layout.header_row)
    if quoted:
        _refuse_swallowed_rows(frame, rows, bad, bad_numbers, layout.separator)
    findings = [*text.findings(), *_layout_findings(layout, options), *_trimmed(layout.names)]
    frame, dropped = _drop_nameless(frame, made)
    findings += _nameless_findings(made, dropped, names)
    if blanks:
        findings.append(finding("blank_lines", "info", count=blanks))
    ragged, said = _ragged_rows(bad, bad_numbers, frame.columns, len(names), layout.separator)
    findings += said
    dialect = ReadOptions(separator=layout.separator, encoding=text.encoding, decimal=options.decimal)
    return _finish(frame, rows, ragged, "csv", dialect, findings, text.damaged)


def _body(data: bytes, offset: int) -> memoryview:
    """The rows below the header, without the line ends after the last one."""
    end = len(data)
    while end > offset and data[end - 1] in b"\r\n":
        end -= 1
    return memoryview(data)[offset:end]


def _parse(body: memoryview, names: list[str], separator: str, quoted: bool) -> tuple[pl.DataFrame, list[_BadRow]]:
    """Split the rows; quickly if all have the right number of cells, else again, in order, to number the others."""
    bad: list[_BadRow] = []

    def note(row: pa.csv.InvalidRow) -> str:
        bad.append(_BadRow(row.number, row.actual_columns, row.text))
        return "skip"

    whole = min(len(body) + 1024, 2**31 - 1)  # a row longer than a block needs one block for all
    tries = ((True, 1 << 22, lambda row: "error"), (False, 1 << 22, note), (False, whole, note))
    for threads, block, on_bad in tries:
        bad.clear()
        try:
            return _arrow(body, names, separator, quoted, threads, block, on_bad), bad
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


def _row_numbers(body: memoryview, good: int, bad: list[_BadRow], header_row: int) -> tuple[pl.Series, list[int], int]:
    """The number a person sees for each good and bad row, and how many blank lines lie between them."""
    total = good + len(bad)
    numbers, blanks = np.arange(1, total + 1, dtype=np.int64), 0
    if _line_ends(body) != total - 1:
        seen = _records_that_hold_something(body)
        if len(seen) == total:
            numbers, blanks = seen, int(seen[-1] - total)
    at = np.array([row.at for row in bad], dtype=np.int64) - 1
    keep = np.ones(total, dtype=bool)
    keep[at] = False
    return pl.Series("row", numbers[keep] + header_row), (numbers[at] + header_row).tolist(), blanks


def _line_ends(body: memoryview) -> int:
    ends = np.frombuffer(body, dtype=np.uint8)
    return int(np.count_nonzero(ends == 10)) or int(np.count_nonzero(ends == 13))


def _records_that_hold_something(body: memoryview) -> np.ndarray:
    """Numbers, from 1, of the records that are not blank lines; line ends inside quotes end no record."""
    data = bytes(body).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
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
    if layout.skipped:
        yield finding("preamble_skipped", "fix", row=1, count=len(layout.skipped), sample=layout.skipped[0])


def _trimmed(raw: Iterable[str]) -> Iterator[Finding]:
    changed = [name for name in raw if name != _trim(name)]
    if any(map(_trim, changed)):
        yield finding("header_trimmed", "fix", count=len(changed), names=", ".join(map(shown, changed[:5])))


def _drop_nameless(frame: pl.DataFrame, made: list[str]) -> tuple[pl.DataFrame, list[str]]:
    empty = [name for name in made if blank(frame[name]).all()]
    return frame.drop(empty), empty


def _nameless_findings(made: list[str], dropped: list[str], names: list[str]) -> Iterator[Finding]:
    if dropped and dropped[-1] == names[-1]:
        yield finding("trailing_separator", "fix")
    kept = [name for name in made if name not in dropped]
    if kept:
        yield finding("header_empty", "fix", column=kept[0], count=len(kept))


# ---------------------------------------------------------------- rows that are left out


def raw_name(column: str) -> str:
    """The name of a raw column beside row, column, code and reason."""
    return f"{column} (file)" if column in BAD_COLUMNS else column


def _bad_schema(columns: Iterable[str]) -> dict[str, type[pl.DataType]]:
    own: dict[str, type[pl.DataType]] = {"row": pl.Int64, "column": pl.String, "code": pl.String, "reason": pl.String}
    return own | dict.fromkeys(map(raw_name, columns), pl.String)


def no_bad_rows(columns: Iterable[str]) -> pl.DataFrame:
    """An empty list of left-out rows of a file with these columns."""
    return pl.DataFrame(schema=_bad_schema(columns))


def _ragged_rows(
    bad: list[_BadRow], numbers: list[int], columns: list[str], width: int, separator: str
) -> tuple[pl.DataFrame, list[Finding]]:
    found: list[list[object]] = []
    first: dict[str, tuple[int, int]] = {}
    for row, number in zip(bad, numbers, strict=True):
        if not row.text.strip():
            continue  # a line of spaces is a blank line
        code = "row_too_short" if row.cells < width else "row_too_long"
        first.setdefault(code, (number, row.cells))
        why = reason(code, cells=row.cells, columns=width)
        found.append([number, None, code, why, *_as_wide(_split(row.text, separator), len(columns), separator)])
    codes = Counter(str(row[2]) for row in found)
    findings = [
        finding(code, "row", row=number, count=codes[code], cells=cells, columns=width)
        for code, (number, cells) in first.items()
    ]
    return pl.DataFrame(found, schema=_bad_schema(columns), orient="row"), findings


def _split(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error:  # one cell beyond the csv module's limit
        return [text]


def _as_wide(cells: list[str], width: int, separator: str) -> list[str | None]:
    if len(cells) > width:
        return [*cells[: width - 1], separator.join(cells[width - 1 :])]
    return [*cells, *[None] * (width - len(cells))]


def reasons(code: str, values: pl.Series, **facts: Fact | None) -> pl.Series:
    """The sentence of each left-out row; ``values`` are the cells that the sentences quote."""
    before, *after = reason(code, value="\0", **facts).split("\0", 1)
    if not after:
        return pl.Series("reason", [before]).extend_constant(before, values.len())[: values.len()]
    text = as_text(values).fill_null("").alias("v").to_frame()
    short = pl.col("v").str.slice(0, VALUE_LIMIT).str.replace_all(r"\p{C}", "·")
    mark = pl.when(pl.col("v").str.len_chars() > VALUE_LIMIT).then(pl.lit("…")).otherwise(pl.lit(""))
    return text.select(pl.concat_str(pl.lit(before), short, mark, pl.lit(after[0])).alias("reason")).to_series()


def left_out(frame: pl.DataFrame, rows: pl.Series, code: str, column: str | None, **facts: Fact) -> pl.DataFrame:
    """These rows in the form of ``Table.bad_rows``, all for the same reason."""
    values = frame[column] if column else pl.Series([""]).extend_constant("", frame.height)[: frame.height]
    own = pl.select(
        row=rows.cast(pl.Int64),
        column=pl.lit(column, dtype=pl.String),
        code=pl.lit(code),
        reason=reasons(code, values, column=column, **facts),
    )
    return pl.concat([own, raw_text(frame)], how="horizontal")


def raw_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The raw cells as text, under names that do not clash with row, column, code and reason."""
    return pl.DataFrame([as_text(column).alias(raw_name(column.name)) for column in frame])


def _unusable(frame: pl.DataFrame, damaged: bool) -> Iterator[tuple[str, str | None, pl.Series, dict[str, Fact]]]:
    """Rows that no meaning can be given to, whatever the columns are."""
    texts = [column for column in frame if column.dtype == pl.String]
    for column in texts:
        if int(column.str.len_bytes().max() or 0) > FIELD_LIMIT:  # type: ignore[arg-type]
            yield "field_too_long", column.name, column.str.len_chars() > FIELD_LIMIT, {"limit": FIELD_LIMIT}
    for column in texts if damaged else []:
        yield "encoding_invalid", column.name, column.str.contains("\ufffd", literal=True), {}
    if frame.width and frame.height:
        empty = [
            (pl.col(c.name) == "").fill_null(True) if c.dtype == pl.String else pl.col(c.name).is_null() for c in frame
        ]
        yield "row_empty", None, frame.select(pl.all_horizontal(empty)).to_series(), {}


def _finish(
    frame: pl.DataFrame,
    rows: pl.Series,
    bad: pl.DataFrame,
    form: Format,
    dialect: ReadOptions,
    findings: list[Finding],
    damaged: bool = False,
) -> Table:
    if not frame.height and not bad.height:
        raise refused("no_rows")
    gone, parts = None, [bad]
    for code, column, mask, facts in _unusable(frame, damaged):
        mask = mask.fill_null(False) if gone is None else mask.fill_null(False) & ~gone
        if not mask.any():
            continue
        part = left_out(frame.filter(mask), rows.filter(mask), code, column, **facts)
        value = {"value": str(part[raw_name(column)][0])} if column else {}
        findings.append(finding(code, "row", row=part["row"][0], column=column, count=part.height, **facts, **value))
        parts.append(part)
        gone = mask if gone is None else gone | mask
    if gone is not None:
        frame, rows = frame.filter(~gone), rows.filter(~gone)
    return Table(frame, rows, form, dialect, tuple(findings), pl.concat(parts) if len(parts) > 1 else bad)


# ---------------------------------------------------------------- XLSX

_WORKBOOK_LIMIT = 1024**3
_BIG_ROW = re.compile(rb"""\br=["'][A-Z]{0,3}(\d{6,7})["']""")
_BIG_COLUMN = re.compile(rb"""\br=["']([A-Z]{2,3})\d""")
_ZIP_KINDS = (("word/", "a Word document"), ("ppt/", "a presentation"), ("content.xml", "an OpenDocument file"))


def _check_workbook(data: bytes) -> None:
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


def _read_xlsx(data: bytes, options: ReadOptions) -> Table:
    try:
        book = fastexcel.read_excel(data)
        name, head, findings = _choose_sheet(book, options.sheet)
        at = _header_at(head, 0)
        names, made = _column_names(head[at].raw, at + 1)
        frame = _load_rows(book, name, at + 1, names)
    except fastexcel.FastExcelError as error:
        raise refused("file_damaged", kind="XLSX", detail=shown(str(error).splitlines()[0])) from error
    frame, dropped = _drop_nameless(frame, made)
    findings += [f for f in _nameless_findings(made, dropped, names) if f.code == "header_empty"]
    rows = pl.int_range(at + 2, at + 2 + frame.height, eager=True).alias("row")
    skipped = tuple(shown(" ".join(filter(None, record.cells))) for record in head[:at] if any(record.cells))
    findings += [*_layout_findings(_Layout(",", (), at + 1, 0, skipped), options), *_trimmed(head[at].raw)]
    filled = ~frame.select(pl.all_horizontal(pl.all().is_null())).to_series() if frame.width else rows.is_null()
    if not filled.all():
        findings.append(finding("blank_lines", "info", count=int((~filled).sum())))
        frame, rows = frame.filter(filled), rows.filter(filled)
    dialect = ReadOptions(sheet=name, decimal=options.decimal)
    return _finish(frame, rows, no_bad_rows(frame.columns), "xlsx", dialect, findings)


def _choose_sheet(book: fastexcel.ExcelReader, wanted: str | None) -> tuple[str, list[_Record], list[Finding]]:
    """The wanted sheet, or the one whose column names say most."""
    seen = list(book.sheet_names)
    if wanted is not None and wanted not in seen:
        raise refused("sheet_missing", sheet=shown(wanted), seen=", ".join(map(shown, seen[:20])))
    heads = {name: _sheet_head(book, name) for name in ([wanted] if wanted else seen[:20])}
    heads = {name: head for name, head in heads.items() if any(any(record.cells) for record in head)}
    if not heads:
        raise refused("sheet_empty")
    best = max(heads, key=lambda name: _known(heads[name][_header_at(heads[name], 0)].cells)[0])
    others = ", ".join(shown(name) for name in seen if name != best)
    said = [finding("sheet_chosen", "info", sheet=shown(best), others=others)] if others and not wanted else []
    return best, heads[best], said


def _sheet_head(book: fastexcel.ExcelReader, name: str) -> list[_Record]:
    sheet = book.load_sheet(name, header_row=None, skip_rows=0, n_rows=31, dtypes="string").to_polars()
    return [
        _Record([str(cell) if cell is not None else "" for cell in cells], row, row)
        for row, cells in enumerate(sheet.iter_rows(), 1)
    ]


def _load_rows(book: fastexcel.ExcelReader, name: str, skip: int, names: list[str]) -> pl.DataFrame:
    height = book.load_sheet(name, header_row=None, skip_rows=0, n_rows=1).total_height
    if height <= skip:
        raise refused("no_rows")
    sheet = book.load_sheet(name, header_row=None, skip_rows=skip, schema_sample_rows=None).to_polars()
    return _usable_types(sheet.rename(dict(zip(sheet.columns, names, strict=True))))[0]


# ---------------------------------------------------------------- Parquet


def _read_parquet(data: bytes) -> Table:
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(data))
        size = sum(file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups))
        if size > UNPACKED_LIMIT:
            raise refused("file_too_large_inside", size=f"{size:,} bytes", limit=f"{UNPACKED_LIMIT:,} bytes")
        names, _ = _column_names(file.schema_arrow.names, 1)
        table = file.read().rename_columns(names)
        frame, dropped = _usable_types(pl.DataFrame(pl.from_arrow(table)))
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise refused("file_damaged", kind="Parquet", detail=shown(str(error).splitlines()[0])) from error
    rows = pl.int_range(2, 2 + frame.height, eager=True).alias("row")
    findings = [finding("column_dropped", "info", column=shown(name)) for name in dropped]
    return _finish(frame, rows, no_bad_rows(frame.columns), "parquet", ReadOptions(), findings)


def _usable_types(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Numbers, dates, booleans and text as they are, other simple types as text; nested and binary ones dropped."""
    dropped = [c.name for c in frame if c.dtype.is_nested() or c.dtype in (pl.Binary, pl.Object)]
    plain = []
    for column in frame.drop(dropped):
        if isinstance(column.dtype, pl.Decimal):
            column = column.cast(pl.Float64)
        elif isinstance(column.dtype, pl.Datetime):
            column = column.dt.replace_time_zone(None)
        elif not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Date)):
            column = column.cast(pl.String)
        plain.append(column)
    return pl.DataFrame(plain), dropped


# ---------------------------------------------------------------- columns


@dataclass(frozen=True)
class _Candidate:
    source: str
    role: str
    confidence: float
    rank: int


def match_columns(table: Table) -> tuple[tuple[ColumnMatch, ...], Mapping]:
    """What each column is taken for, from its name and from its values.

    Known-in-advance columns (open, school holiday, event …) are proposed as regressors; things that are known only
    afterwards (customers, revenue …) and parts of the date never are.

    Examples
    --------
    >>> table = read_table(b"Fecha,Ventas,clientes\\n2026-01-01,3,9\\n", "a.csv")
    >>> match_columns(table)[1].roles
    {'date': 'Fecha', 'sales': 'Ventas'}
    """
    samples = {column.name: _sample(column) for column in table.frame}
    meanings = {name: meaning_of(name) for name in samples}
    chosen = _choose_roles(samples, meanings)
    by_source = {candidate.source: candidate for candidate in chosen.values()}
    regressors = {name: m for name, m in meanings.items() if name not in by_source and _is_regressor(m, samples[name])}
    matches = []
    for name, sample in samples.items():
        examples = tuple(shown(cell) for cell in as_text(sample.head(3)))
        if name in by_source:
            found = by_source[name]
            matches.append(
                ColumnMatch(source=name, role=found.role, confidence=found.confidence, sample=examples)  # type: ignore[arg-type]
            )
        elif name in regressors:
            confidence = round(meanings[name].score * 0.9, 2)
            matches.append(ColumnMatch(source=name, role="regressor", confidence=confidence, sample=examples))
        else:
            confidence = round(max(meanings[name].score, 0.5), 2)
            matches.append(ColumnMatch(source=name, role="ignore", confidence=confidence, sample=examples))
    roles: dict[str, str] = {role: chosen[role].source for role in ROLES if role in chosen}
    return tuple(matches), Mapping(roles=roles, regressors=tuple(regressors))


def _sample(column: pl.Series) -> pl.Series:
    """Up to 500 filled cells from all over the column."""
    step = max(1, column.len() // 1_000)
    spread = column.gather_every(step)
    return spread.filter(~blank(spread)).head(500)


def _is_regressor(meaning: Meaning, sample: pl.Series) -> bool:
    """Known in advance by its name, or a promotion or holiday told in words instead of 0 and 1."""
    if not sample.len():
        return False
    told = meaning.kind in ("promotion", "holiday") and _share(meaning.kind, sample, sample.name) < 0.5
    return meaning.kind == "regressor" or told


def _choose_roles(samples: dict[str, pl.Series], meanings: dict[str, Meaning]) -> dict[str, _Candidate]:
    chosen: dict[str, _Candidate] = {}
    for role in ROLES:
        candidates = [
            found
            for name, meaning in meanings.items()
            if meaning.kind == role and (found := _judge(name, role, meaning, samples[name]))
        ]
        if candidates:
            chosen[role] = max(candidates, key=lambda c: (c.confidence > WEAK, -c.rank, c.confidence))
    for role, guess in (("date", _guess_date), ("sales", _guess_sales)):
        if role not in chosen and (source := guess(samples, meanings)):
            chosen[role] = _Candidate(source, role, 0.4, 999)
    return chosen


def _judge(name: str, role: str, meaning: Meaning, sample: pl.Series) -> _Candidate | None:
    """Name and values together; a doubtful name needs values that fit, a flag must mostly hold flags."""
    share = _share(role, sample, name)
    needed = {EXACT: 0.0, PART: 0.5}.get(meaning.score, 0.0 if meaning.score > 0.9 else 0.8)
    if role in ("promotion", "holiday"):
        needed = max(needed, 0.5)
    if sample.len() and share < needed:
        return None
    return _Candidate(name, role, round(meaning.score * (0.4 + 0.6 * share), 2), meaning.rank)


def _share(role: str, sample: pl.Series, name: str) -> float:
    """Share of the sampled cells that fit the role."""
    if not sample.len() or role in ("store", "product"):
        return 1.0
    if role == "date":
        dates = read_dates(sample).values
        fits = dates.dt.year().is_between(1980, 2150)
    elif role in ("sales", "price"):
        fits = read_numbers(sample).values.is_finite()
    else:
        top = 100 if role == "promotion" and says_percent(name) else 1
        fits = read_flags(sample).values.is_between(0, top)
    return float(fits.fill_null(False).mean() or 0.0)  # type: ignore[arg-type]


def _guess_date(samples: dict[str, pl.Series], meanings: dict[str, Meaning]) -> str | None:
    for name, sample in samples.items():
        written = sample.dtype in (pl.Date, pl.String) or isinstance(sample.dtype, pl.Datetime)
        if meanings[name].kind != "unknown" or not written or not sample.len():
            continue
        plain = sample.dtype == pl.String and bool(sample.str.contains(r"^[\d.,]+$").any())
        if not plain and _share("date", sample, name) >= 0.9:
            return name
    return None


def _guess_sales(samples: dict[str, pl.Series], meanings: dict[str, Meaning]) -> str | None:
    """The only column of numbers whose name says nothing."""
    numbers = [
        name
        for name, sample in samples.items()
        if meanings[name].kind == "unknown" and sample.len() and _share("sales", sample, name) >= 0.9
    ]
    return numbers[0] if len(numbers) == 1 else None
