"""Unchecked table to ``SalesFrame``: every row of the file is either used or listed with its reason.

Values are read strictly and by whole columns; what had to be repaired is a finding that a person sees, what cannot
be used is a left-out row with row, column, reason and advice. Nothing here raises for bad content.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import xlsxwriter

from ml.crosschecks import derived_mismatch, revenue_off
from ml.errors import FileRefused
from ml.findings import FINDING_CODES, FINDING_HINTS, Fact, finding, refused, shown
from ml.reading import FIELD_LIMIT, Table, match_columns, read_table, safe_name
from ml.records import (
    DEFAULT_PRODUCT,
    DEFAULT_STORE,
    ROLES,
    ColumnMatch,
    Finding,
    Mapping,
    Preflight,
    Purpose,
    ReadOptions,
    Severity,
    Verdict,
)
from ml.spacing import Keys, Spacing, all_names, series_keys, spacing
from ml.table import left_out, no_bad_rows, raw_text, reasons
from ml.values import (
    INVISIBLE,
    Dates,
    Decimal,
    Numbers,
    as_text,
    blank,
    impossible_dates,
    looks_like_date,
    read_dates,
    read_flags,
    read_numbers,
)
from ml.vocabulary import WEAK, counts_things, meaning_of, plain_name, says_percent

__all__ = ["FINDING_CODES", "FINDING_HINTS", "Checked", "check_file", "rejected_csv", "rejected_xlsx"]

log = logging.getLogger(__name__)

FIRST_DATE = dt.date(1980, 1, 1)  # below lie the zero dates of computers and spreadsheets, not sales
DAYS_AHEAD = {"training": 7, "predict": 3_660}  # a week that is not over may be named by its last day
NUMBER_LIMIT = 1e9  # units or money of one row; beyond it a decimal sign or a column is lost
COUNT_FRACTIONS = 0.25  # from this share of fractions on, a column counted in units is not counted in whole units
OTHER_FRACTIONS = 0.05  # the same for names that also fit money or weight (ventas, sales, demand)
PREVIEW_ROWS = 20
SHEET_ROWS = 1_000_000  # rows per sheet of the list of left-out rows; a sheet holds 1,048,576
FORMULA_STARTS = "=+\\-@\\t\\r\\n＝＋－＠"
_FORMULA = f"^[{FORMULA_STARTS}]."
_PLAIN_NUMBER = r"^[+-]?[\d.,\s]+%?$"
_BROKEN = (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, ValueError, OverflowError)


@dataclass(frozen=True)
class Checked:
    """What a file is worth.

    ``frame`` is the SalesFrame of the rows that are used (without sales for ``predict``), ``rows`` their numbers in the
    file (empty for a table of attributes). ``rejected`` lists every other row: row, column, code, reason, then the raw
    cells as text. Their heights add up to the rows of the file.
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    preflight: Preflight
    rows: pl.Series = field(default_factory=lambda: pl.Series("row", dtype=pl.Int64))


def check_file(
    data: bytes,
    filename: str,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    mapping: Mapping | None = None,
    purpose: Literal["training", "predict"] = "training",
    today: dt.date | None = None,
) -> Checked:
    """Read a file and hold it to the contract; bad content never raises.

    Parameters
    ----------
    data, filename
        The file as uploaded. Of the name only the safe base name is kept.
    options, mapping
        What a person chose; what is left out is detected.
    purpose
        ``training`` needs date and sales; ``predict`` needs the date, ignores sales and allows future dates.
    today
        The day up to which sales can have happened (default: now, UTC).

    Returns
    -------
    Checked
        With verdict ``REJECT`` the frame is empty and, if the file could be split into rows, all are listed.

    Examples
    --------
    >>> checked = check_file(b"Fecha;Ventas\\n2026-01-01;3,5\\n", "ventas.csv", today=dt.date(2026, 2, 1))
    >>> checked.preflight.verdict, checked.frame["sales"].to_list()
    ('FIX', [3.5])
    """
    source = Source(safe_name(filename), data, purpose, options)
    day = today or dt.datetime.now(dt.UTC).date()
    return guarded(source, lambda table: Check(source, table, day).run(mapping))


