"""Bytes of an uploaded file to a table that nobody has checked yet.

Magic bytes come before any parser, then encoding, separator and header. Every row of the file ends up either in
``Table.frame`` or in ``Table.bad_rows`` with a reason. Row numbers are those a spreadsheet shows for the file (the
header of an ordinary file is row 1); Parquet, which has no rows to look at, is numbered the same way.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from ml.decoding import refuse_by_magic
from ml.delimited import read_csv
from ml.findings import Fact, finding, refused, shown
from ml.headers import column_names
from ml.records import ROLES, ColumnMatch, Mapping, ReadOptions
from ml.table import Format, Table, left_out, no_bad_rows, raw_name, usable_types
from ml.values import as_text, blank, read_dates, read_flags, read_numbers
from ml.vocabulary import EXACT, PART, WEAK, Meaning, meaning_of, says_percent
from ml.workbook import check_workbook, read_xlsx

__all__ = ["Table", "match_columns", "read_table", "safe_name"]

FIELD_LIMIT = 32_767  # what one spreadsheet cell can hold; longer text is a lost quote, not a name
UNPACKED_LIMIT = 4 * 1024**3  # bytes of a Parquet file once it is unpacked


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
    if kind == "csv":
        return _without_unusable(*read_csv(data, options))
    return _without_unusable(_read_parquet(data) if kind == "parquet" else read_xlsx(data, options))


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


def _kind(data: bytes) -> Format:
    refuse_by_magic(data)
    if data.startswith(b"PAR1"):
        return "parquet"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        check_workbook(data)
        return "xlsx"
    return "csv"


def _unusable(frame: pl.DataFrame, damaged: bool) -> Iterator[tuple[str, str | None, pl.Series, dict[str, Fact]]]:
    """Rows that no meaning can be given to, whatever the columns are."""
    texts = [column for column in frame if column.dtype == pl.String]
    for column in texts:
        if int(column.str.len_bytes().max() or 0) > FIELD_LIMIT:  # type: ignore[arg-type]
            yield "field_too_long", column.name, column.str.len_chars() > FIELD_LIMIT, {"limit": FIELD_LIMIT}
    for column in texts if damaged else []:
        yield "encoding_invalid", column.name, column.str.contains("\ufffd", literal=True), {}
    if frame.width and _empty_cells(frame.to_series(0)).any():  # one column first: mostly that settles it
        yield "row_empty", None, reduce(operator.and_, map(_empty_cells, frame)), {}


def _empty_cells(column: pl.Series) -> pl.Series:
    return (column == "").fill_null(True) if column.dtype == pl.String else column.is_null()


def _without_unusable(table: Table, damaged: bool = False) -> Table:
    """Move the rows that no meaning can be given to from the frame to the bad rows."""
    if not table.frame.height and not table.bad_rows.height:
        raise refused("no_rows")
    gone, parts, findings = None, [table.bad_rows], list(table.findings)
    for code, column, found, facts in _unusable(table.frame, damaged):
        mask = found.fill_null(False) if gone is None else found.fill_null(False) & ~gone
        if not mask.any():
            continue
        part = left_out(table.frame.filter(mask), table.rows.filter(mask), code, column, **facts)
        value = {"value": str(part[raw_name(column)][0])} if column else {}
        findings.append(finding(code, "row", row=part["row"][0], column=column, count=part.height, **facts, **value))
        parts.append(part)
        gone = mask if gone is None else gone | mask
    if gone is None:
        return table
    frame, rows = table.frame.filter(~gone), table.rows.filter(~gone)
    return replace(table, frame=frame, rows=rows, findings=tuple(findings), bad_rows=pl.concat(parts))


# ---------------------------------------------------------------- Parquet


def _read_parquet(data: bytes) -> Table:
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(data))
        size = sum(file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups))
        if size > UNPACKED_LIMIT:
            raise refused("file_too_large_inside", size=f"{size:,} bytes", limit=f"{UNPACKED_LIMIT:,} bytes")
        names, _ = column_names(file.schema_arrow.names, 1)
        table = file.read().rename_columns(names)
        frame, dropped = usable_types(pl.DataFrame(pl.from_arrow(table)))
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise refused("file_damaged", kind="Parquet", detail=shown(str(error).splitlines()[0])) from error
    rows = pl.int_range(2, 2 + frame.height, eager=True).alias("row")
    findings = [finding("column_dropped", "info", column=shown(name)) for name in dropped]
    return Table(frame, rows, "parquet", ReadOptions(), tuple(findings), no_bad_rows(frame.columns))


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
        if role not in chosen:
            taken = {candidate.source for candidate in chosen.values()}
            free = {name: sample for name, sample in samples.items() if name not in taken and sample.len()}
            if source := guess(free, meanings):
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
    """The first column of dates, one whose name says nothing (Col1) before one whose name misleads (Día venta)."""
    dates = [name for name, sample in samples.items() if _is_written(sample) and _share("date", sample, name) >= 0.9]
    return min(dates, key=lambda name: meanings[name].kind != "unknown", default=None)


def _is_written(sample: pl.Series) -> bool:
    """Whether cells look like dates and not like plain numbers, which could be anything."""
    if sample.dtype == pl.String:
        return not sample.str.contains(r"^[\d.,]+$").any()
    return sample.dtype == pl.Date or isinstance(sample.dtype, pl.Datetime)


def _guess_sales(samples: dict[str, pl.Series], meanings: dict[str, Meaning]) -> str | None:
    """The only column of numbers whose name says nothing."""
    numbers = [
        name
        for name, sample in samples.items()
        if meanings[name].kind == "unknown" and _share("sales", sample, name) >= 0.9
    ]
    return numbers[0] if len(numbers) == 1 else None
