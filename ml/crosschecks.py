"""Columns that say something twice: parts of the date against the date, revenue against units and price."""

from __future__ import annotations

import polars as pl

from ml.values import as_text, read_flags
from ml.vocabulary import words

_WEEKDAYS = (
    ("lu", "mon", "l"),
    ("mar", "tu", "m"),
    ("mi", "we", "x"),
    ("ju", "th", "j"),
    ("vi", "fr", "v"),
    ("sa", "sat", "s"),
    ("do", "su", "d"),
)


def derived_mismatch(column: pl.Series, dates: pl.Series, kind: str) -> pl.Series | None:
    """True where a part of the date does not fit the date, under the convention that fits best.

    Parameters
    ----------
    column
        Weekday, month, year, day, week, quarter or weekend flag, as names (Spanish, English) or numbers.
    dates
        The dates of the same rows.
    kind
        Which part of the date it is (see ``ml.vocabulary``).

    Returns
    -------
    polars.Series or None
        ``None`` when no cell could be understood. Cells that could not be understood count as fitting.

    Examples
    --------
    >>> import datetime as dt
    >>> days = pl.Series([dt.date(2026, 1, 5), dt.date(2026, 1, 6)])
    >>> derived_mismatch(pl.Series(["lunes", "lunes"]), days, "weekday").to_list()
    [False, True]
    """
    said = _weekday_numbers(column) if kind == "weekday" else read_flags(column).values
    if not said.count():
        return None
    frame = pl.DataFrame({"date": dates, "said": said})
    ways = frame.select(way.cast(pl.Float64).alias(f"w{at}") for at, way in enumerate(_ways(kind)))
    masks = [(said != way).fill_null(False) for way in ways]
    return min(masks, key=lambda mask: int(mask.sum()))


def _ways(kind: str) -> list[pl.Expr]:
    """The numbers that a part of the date may be written as."""
    date = pl.col("date")
    weekday = date.dt.weekday()
    ways: dict[str, list[pl.Expr]] = {
        "weekday": [weekday, weekday - 1, weekday % 7, weekday % 7 + 1],
        "month": [date.dt.month()],
        "year": [date.dt.year(), date.dt.iso_year()],
        "day": [date.dt.day()],
        "week": [date.dt.week(), (date.dt.ordinal_day() + 6) // 7],
        "quarter": [date.dt.quarter()],
        "weekend": [(weekday >= 6).cast(pl.Int8)],
    }
    return ways[kind]


def _weekday_numbers(column: pl.Series) -> pl.Series:
    """Weekdays as 1 (Monday) to 7 from names; numbers as they are."""
    text = as_text(column)
    distinct = text.drop_nulls().unique()
    values = pl.Series([_weekday_number(cell) for cell in distinct], dtype=pl.Float64)
    return text.replace_strict(distinct, values, return_dtype=pl.Float64)


def _weekday_number(cell: str) -> float | None:
    name = "".join(words(cell))
    if name.isdecimal():
        return float(name[:3])
    for number, starts in enumerate(_WEEKDAYS, 1):
        if name == starts[2] or name.startswith(starts[:2]):
            return float(number)
    return None


def revenue_off(said: pl.Series, units: pl.Series, price: pl.Series) -> tuple[pl.Series, pl.Series, int]:
    """True where revenue is not units × price, what it should be, and how many rows could be compared.

    A price rounded to cents is off by half a cent for every unit, so that much is let through, and 1 %.
    """
    frame = pl.DataFrame({"said": said, "units": units, "price": price}).select(
        "said", expected=pl.col("units") * pl.col("price"), slack=0.02 + 0.005 * pl.col("units").abs()
    )
    distance = (pl.col("said") - pl.col("expected")).abs()
    found = frame.select(
        "expected",
        off=(distance > pl.col("slack") + 0.01 * pl.col("expected").abs()).fill_null(False),
        compared=distance.is_finite(),
    )
    return found["off"], found["expected"], int(found["compared"].sum() or 0)