def guarded(source: Source, read: Callable[[Table], Checked]) -> Checked:
    """Hand the table of a file to ``read``; what is no table, or breaks a reader, is a refused file."""
    table = None
    try:
        table = read_table(source.data, source.name, source.options)
        return read(table)
    except FileRefused as refusal:
        return refuse_file(source, table, refusal.facts["finding"])  # type: ignore[arg-type]
    except _BROKEN as error:
        log.exception("a file broke the reader: %s, %d bytes", source.name, len(source.data))
        kind = table.format.upper() if table else "a table"
        return refuse_file(source, None, finding("file_damaged", "reject", kind=kind, detail=shown(error)))


@dataclass(frozen=True)
class Source:
    name: str
    data: bytes
    purpose: Purpose
    options: ReadOptions

    def preflight(self, table: Table | None, verdict: Verdict, **values: Any) -> Preflight:
        return Preflight(
            filename=self.name,
            format=table.format if table else "unknown",
            bytes=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
            verdict=verdict,
            purpose=self.purpose,
            **{"dialect": table.dialect if table else self.options, **values},
        )


def refuse_file(source: Source, table: Table | None, why: Finding, **seen: Any) -> Checked:
    """Refuse the whole file; the rows it could be split into are all listed with that reason."""
    rejected = no_bad_rows([])
    if table is not None:
        own = left_out(table.frame, table.rows, "no_rows_left", None).with_columns(
            code=pl.lit(why.code), reason=pl.lit(why.message)
        )
        rejected = pl.concat([own, table.bad_rows]).sort("row")
    findings = (why, *(table.findings if table else ()))
    counts = {"rows_total": rejected.height, "rows_rejected": rejected.height}
    preflight = source.preflight(table, "REJECT", findings=findings, **counts, **seen)
    return Checked(_empty_frame(source.purpose), rejected, preflight)


def _empty_frame(purpose: Purpose) -> pl.DataFrame:
    schema = {"date": pl.Date, "store": pl.String, "product": pl.String}
    return pl.DataFrame(schema=schema if purpose == "predict" else schema | {"sales": pl.Float64})


# ---------------------------------------------------------------- one check


@dataclass
class _Problem:
    """Rows that share one reason to be left out; ``values`` are the cells their sentences quote."""

    code: str
    column: str | None
    mask: pl.Series
    facts: dict[str, Fact]
    values: pl.Series | None = None


@dataclass
class Check:
    """Collects what is noticed while the columns of one table are read."""

    source: Source
    table: Table
    today: dt.date
    findings: list[Finding] = field(default_factory=list)
    problems: list[_Problem] = field(default_factory=list)
    columns: dict[str, pl.Series] = field(default_factory=dict)
    dialect: dict[str, Any] = field(default_factory=dict)
    revenue: dict[str, Numbers] = field(default_factory=dict)
    codes: dict[str, pl.Series] = field(default_factory=dict)

    def raw(self, column: str) -> pl.Series:
        return self.table.frame[column]

    def say(self, code: str, severity: Severity, **facts: Any) -> None:
        self.findings.append(finding(code, severity, **facts))

    def say_rows(self, code: str, severity: Severity, column: str, mask: pl.Series, **facts: Fact) -> None:
        """Say something about rows that stay in use: the first of them, and how many."""
        at, count = mask.arg_max(), int(mask.sum())
        if at is not None and count:
            value = {} if "value" in facts else {"value": _cell(self.raw(column), at)}
            row = int(self.table.rows[at])
            self.findings.append(finding(code, severity, row=row, column=column, count=count, **facts, **value))

    def leave_out(
        self, mask: pl.Series, code: str, column: str | None, values: pl.Series | None = None, **facts: Fact
    ) -> None:
        """Leave rows out; says so once for all of them."""
        if not mask.any():
            return
        mask = mask.fill_null(False)
        at, count = int(mask.arg_max() or 0), int(mask.sum())
        cells = self.raw(column) if values is None and column else values
        value = {"value": _cell(cells, at)} if cells is not None else {}
        self.problems.append(_Problem(code, column, mask, facts, cells))
        row = int(self.table.rows[at])
        self.findings.append(finding(code, "row", row=row, column=column, count=count, **facts, **value))

    def bad(self) -> pl.Series | None:
        """True for every row that is left out so far; ``None`` if there is none."""
        found: pl.Series | None = None
        for problem in self.problems:
            found = problem.mask if found is None else found | problem.mask
        return found

    def run(self, mapping: Mapping | None) -> Checked:
        matches, proposed = match_columns(self.table)
        mapping = proposed if mapping is None else checked_mapping(mapping, self.table)
        matches = as_mapped(matches, mapping)
        try:
            require_header(self.table.frame.columns)
            _require(self, mapping)
        except FileRefused as refusal:
            why: Finding = refusal.facts["finding"]  # type: ignore[assignment]
            return refuse_file(self.source, self.table, why, columns=matches, mapping=mapping)
        if mapping == proposed:
            _say_how_columns_were_found(self, mapping)
        _read_columns(self, mapping)
        _check_unused(self, mapping)
        return _conclude(self, matches, mapping)


