"""An unchecked table, and the rows that are left out of one: row, column, code, reason, then the raw cells as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ml.findings import VALUE_LIMIT, Fact, reason
from ml.records import Finding, ReadOptions
from ml.values import as_text

BAD_COLUMNS = ("row", "column", "code", "reason")
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


def raw_name(column: str) -> str:
    """The name of a raw column beside row, column, code and reason."""
    return f"{column} (file)" if column in BAD_COLUMNS else column


def bad_schema(columns: Iterable[str]) -> dict[str, type[pl.DataType]]:
    own: dict[str, type[pl.DataType]] = {"row": pl.Int64, "column": pl.String, "code": pl.String, "reason": pl.String}
    return own | dict.fromkeys(map(raw_name, columns), pl.String)


def no_bad_rows(columns: Iterable[str]) -> pl.DataFrame:
    """An empty list of left-out rows of a file with these columns."""
    return pl.DataFrame(schema=bad_schema(columns))


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


def usable_types(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Numbers, dates, booleans and text as they are, other simple types as text; nested and binary ones dropped."""
    dropped = [c.name for c in frame if c.dtype.is_nested() or c.dtype in (pl.Binary, pl.Object)]
    plain = []
    for column in frame.drop(dropped):
        if isinstance(column.dtype, pl.Decimal):
            column = column.cast(pl.Float64)
        elif column.dtype.is_temporal() and column.dtype in (pl.Date, pl.Datetime):
            column = _real_days(column)
        elif not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Date)):
            column = column.cast(pl.String)
        plain.append(column)
    return pl.DataFrame(plain), dropped


def _real_days(column: pl.Series) -> pl.Series:
    """Dates as they are, without a time zone; as plain text where a damaged file holds days beyond any calendar."""
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.replace_time_zone(None)
    per_day = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
    day = column.to_physical() // per_day.get(getattr(column.dtype, "time_unit", ""), 1)
    real = day.is_between(-719_162, 2_932_896).fill_null(True)  # years 1 to 9999
    if real.all():
        return column
    kept = column.zip_with(real, column.clear(column.len())).cast(pl.String)
    return kept.zip_with(real, "day " + day.cast(pl.String))
