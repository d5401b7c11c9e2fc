"""Text to numbers, dates and yes/no, a whole column at a time, without ever guessing silently.

Each reader returns the values (null where a cell cannot be read) together with how it read them, so that a person
can be told. Nothing is read leniently: ``1,234`` is a number only if the whole column says what its comma means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

Decimal = Literal[".", ","]
Order = Literal["ymd", "dmy", "mdy"]

SAMPLE = 2_000  # values that decide how a column is written; the rest is then held to it
INVISIBLE = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"  # regex class, never seen
_SPACES = " \u00a0\u202f\u2009'’"  # signs that group thousands besides . and ,


# ---------------------------------------------------------------- cells


def as_text(column: pl.Series) -> pl.Series:
    """The cells as text, the way a person would write them (``3.0`` is ``3``)."""
    if column.dtype == pl.String:
        return column
    if column.dtype.is_float():
        whole = (column == column.floor()) & (column.abs() < 1e15)
        texts = pl.DataFrame({"v": column, "w": whole}).select(
            pl.when("w")
            .then(pl.col("v").cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(pl.col("v").cast(pl.String))
        )
        return texts.to_series().alias(column.name)
    return column.cast(pl.String)


def blank(column: pl.Series) -> pl.Series:
    """True where a cell is empty or only spaces."""
    if column.dtype != pl.String:
        return column.is_null()
    return (column.str.strip_chars().str.len_bytes() == 0).fill_null(True)


def _spread(column: pl.Series) -> pl.Series:
    """Up to ``SAMPLE`` values from all over the column."""
    step = max(1, column.len() // SAMPLE)
    return column.gather_every(step) if step > 1 else column


def _nulls(length: int) -> pl.Series:
    return pl.repeat(None, length, dtype=pl.Float64, eager=True)


def _by_distinct(column: pl.Series, distinct: pl.Series, values: pl.Series) -> pl.Series:
    """Carry what was read from the distinct cells back to every row."""
    return column.replace_strict(distinct, values, return_dtype=values.dtype).alias(column.name)


# ---------------------------------------------------------------- numbers

_COMMA_GROUPS = r"^[+-]?\d{1,3}(,\d{3})+$"
_DOT_GROUPS = r"^[+-]?\d{1,3}(\.\d{3})+$"
# What only a decimal comma explains: not three digits after it, four before it, a leading 0, or dots that group.
_COMMA_SURE = r"^[+-]?(\d+,(\d{1,2}|\d{4,})|\d{4,},\d{3}|0+,\d{3}|\d{1,3}(\.\d{3})+,\d+|\d{1,3}(\.\d{3}){2,})$"
_DOT_SURE = r"^[+-]?(\d*\.(\d{0,2}|\d{4,})|\d{4,}\.\d{3}|0+\.\d{3}|\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,})$"
_COMMA_NUMBER = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"
_DOT_NUMBER = r"^[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d*)?$"
_SPACED = r"^[+-]?\d{1,3}([ \u00a0\u202f\u2009'’]\d{3})+([.,]\d+)?$"
_PLAIN = r"^[+-]?\d+$"
_SURE_GROUPS = 30  # so many values with exactly three digits behind the sign are groups, not decimals


@dataclass(frozen=True)
class Numbers:
    """Numbers of one column; ``values`` is null where a cell is empty or no number (NaN and infinity are kept)."""

    values: pl.Series
    decimal: Decimal | None = None  # None: no cell has a sign that could be one
    grouped: bool = False
    ambiguous: bool = False
    example: str = ""


def read_numbers(column: pl.Series, decimal: Decimal | None = None, fallback: Decimal | None = None) -> Numbers:
    """Read a column of numbers.

    Parameters
    ----------
    column
        Text or a native type.
    decimal
        The decimal sign, if a person chose it.
    fallback
        The sign other columns of the file use; decides only what this column leaves open.

    Returns
    -------
    Numbers
        One sign for the whole column; cells that do not fit it are null.

    Examples
    --------
    >>> read_numbers(pl.Series(["1.234,5", "12"])).values.to_list()
    [1234.5, 12.0]
    """
    if column.dtype != pl.String:
        native = column.dtype.is_numeric() or column.dtype == pl.Boolean
        return Numbers(
            column.cast(pl.Float64) if native else pl.repeat(None, column.len(), dtype=pl.Float64, eager=True)
        )
    values = column.cast(pl.Float64, strict=False)
    empty = (column == "").sum() + column.null_count() if values.has_nulls() else 0
    if decimal is None and values.null_count() == empty and not _may_be_grouped(column):
        return Numbers(values, "." if _spread(column).str.contains(".", literal=True).any() else None)
    return _read_written(column.str.strip_chars(), decimal, fallback)


def _may_be_grouped(column: pl.Series) -> bool:
    sample = _spread(column)
    dotted = sample.filter(sample.str.contains(".", literal=True))
    if not dotted.len() and sample.len() < column.len():
        dotted = column.filter(column.str.contains(".", literal=True))
    return bool(dotted.len()) and bool(dotted.str.contains(_DOT_GROUPS).all())


def _read_written(column: pl.Series, decimal: Decimal | None, fallback: Decimal | None) -> Numbers:
    spaced = column.str.contains(_SPACED).fill_null(False)
    if spaced.any():
        column = column.str.replace_all(f"[{_SPACES}]", "").zip_with(spaced, column)
    sign, ambiguous = (decimal, False) if decimal else _decimal_sign(column, fallback)
    number = _COMMA_NUMBER if sign == "," else _DOT_NUMBER
    group, point = (".", ",") if sign == "," else (",", ".")
    marked = column.str.contains(r"[.,]").fill_null(False)
    plain = column.str.replace_all(group, "", literal=True)
    plain = plain if point == "." else plain.str.replace(point, ".", literal=True)
    readable = column.str.contains(number).fill_null(False) | ~marked | (_scientific(column) if sign != "," else False)
    grouped = readable & column.str.contains(group, literal=True).fill_null(False)
    values = plain.cast(pl.Float64, strict=False)
    values = values.zip_with(readable, _nulls(column.len()))
    example = _first(column, grouped if bool(grouped.any()) else marked & readable)
    if bool(spaced.any()) and not grouped.any():
        grouped, example = spaced, _first(column, spaced)
    return Numbers(values, sign, bool(grouped.any()), ambiguous, example)


def _scientific(column: pl.Series) -> pl.Series:
    return column.str.contains(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$").fill_null(False)


def _first(column: pl.Series, mask: pl.Series) -> str:
    at = mask.arg_max() if mask.len() and mask.any() else None
    return "" if at is None else str(column[at])


def _decimal_sign(column: pl.Series, fallback: Decimal | None) -> tuple[Decimal | None, bool]:
    """The sign the whole column speaks for, and whether that was a choice."""
    comma = int(column.str.contains(_COMMA_SURE).sum() or 0)
    dot = int(column.str.contains(_DOT_SURE).sum() or 0)
    if comma or dot:
        return ("," if comma > dot else "."), False
    comma_groups = int(column.str.contains(_COMMA_GROUPS).sum() or 0)
    dot_groups = int(column.str.contains(_DOT_GROUPS).sum() or 0)
    if not comma_groups and not dot_groups:
        return None, False
    if comma_groups and dot_groups:
        return (fallback or ("," if comma_groups < dot_groups else ".")), True
    here: Decimal = "," if comma_groups else "."
    other: Decimal = "." if comma_groups else ","
    if fallback:
        return fallback, False
    plain = int(column.str.contains(_PLAIN).sum() or 0)
    groups = plain > 0 or comma_groups + dot_groups >= _SURE_GROUPS or here == ","
    return (other if groups else here), True


# ---------------------------------------------------------------- dates

DATE_FORMATS: dict[str, str] = {"ymd": "year-month-day", "dmy": "day/month/year", "mdy": "month/day/year"}
_OTHER_FORMATS = {
    "compact": "yearmonthday",
    "named": "day month year",
    "week": "year and ISO week (taken as its Monday)",
    "serial": "a spreadsheet day number",
}
_MONTHS = {
    **{
        m: i
        for i, m in enumerate(["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"], 1)
    },
    **{
        m: i
        for i, m in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
    },
    "set": 9,
}
_TIME = r"[T ]+\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?\s*([AaPp]\.?[Mm]\.?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?$"
_MIDNIGHT = r"[T ]+0?0:00(:00)?([.,]0+)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?$"
_YMD = r"^(\d{4})[-/. ](\d{1,2})[-/. ](\d{1,2})$"
_COMPACT = r"^(\d{4})(\d{2})(\d{2})$"
_TWO_FIRST = r"^(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}|\d{2})$"
_NAMED_DAY = (
    r"^(?:[a-z]+,? +)?(\d{1,2})(?:st|nd|rd|th)?[-/. ]+(?:de )?([a-z]{3})[a-z]*\.?[-/., ]+(?:de )?(\d{4}|\d{2})$"
)
_NAMED_MONTH = r"^(?:[a-z]+,? +)?([a-z]{3})[a-z]*\.?[-/. ]+(\d{1,2})(?:st|nd|rd|th)?[,-/. ]+(\d{4}|\d{2})$"
_WEEK = r"^(\d{4})[- ]?w(\d{2})$"
_SERIAL = r"^\d{5}(\.\d+)?$"
_SERIAL_FIRST, _SERIAL_LAST = 29_221, 73_050  # 1980-01-01 and 2099-12-31 as spreadsheet day numbers


@dataclass(frozen=True)
class Dates:
    """Dates of one column; ``written`` names the family (ymd, compact, numeric, named, week, serial)."""

    values: pl.Series
    written: str
    order: Order = "ymd"
    ambiguous: bool = False
    timed: int = 0

    @property
    def format(self) -> str:
        return _OTHER_FORMATS.get(self.written, DATE_FORMATS[self.order])


def read_dates(column: pl.Series, order: Order | None = None) -> Dates:
    """Read a column of dates; the way most cells are written decides, other cells are null.

    Parameters
    ----------
    column
        Text, dates, datetimes, or numbers (``20260131`` or spreadsheet day numbers).
    order
        Order of day and month, if a person chose it; otherwise the whole column decides.

    Examples
    --------
    >>> read_dates(pl.Series(["01/02/2026", "13/02/2026"])).values.to_list()
    [datetime.date(2026, 2, 1), datetime.date(2026, 2, 13)]
    """
    if column.dtype == pl.Date:
        return Dates(column, "ymd")
    if isinstance(column.dtype, pl.Datetime):
        days = column.dt.date()
        return Dates(days, "ymd", timed=int((column != days.cast(column.dtype)).sum() or 0))
    text = as_text(column)
    if order in (None, "ymd"):
        values = text.str.to_date("%Y-%m-%d", strict=False)
        if not values.has_nulls() and (not values.len() or values.dt.year().min() >= 1000):  # type: ignore[operator]
            return Dates(values, "ymd")  # a year below is 25-01-31, whose first number is a day
    return _read_distinct_dates(text, order)


def _read_distinct_dates(text: pl.Series, order: Order | None) -> Dates:
    seen = text.alias("cell").drop_nulls().value_counts(sort=False)
    distinct, weight = seen["cell"], seen["count"]
    cut = distinct.str.strip_chars()
    has_time = cut.str.contains(_TIME) & ~cut.str.contains(_MIDNIGHT)
    cut = cut.str.replace(_TIME, "").str.to_lowercase()
    family, parts = _date_family(cut, weight)
    ambiguous = False
    if family == "numeric":
        order, ambiguous = (order, False) if order in ("dmy", "mdy") else _day_or_month_first(parts)
    values = _from_parts(family, parts, order if family == "numeric" else "ymd", cut)
    timed = int(weight.filter(has_time & values.is_not_null()).sum())
    shown_order: Order = order if family == "numeric" and order else ("dmy" if family == "named" else "ymd")
    return Dates(_by_distinct(text, distinct, values), family, shown_order, ambiguous, timed)


def _date_family(cells: pl.Series, weight: pl.Series) -> tuple[str, pl.DataFrame]:
    """The way of writing that most rows share, with the three parts of each cell that follows it."""
    shapes = {
        "ymd": cells.str.contains(_YMD),
        "numeric": cells.str.contains(_TWO_FIRST),
        "compact": cells.str.contains(_COMPACT),
        "named": cells.str.contains(_NAMED_DAY) | cells.str.contains(_NAMED_MONTH),
        "week": cells.str.contains(_WEEK),
        "serial": _is_serial(cells),
    }
    rows = {name: int(weight.filter(mask).sum()) for name, mask in shapes.items()}
    family = max(rows, key=lambda name: rows[name])
    return family, _date_parts(family, cells)


def _is_serial(cells: pl.Series) -> pl.Series:
    return cells.str.contains(_SERIAL) & cells.cast(pl.Float64, strict=False).is_between(_SERIAL_FIRST, _SERIAL_LAST)


def _date_parts(family: str, cells: pl.Series) -> pl.DataFrame:
    pattern = {"ymd": _YMD, "compact": _COMPACT, "numeric": _TWO_FIRST}.get(family)
    cell = pl.col("cell")
    if pattern:
        parts = [cell.str.extract(pattern, i).cast(pl.Int32).alias(f"p{i}") for i in (1, 2, 3)]
        return pl.DataFrame({"cell": cells}).select(parts)

    def month(pattern: str, at: int) -> pl.Expr:
        return cell.str.extract(pattern, at).replace_strict(_MONTHS, default=None, return_dtype=pl.Int32)

    def number(first: str, at: int, second: str, other: int) -> pl.Expr:
        return pl.coalesce(cell.str.extract(first, at), cell.str.extract(second, other)).cast(pl.Int32)

    return pl.DataFrame({"cell": cells}).select(
        number(_NAMED_DAY, 3, _NAMED_MONTH, 3).alias("p1"),
        pl.coalesce(month(_NAMED_DAY, 2), month(_NAMED_MONTH, 1)).alias("p2"),
        number(_NAMED_DAY, 1, _NAMED_MONTH, 2).alias("p3"),
    )


def _day_or_month_first(parts: pl.DataFrame) -> tuple[Order, bool]:
    """Order of the first two numbers: what the column proves, else what makes the dates closest together."""
    day_first, month_first = int((parts["p1"] > 12).sum()), int((parts["p2"] > 12).sum())
    if day_first or month_first:
        return ("dmy" if day_first >= month_first else "mdy"), False
    if parts["p1"].equals(parts["p2"]):
        return "dmy", False
    return ("mdy" if _spacing(parts, "mdy") < _spacing(parts, "dmy") else "dmy"), True


def _spacing(parts: pl.DataFrame, order: Order) -> float:
    days = _from_parts("numeric", parts, order, parts["p1"]).drop_nulls().sort().diff().dt.total_days()
    middle = days.drop_nulls().median()
    return float(middle) if isinstance(middle, (int, float)) else 0.0


def _from_parts(family: str, parts: pl.DataFrame, order: Order | None, cells: pl.Series) -> pl.Series:
    if family == "week":
        return cells.str.replace(_WEEK, "${1}-w${2}-1").str.to_date("%G-w%V-%u", strict=False)
    if family == "serial":
        days = cells.cast(pl.Float64, strict=False).zip_with(_is_serial(cells), _nulls(cells.len()))
        return (days.floor().cast(pl.Int32) - 25_569).cast(pl.Date)  # 25,569 = 1970-01-01 as a day number
    places = {"ymd": ("p1", "p2", "p3"), "dmy": ("p3", "p2", "p1"), "mdy": ("p3", "p1", "p2")}[order or "ymd"]
    year, month, day = (pl.col(name) for name in places)
    full_year = pl.when(year < 100).then(year + 2000).otherwise(year)
    # pl.date raises on a 30 February, parsing does not
    iso = pl.concat_str(
        full_year.cast(pl.String).str.zfill(4),
        month.cast(pl.String).str.zfill(2),
        day.cast(pl.String).str.zfill(2),
        separator="-",
    )
    return parts.select(iso.str.to_date("%Y-%m-%d", strict=False)).to_series()


def impossible_dates(text: pl.Series, written: str) -> pl.Series:
    """True where a cell is written like the dates of its column; such a cell without a date is a 30 February."""
    cut = text.str.strip_chars().str.replace(_TIME, "").str.to_lowercase()
    shapes = {"ymd": _YMD, "numeric": _TWO_FIRST, "compact": _COMPACT, "week": _WEEK}
    pattern = f"(?:{_NAMED_DAY})|(?:{_NAMED_MONTH})" if written == "named" else shapes.get(written)
    return cut.str.contains(pattern).fill_null(False) if pattern else text.is_null() & text.is_not_null()


def looks_like_date(column: pl.Series) -> pl.Series:
    """True where a cell has the shape of a date in any known way of writing, possible or not."""
    cut = as_text(column).str.strip_chars().str.replace(_TIME, "").str.to_lowercase()
    shapes = (_YMD, _COMPACT, _TWO_FIRST, _NAMED_DAY, _NAMED_MONTH, _WEEK)
    found = cut.str.contains("|".join(f"(?:{shape})" for shape in shapes))
    return found.fill_null(False)


# ---------------------------------------------------------------- yes and no

_YES = ["1", "yes", "y", "si", "sí", "s", "true", "t", "verdadero", "cierto", "x", "on", "sim", "oui", "ja"]
_NO = ["0", "no", "n", "false", "f", "falso", "off", "-", "não", "nao", "non", "nein", "ninguno", "ninguna", "none"]


@dataclass(frozen=True)
class Flags:
    """Values 0/1 (or shares) of one column; ``word`` is an example of a word that was read, ``percent`` of a share
    written with %."""

    values: pl.Series
    word: str = ""
    percent: str = ""


def read_flags(column: pl.Series, decimal: Decimal | None = None) -> Flags:
    """Read yes/no words, 0/1, shares and percentages; other cells are null.

    Examples
    --------
    >>> read_flags(pl.Series(["sí", "no", "20%"])).values.to_list()
    [1.0, 0.0, 0.2]
    """
    if column.dtype != pl.String:
        return Flags(read_numbers(column).values)
    values = column.cast(pl.Float64, strict=False)
    if not values.has_nulls():
        return Flags(values)
    distinct = column.drop_nulls().unique()
    cells = distinct.str.strip_chars().str.to_lowercase()
    words = cells.replace_strict(
        {**dict.fromkeys(_YES, 1.0), **dict.fromkeys(_NO, 0.0)}, default=None, return_dtype=pl.Float64
    )
    shares = read_numbers(cells.str.strip_suffix("%").str.strip_chars_end(), decimal, fallback=",").values / 100
    percent = cells.str.ends_with("%")
    numbers = read_numbers(cells, decimal, fallback=",").values
    read = numbers.zip_with(numbers.is_not_null(), shares.zip_with(percent, words))
    word = distinct.filter(numbers.is_null() & ~percent & words.is_not_null())
    shared = distinct.filter(percent & shares.is_not_null())
    return Flags(
        _by_distinct(column, distinct, read),
        word=str(word.sort()[0]) if word.len() else "",
        percent=str(shared.sort()[0]) if shared.len() else "",
    )