def _cell(cells: pl.Series, at: int) -> str:
    text = as_text(cells[at : at + 1])[0]
    return "" if text is None else str(text)


# ---------------------------------------------------------------- mapping


def checked_mapping(mapping: Mapping, table: Table) -> Mapping:
    """A mapping that a person made, if it fits the file."""
    seen = table.frame.columns
    used = [*mapping.roles.values(), *mapping.regressors]
    for column in used:
        if column not in seen:
            raise refused("mapping_unknown", column=shown(column), seen=listed(seen))
    unknown = [role for role in mapping.roles if role not in ROLES]
    twice = [column for column in used if used.count(column) > 1]
    clash = [column for column in mapping.regressors if column in ROLES]
    for names, what in ((unknown, "is not a role"), (twice, "is used twice"), (clash, "has the name of a role")):
        if names:
            raise refused("mapping_invalid", detail=f"{shown(names[0])} {what}")
    return mapping


def as_mapped(matches: tuple[ColumnMatch, ...], mapping: Mapping) -> tuple[ColumnMatch, ...]:
    roles = {source: role for role, source in mapping.roles.items()} | dict.fromkeys(mapping.regressors, "regressor")
    return tuple(
        match
        if (role := roles.get(match.source, "ignore")) == match.role
        else match.model_copy(update={"role": role, "confidence": 1.0})
        for match in matches
    )


def listed(names: list[str]) -> str:
    return ", ".join(map(shown, names[:30])) + (" …" if len(names) > 30 else "")


def _require(check: Check, mapping: Mapping) -> None:
    needed = ("date", "sales") if check.source.purpose == "training" else ("date",)
    missing = [role for role in needed if role not in mapping.roles]
    if missing:
        raise refused("columns_missing", needed=" and ".join(missing), seen=listed(check.table.frame.columns))


def require_header(names: list[str]) -> None:
    """Refuse a file whose first row is data; a name such as ``STORE_001`` alone makes no header."""
    cells = pl.Series(names, dtype=pl.String)
    dates = looks_like_date(cells)
    data = cells.filter(dates | read_numbers(cells).values.is_not_null()).to_list()
    scores = [meaning_of(name).score for name in names]
    known = sum(score >= 0.9 for score in scores) >= 2 if dates.any() else max(scores, default=0) > WEAK
    if data and not known:
        raise refused("header_missing", row=1, sample=listed(data[:3]))


def _say_how_columns_were_found(check: Check, mapping: Mapping) -> None:
    taken = {source: role for role, source in mapping.roles.items()}
    respelt = [f"{shown(source)} → {role}" for source, role in taken.items() if source != plain_name(source)]
    if respelt:
        check.say("header_read_as", "fix", count=len(respelt), pairs=", ".join(respelt))
    for source in check.table.frame.columns:
        meaning = meaning_of(source)
        if source in taken and meaning.kind != taken[source]:
            check.say("column_guessed", "fix", column=source, role=taken[source])
        elif source not in taken and meaning.kind in mapping.roles and meaning.score > WEAK:
            used = shown(mapping.roles[meaning.kind])
            check.say("role_duplicate", "info", column=source, role=meaning.kind, used=used)


# ---------------------------------------------------------------- columns


def _read_columns(check: Check, mapping: Mapping) -> None:
    roles = mapping.roles
    check.columns["date"] = _dates(check, roles["date"])
    for role, default in (("store", DEFAULT_STORE), ("product", DEFAULT_PRODUCT)):
        if role in roles:
            check.columns[role], check.codes[role] = read_names(check, role, roles[role])
        else:
            check.columns[role] = pl.repeat(default, check.table.frame.height, dtype=pl.String, eager=True)
            check.codes[role] = pl.zeros(check.table.frame.height, dtype=pl.Int64, eager=True)
    numbers = _read_together(check, [roles[r] for r in ("sales", "price") if r in roles and _wanted(check, r)])
    if "sales" in roles and _wanted(check, "sales"):
        check.columns["sales"] = _sales(check, roles["sales"], numbers[roles["sales"]])
    if "price" in roles:
        check.columns["price"] = _price(check, roles["price"], numbers[roles["price"]])
    if "promotion" in roles:
        check.columns["promotion"] = _promotion(check, roles["promotion"])
    if "holiday" in roles:
        check.columns["holiday"] = _holiday(check, roles["holiday"])
    for source in mapping.regressors:
        check.columns[source] = read_input(check, source)


def _wanted(check: Check, role: str) -> bool:
    return role != "sales" or check.source.purpose == "training"


def _dates(check: Check, source: str) -> pl.Series:
    raw = check.raw(source)
    read = read_dates(raw, check.source.options.date_order)
    values = read.values
    if values.has_nulls():
        text, missing, empty = as_text(raw), values.is_null(), blank(raw)
        impossible = impossible_dates(text, read.written)
        check.leave_out(empty, "date_empty", source)
        check.leave_out(missing & ~empty & impossible, "date_impossible", source)
        check.leave_out(missing & ~empty & ~impossible, "date_invalid", source, format=read.format)
    last = check.today + dt.timedelta(days=DAYS_AHEAD[check.source.purpose])
    check.leave_out(values > last, "date_future", source)
    check.leave_out(values < FIRST_DATE, "date_too_old", source, first=FIRST_DATE.isoformat())
    if values.null_count() < values.len():
        _say_how_dates_were_read(check, source, read)
    return values


def _say_how_dates_were_read(check: Check, source: str, read: Dates) -> None:
    check.dialect["date_order"] = read.order
    if read.written == "serial":
        at = int(read.values.is_not_null().arg_max() or 0)
        sample = _cell(check.raw(source), at)
        check.say("date_serial", "fix", column=source, sample=shown(sample), read=str(read.values[at]))
    elif read.ambiguous:
        check.say("date_order_ambiguous", "fix", column=source, format=read.format)
    elif read.written != "ymd":
        check.say("date_format", "fix", column=source, format=read.format)
    if read.timed:
        check.say("time_dropped", "fix", column=source, count=read.timed)


def read_names(check: Check, role: str, source: str) -> tuple[pl.Series, pl.Series]:
    """Store or product names: trimmed, without invisible characters, one way of writing accents; and their codes."""
    raw = as_text(check.raw(source))
    distinct, codes = all_names(raw)
    visible = distinct.str.replace_all(f"[{INVISIBLE}]", "")
    trimmed = visible.str.strip_chars()
    clean = trimmed.str.normalize("NFC")
    _say_formulas(check, source, raw, distinct)
    for code, before, after in (
        ("invisible_characters", distinct, visible),
        ("whitespace_trimmed", visible, trimmed),
        ("unicode_normalised", trimmed, clean),
    ):
        changed = distinct.filter((before != after) & (after != ""))
        if changed.len():
            check.say_rows(code, "fix", source, raw.is_in(changed.implode()))
    names = raw
    if not (clean == distinct).all():
        names = raw.replace_strict(distinct, clean, return_dtype=pl.String)
        clean, codes = all_names(names)
    if names.has_nulls() or (clean == "").any():
        check.leave_out(names.is_null() | (names == ""), f"{role}_empty", source)
    _say_similar(check, source, clean)
    return names, codes


def _say_similar(check: Check, source: str, names: pl.Series) -> None:
    folded = names.str.to_lowercase()
    alike = names.filter(folded.is_duplicated())
    if alike.len():
        sample = ", ".join(shown(name) for name in sorted(alike, key=str.lower)[:2])
        check.say("similar_names", "info", column=source, sample=sample)


def _say_formulas(check: Check, source: str, raw: pl.Series, cells: pl.Series) -> None:
    suspects = cells.filter(cells.str.contains(_FORMULA).fill_null(False))
    suspects = suspects.filter(~suspects.str.contains(_PLAIN_NUMBER))
    if suspects.len():
        check.say_rows("formula_text", "fix", source, raw.is_in(suspects.unique().implode()))


# ---------------------------------------------------------------- numbers


def _read_together(check: Check, sources: list[str]) -> dict[str, Numbers]:
    """Read the number columns; what one of them leaves open, the sign that the others prove decides."""
    wanted = check.source.options.decimal
    read = {source: read_numbers(check.raw(source), wanted) for source in sources}
    proven: list[Decimal] = [n.decimal for n in read.values() if n.decimal and not n.ambiguous]
    for source, numbers in read.items():
        if numbers.ambiguous and proven:
            read[source] = read_numbers(check.raw(source), wanted, fallback=proven[0])
    signs = {numbers.decimal for numbers in read.values()}
    check.dialect["decimal"] = wanted or ("," if "," in signs else "." if "." in signs else None)
    return read


def _say_how_numbers_were_read(check: Check, source: str, numbers: Numbers) -> None:
    if not numbers.example:
        return
    at = (as_text(check.raw(source)).str.strip_chars() == numbers.example).arg_max()
    value = numbers.values[at] if at is not None else None
    read = "" if value is None else f"{value:g}" if abs(value) < 1e6 else f"{value:.2f}"
    sample = shown(numbers.example)
    if numbers.ambiguous:
        check.say("number_ambiguous", "fix", column=source, sample=sample, read=read)
    elif numbers.grouped:
        check.say("thousands_separator", "fix", column=source, sample=sample, read=read)
    elif numbers.decimal == ",":
        check.say("decimal_comma", "fix", column=source, sample=sample)


_NUMBER_FAULTS = (
    ("number_hex", r"(?i)^[+-]?0x[0-9a-f]+$"),
    ("number_currency", r"(?i)\p{Sc}|^(usd|eur|gbp|mxn|cop|ars|clp|pen)\b|\b(usd|eur|euros?|gbp|mxn|cop|ars|clp|pen)$"),
    ("number_invalid", ""),
)
_NOT_FINITE = r"(?i)^\s*[+-]?(nan|inf|infinity)\s*$"


def _number_problems(check: Check, source: str, values: pl.Series, limit: float = NUMBER_LIMIT) -> None:
    """Leave out the rows whose cell is no finite number within the limit; empty cells are the caller's."""
    raw = check.raw(source)
    if values.has_nulls():
        wrong = values.is_null() & ~blank(raw)
        if wrong.any():
            text = as_text(raw).str.strip_chars()
            for code, pattern in _NUMBER_FAULTS:
                fault = wrong & text.str.contains(pattern)
                check.leave_out(fault, code, source)
                wrong = wrong & ~fault
    endless = ~values.is_finite().fill_null(True)
    if endless.any():
        said = as_text(raw).str.contains(_NOT_FINITE).fill_null(True)
        check.leave_out(endless & said, "number_not_finite", source)
        check.leave_out(endless & ~said, "number_overflow", source)
    check.leave_out(values.is_finite() & (values.abs() > limit), "number_too_large", source, limit=f"{limit:,.0f}")


def _say_missing(check: Check, source: str, values: pl.Series) -> None:
    if values.has_nulls():
        empty = blank(check.raw(source))
        if empty.any():
            check.say_rows("value_missing", "info", source, empty)


def _sales(check: Check, source: str, numbers: Numbers) -> pl.Series:
    values = numbers.values
    _say_how_numbers_were_read(check, source, numbers)
    _number_problems(check, source, values)
    if values.has_nulls():
        check.leave_out(blank(check.raw(source)), "sales_empty", source)
    check.leave_out((values < 0) & values.is_finite(), "sales_negative", source)
    broken = values.is_finite() & (values >= 0) & (values != values.floor())
    if broken.any() and _counted_whole(source, values, broken, numbers.decimal):
        check.leave_out(broken, "sales_fractional", source)
    return values


def _counted_whole(source: str, values: pl.Series, broken: pl.Series, decimal: Decimal | None) -> bool:
    """Whether the column counts whole things, so that a fraction is an error; kilos and money are fractional."""
    share = int(broken.sum()) / max(1, int((values.is_finite() & (values > 0)).sum()))
    if counts_things(source):
        return share <= COUNT_FRACTIONS
    return decimal != "," and share <= OTHER_FRACTIONS


def _price(check: Check, source: str, numbers: Numbers) -> pl.Series:
    values = numbers.values
    _say_how_numbers_were_read(check, source, numbers)
    _number_problems(check, source, values)
    check.leave_out((values <= 0) & values.is_finite(), "price_not_positive", source)
    _say_missing(check, source, values)
    return values


def _flags(check: Check, source: str) -> pl.Series:
    raw = check.raw(source)
    read = read_flags(raw, check.source.options.decimal)
    if read.word:
        spelt = read.values.is_not_null() & read_numbers(raw).values.is_null() & ~as_text(raw).str.contains("%")
        check.say_rows("flag_text", "fix", source, spelt, sample=shown(read.word))
    if read.percent:
        at = int(_same(raw, read.percent).arg_max() or 0)
        check.say("percent_scaled", "fix", column=source, sample=shown(read.percent), read=f"{read.values[at]:g}")
    if read.values.has_nulls():
        check.leave_out(read.values.is_null() & ~blank(raw), "flag_invalid", source)
    check.leave_out(~read.values.is_finite().fill_null(True), "number_not_finite", source)
    _say_missing(check, source, read.values)
    return read.values


def _same(raw: pl.Series, cell: str) -> pl.Series:
    return (as_text(raw) == cell).fill_null(False)


def _promotion(check: Check, source: str) -> pl.Series:
    values = _flags(check, source)
    top = values.filter(values.is_finite()).max()
    percent = says_percent(source) and isinstance(top, float) and 1 < top <= 100
    if percent:
        at = int((values > 1).arg_max() or 0)
        values = values / 100
        sample = shown(_cell(check.raw(source), at))
        check.say("percent_scaled", "fix", column=source, sample=sample, read=f"{values[at]:g}")
    check.leave_out(values.is_finite() & ~values.is_between(0, 1), "promotion_out_of_range", source)
    return values


def _holiday(check: Check, source: str) -> pl.Series:
    values = _flags(check, source)
    wrong = values.is_finite() & (values != 0) & (values != 1)
    check.leave_out(wrong, "holiday_not_flag", source)
    return (values == 1).cast(pl.Int8)


def read_input(check: Check, source: str) -> pl.Series:
    """A known-in-advance column: numbers where the cells are numbers or yes/no, else names."""
    raw = check.raw(source)
    if raw.dtype.is_numeric() or raw.dtype == pl.Boolean:
        values = raw.cast(pl.Float64)
        _number_problems(check, source, values)
        _say_missing(check, source, values)
        return values
    text = as_text(raw)
    filled = ~blank(text)
    if not meaning_of(source).names and filled.any():
        numbers = read_numbers(text, check.source.options.decimal)
        if numbers.values.count() >= 0.95 * int(filled.sum()):
            _say_how_numbers_were_read(check, source, numbers)
            _number_problems(check, source, numbers.values)
            _say_missing(check, source, numbers.values)
            return numbers.values
        flags = read_flags(text)
        if flags.values.count() == int(filled.sum()):
            return _flags(check, source)
    _say_formulas(check, source, text, text)
    clean = text.str.replace_all(f"[{INVISIBLE}]", "").str.strip_chars()
    return clean.zip_with(filled, pl.repeat(None, clean.len(), dtype=pl.String, eager=True))


# ---------------------------------------------------------------- columns that are not used


def _check_unused(check: Check, mapping: Mapping) -> None:
    used = {*mapping.roles.values(), *mapping.regressors}
    for column in check.table.frame:
        if column.name in used:
            continue
        meaning = meaning_of(column.name)
        plain = False
        if meaning.kind == "revenue" and check.source.purpose == "training":
            numbers = check.revenue[column.name] = read_numbers(column, check.source.options.decimal)
            plain = not numbers.values.has_nulls()
        if column.dtype == pl.String and not plain:
            _say_formulas(check, column.name, column, column)
        if meaning.derived:
            _check_derived(check, column, meaning.kind)


def _check_derived(check: Check, column: pl.Series, kind: str) -> None:
    """A weekday, month … column is compared with the date, whatever convention it follows, and never used."""
    off = derived_mismatch(column, check.columns["date"], kind)
    if off is not None and off.any():
        check.say_rows("derived_mismatch", "fix", column.name, off)
    else:
        check.say("derived_ignored", "info", column=column.name)


def _check_revenue(check: Check) -> None:
    """Revenue is never used, but where it is not units × price one of the three is wrong."""
    if "price" not in check.columns or "sales" not in check.columns:
        return
    for source, numbers in check.revenue.items():
        off, expected, compared = revenue_off(numbers.values, check.columns["sales"], check.columns["price"])
        bad = check.bad()
        off = off if bad is None else off & ~bad
        if int(off.sum()) > 0.5 * compared:
            check.say("revenue_other_basis", "info", column=source)
        elif off.any():
            at = int(off.arg_max() or 0)
            check.say_rows("revenue_mismatch", "fix", source, off, expected=f"{expected[at]:.2f}")


# ---------------------------------------------------------------- rows against each other


def _leave_out_repeats(check: Check, keys: pl.Series, used: pl.Series | None) -> None:
    """Copies of a row go, the first stays; rows for one key that do not agree all go."""
    full = keys if used is None else scatter(keys, used)
    same = full.is_not_null() & full.is_duplicated()
    cells = check.table.frame.filter(same)
    copies = scatter(~cells.select(pl.struct(pl.all())).to_series().is_first_distinct(), same).fill_null(False)
    rest = same & ~copies
    conflict = scatter(full.filter(rest).is_duplicated(), rest).fill_null(False)
    if check.source.purpose == "predict":
        check.say("duplicate_keys", "info", count=int((~full.filter(same).is_first_distinct()).sum()))
        return
    check.leave_out(copies, "duplicate_row", None)
    names = pl.select(
        pl.concat_str(
            check.columns["date"].cast(pl.String), check.columns["store"], check.columns["product"], separator=" "
        )
    ).to_series()
    check.leave_out(conflict, "duplicate_conflict", None, values=names)


def scatter(values: pl.Series, where: pl.Series) -> pl.Series:
    """Put the values of the masked rows back to their places; null elsewhere."""
    at = where.arg_true()
    return pl.Series([None], dtype=values.dtype).new_from_index(0, where.len()).scatter(at, values)


# ---------------------------------------------------------------- the result


def _used(check: Check) -> tuple[pl.DataFrame, Keys, pl.Series | None]:
    """The rows that are used so far, their keys, and where they are in the table (``None``: everywhere)."""
    columns, codes = check.columns, check.codes
    bad = check.bad()
    used = None if bad is None else ~bad
    if used is not None:
        columns = {name: column.filter(used) for name, column in columns.items()}
        codes = {role: column.filter(used) for role, column in codes.items()}
    frame = pl.DataFrame([column.alias(name) for name, column in columns.items()])
    return frame, series_keys(frame["date"], codes["store"], codes["product"]), used


def _conclude(check: Check, matches: tuple[ColumnMatch, ...], mapping: Mapping) -> Checked:
    frame, keys, used = _used(check)
    found = spacing(keys)
    if found.repeated:
        _leave_out_repeats(check, keys.values, used)
        frame, keys, used = _used(check)
        found = spacing(keys)
    if check.source.purpose == "training":
        _check_revenue(check)
    seen = {"columns": matches, "mapping": mapping}
    if check.source.purpose == "training" and _monthly(frame, found):
        days = round(found.typical_gap)
        return refuse_file(check.source, check.table, finding("frequency_unsupported", "reject", days=days), **seen)
    checked = conclude(
        check,
        frame,
        rejected_rows(check),
        dialect=check.table.dialect.model_copy(update=check.dialect),
        frequency=found.frequency,
        date_from=frame["date"].min(),
        date_to=frame["date"].max(),
        stores=found.stores,
        products=found.products,
        missing_days=found.missing,
        preview=_preview(frame),
        **seen,
    )
    rows = check.table.rows if used is None else check.table.rows.filter(used)
    return replace(checked, rows=rows.cast(pl.Int64))


def conclude(check: Check, frame: pl.DataFrame, rejected: pl.DataFrame, **seen: Any) -> Checked:
    """The verdict on a table of which ``frame`` is used and ``rejected`` is not; findings, the gravest first."""
    if not frame.height:
        check.say("no_rows_left", "row", count=rejected.height)
    findings = (*check.table.findings, *check.findings)
    preflight = check.source.preflight(
        check.table,
        verdict_of(findings),
        findings=tuple(sorted(findings, key=lambda f: BY_SEVERITY.index(f.severity))),
        rows_total=frame.height + rejected.height,
        rows_used=frame.height,
        rows_rejected=rejected.height,
        **seen,
    )
    return Checked(frame, rejected, preflight)


BY_SEVERITY: tuple[Severity, ...] = ("reject", "row", "fix", "info")


def verdict_of(findings: tuple[Finding, ...]) -> Verdict:
    severities = {found.severity for found in findings}
    verdicts: tuple[tuple[Severity, Verdict], ...] = (("reject", "REJECT"), ("row", "ROWS"), ("fix", "FIX"))
    return next((verdict for severity, verdict in verdicts if severity in severities), "OK")


def _monthly(frame: pl.DataFrame, found: Spacing) -> bool:
    return found.typical_gap >= 28 and frame["date"].n_unique() >= 3


def _preview(frame: pl.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple(frame.head(PREVIEW_ROWS).with_columns(pl.col("date").cast(pl.String)).to_dicts())


def rejected_rows(check: Check) -> pl.DataFrame:
    """Every left-out row once, with all its reasons; column and code are those of the first."""
    bad = check.bad()
    if bad is None:
        return check.table.bad_rows.sort("row")
    rows = check.table.rows
    parts = [
        pl.select(
            row=rows.filter(p.mask).cast(pl.Int64),
            column=pl.lit(p.column, dtype=pl.String),
            code=pl.lit(p.code),
            reason=reasons(p.code, _quoted(p), column=p.column, **p.facts),
        )
        for p in check.problems
    ]
    told = pl.concat(parts).group_by("row", maintain_order=True)
    own = told.agg(pl.col("column").first(), pl.col("code").first(), pl.col("reason").str.join("; ")).sort("row")
    cells = pl.DataFrame({"row": rows.filter(bad)}).hstack(raw_text(check.table.frame.filter(bad)))
    return pl.concat([own.hstack(cells.sort("row").drop("row")), check.table.bad_rows]).sort("row")


def _quoted(problem: _Problem) -> pl.Series:
    if problem.values is not None:
        return problem.values.filter(problem.mask)
    return pl.repeat("", int(problem.mask.sum()), dtype=pl.String, eager=True)


# ---------------------------------------------------------------- the list of left-out rows


def as_plain_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Cells that a spreadsheet would take for a formula get a leading apostrophe; headers too."""
    starts = f"^[{FORMULA_STARTS}]"
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    found = [name for name in texts if frame[name].unique().str.contains(starts).any()]
    safe = frame.with_columns(
        pl.when(pl.col(name).str.contains(starts)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in found
    )
    return safe.rename({name: f"'{name}" for name in safe.columns if pl.Series([name]).str.contains(starts)[0]})


def rejected_csv(rejected: pl.DataFrame) -> bytes:
    """Left-out rows with their reasons as CSV: UTF-8 with a byte order mark, formulas made text."""
    return b"\xef\xbb\xbf" + as_plain_text(rejected).write_csv().encode()


def rejected_xlsx(rejected: pl.DataFrame) -> bytes:
    """Left-out rows with their reasons as XLSX; every cell but the row number is text."""
    target = io.BytesIO()
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(target, {**options, "strings_to_numbers": False})
    safe = as_plain_text(rejected)
    bold = book.add_format({"bold": True})
    for start in range(0, max(1, safe.height), SHEET_ROWS):
        sheet = book.add_worksheet(f"rows {start // SHEET_ROWS + 1}")
        sheet.freeze_panes(1, 0)
        sheet.set_column(3, 3, 60)
        sheet.write_row(0, 0, safe.columns, bold)
        for at, cells in enumerate(safe.slice(start, SHEET_ROWS).iter_rows(), 1):
            for column, cell in enumerate(cells):
                if isinstance(cell, str):
                    sheet.write_string(at, column, cell[:FIELD_LIMIT])
                elif cell is not None:
                    sheet.write_number(at, column, cell)
    book.close()
    return target.getvalue()
