"""Checked rows of several uploads -> one regular panel: every series has a row for each period.

Rules, each reported as a decision in ``data.json``:

- a later upload wins over an earlier one for the same date, store and product;
- rows of the demo are dropped as soon as a real upload exists;
- periods without a row become 0 (nothing sold) or unknown (null), detected or set; a day on which a whole store has
  no row is 0 when the store is regularly closed then (that weekday, or a holiday), else unknown;
- a series without rows for the last ``ENDED_AFTER`` periods has ended and is not continued.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from ml.calendar import holiday_flags
from ml.errors import InputError, NotEnoughData
from ml.records import Frequency

KEY = ["store", "product", "date"]
BASE = ("date", "store", "product", "sales", "price", "promotion", "holiday")
ENDED_AFTER = 56  # periods; eight weeks without one row is a delisted product rather than a slow one
CLOSED_SHARE = 0.8  # a weekday is a closing day when at least this share of them has no row
MIN_CLOSED_ROWS = 30  # fewer rows with zero sales could be chance


@dataclass(frozen=True)
class Panel:
    """A regular panel, sorted by store, product, date, and how it came to be."""

    frame: pl.DataFrame
    frequency: Frequency
    missing_days: Literal["zero", "unknown"]
    rows_filled: int
    regressors: tuple[str, ...]
    closed_when: dict[str, float]
    decisions: tuple[str, ...] = field(default=())


def merge(frames: list[pl.DataFrame], names: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Upsert the frames in order: the last one wins for a date, store and product.

    Raises InputError when some frames have stores or products and others have none: they can't be one business.
    """
    if not frames:
        raise NotEnoughData("There is no accepted upload to process: upload a file and accept it first.")
    _refuse_mixed(frames, names)
    whole = pl.concat(frames, how="diagonal_relaxed")
    merged = whole.unique(subset=KEY, keep="last", maintain_order=True).sort(KEY)
    replaced = whole.height - merged.height
    notes = [f"{replaced} rows were replaced by later uploads"] if replaced else []
    return merged, notes


def _refuse_mixed(frames: list[pl.DataFrame], names: list[str]) -> None:
    for column in ("store", "product"):
        without = [
            name for frame, name in zip(frames, names, strict=True) if frame[column].unique().to_list() == ["all"]
        ]
        if without and len(without) < len(frames):
            raise InputError(
                f"{', '.join(without)} has no {column} column while other uploads have one; they cannot be added up. "
                "Choose in the run's parameter `uploads` which ones to use.",
                field=column,
            )


def detect_frequency(frame: pl.DataFrame) -> Frequency:
    """Daily or weekly, by the usual gap between two rows of a series."""
    gaps = (
        frame.sort(KEY)
        .select(pl.col("date").diff().dt.total_days().over("store", "product").alias("gap"))["gap"]
        .drop_nulls()
    )
    if gaps.is_empty():
        return "D"
    weekly = (gaps % 7 == 0).sum() / len(gaps)
    return "W" if weekly > 0.95 and (gaps >= 7).sum() * 2 > len(gaps) else "D"


def make_panel(
    frame: pl.DataFrame, *, country: str, missing_days: Literal["auto", "zero", "unknown"] = "auto"
) -> Panel:
    """Make the regular panel of merged rows.

    Parameters
    ----------
    frame
        SalesFrame with one row per date, store and product.
    country
        Two-letter code whose public holidays fill the holiday column where the file has none.

    Raises
    ------
    NotEnoughData
        Fewer than two periods.
    """
    if frame["date"].n_unique() < 2:
        raise NotEnoughData(f"The data has {frame['date'].n_unique()} date; a forecast needs a history.")
    frequency = detect_frequency(frame)
    policy, note = _missing_policy(frame, frequency, missing_days)
    regressors = tuple(c for c in frame.columns if c not in BASE)
    grid = _grid(frame, frequency)
    filled = grid.join(frame, on=KEY, how="left").sort(KEY)
    rows_filled = filled.height - frame.height
    filled = _fill_sales(filled, frame, policy, frequency, country)
    filled = _fill_inputs(filled, frame, regressors, country)
    closed = find_closed(filled, regressors)
    notes = [note, f"{rows_filled} periods without a row were added"] if rows_filled else [note]
    notes += [f"days with {name} = {value:g} never sell anything: treated as closed" for name, value in closed.items()]
    return Panel(filled, frequency, policy, rows_filled, regressors, closed, tuple(notes))


def step(frequency: Frequency) -> dt.timedelta:
    return dt.timedelta(days=1 if frequency == "D" else 7)


def _missing_policy(
    frame: pl.DataFrame, frequency: Frequency, asked: Literal["auto", "zero", "unknown"]
) -> tuple[Literal["zero", "unknown"], str]:
    if asked != "auto":
        return asked, f"periods without a row mean {'nothing sold' if asked == 'zero' else 'not recorded'} (set)"
    zeros = (frame["sales"] == 0).sum() / frame.height
    if zeros > 0.001:
        return "unknown", f"periods without a row mean not recorded: {zeros:.1%} of the rows say 0 where nothing sold"
    return "zero", "periods without a row mean nothing sold: no row says 0"


def _grid(frame: pl.DataFrame, frequency: Frequency) -> pl.DataFrame:
    days = 1 if frequency == "D" else 7
    last = frame["date"].max()
    spans = frame.group_by("store", "product").agg(first=pl.col("date").min(), last=pl.col("date").max())
    alive = pl.col("last").dt.offset_by(f"{ENDED_AFTER * days}d") >= last
    spans = spans.with_columns(pl.when(alive).then(pl.lit(last)).otherwise(pl.col("last")).alias("last"))
    return (
        spans.select("store", "product", pl.date_ranges("first", "last", interval=f"{days}d").alias("date"))
        .explode("date")
        .select(KEY)
    )


def _fill_sales(
    filled: pl.DataFrame, frame: pl.DataFrame, policy: str, frequency: Frequency, country: str
) -> pl.DataFrame:
    """Give the added periods their sales: 0 or null."""
    if filled.height == frame.height:
        return filled
    store_days = frame.select("store", "date").unique().with_columns(recorded=pl.lit(True))
    filled = filled.join(store_days, on=["store", "date"], how="left").with_columns(pl.col("recorded").fill_null(False))
    never = filled.with_columns(closing=pl.lit(False))
    filled = _mark_closing(filled, country) if frequency == "D" else never
    zero = pl.col("closing") | (pl.col("recorded") & pl.lit(policy == "zero"))
    if frame["store"].n_unique() == 1 and frame["product"].n_unique() == 1:
        zero = zero | pl.lit(policy == "zero")  # one series: a store-wide gap is just a gap
    sales = pl.when(pl.col("sales").is_null() & zero).then(0.0).otherwise(pl.col("sales")).alias("sales")
    return filled.with_columns(sales).drop("recorded", "closing")


def _mark_closing(filled: pl.DataFrame, country: str) -> pl.DataFrame:
    """``closing``: no row of the whole store, on a weekday or holiday on which it is regularly closed."""
    days = filled.select("store", "date", "recorded").unique()
    days = days.join(holiday_flags(days["date"], country).rename({"holiday": "_holiday"}), on="date", how="left")
    days = days.with_columns(_kind=pl.when(pl.col("_holiday") > 0).then(8).otherwise(pl.col("date").dt.weekday()))
    regular = days.with_columns(_share=(~pl.col("recorded")).mean().over("store", "_kind"))
    closing = ~pl.col("recorded") & (pl.col("_share") >= CLOSED_SHARE)
    return filled.join(regular.select("store", "date", closing.alias("closing")), on=["store", "date"], how="left")


def _fill_inputs(filled: pl.DataFrame, frame: pl.DataFrame, regressors: tuple[str, ...], country: str) -> pl.DataFrame:
    series = ("store", "product")
    columns = []
    if "price" in filled.columns:
        columns.append(pl.col("price").forward_fill().over(*series).backward_fill().over(*series))
    if "promotion" in filled.columns:
        columns.append(pl.col("promotion").fill_null(0.0))
    filled = filled.with_columns(columns)
    if "holiday" not in filled.columns:
        filled = filled.join(holiday_flags(filled["date"].unique(), country), on="date", how="left").sort(KEY)
    by_store_day = [
        pl.col(name).fill_null(pl.col(name).drop_nulls().first().over("store", "date"))
        for name in (*regressors, "holiday")
        if filled[name].null_count()
    ]
    return filled.with_columns(by_store_day).with_columns(pl.col("holiday").fill_null(0).cast(pl.Int8))


def find_closed(frame: pl.DataFrame, regressors: tuple[str, ...]) -> dict[str, float]:
    """Two-valued regressors under one value of which nothing is ever sold (``open`` = 0): column -> that value."""
    found: dict[str, float] = {}
    for name in regressors:
        if not frame.schema[name].is_numeric():
            continue
        stats = (
            frame.filter(pl.col(name).is_not_null() & pl.col("sales").is_not_null())
            .group_by(name)
            .agg(rows=pl.len(), most=pl.col("sales").max())
        )
        idle = stats.filter((pl.col("most") == 0) & (pl.col("rows") >= MIN_CLOSED_ROWS))
        if stats.height == 2 and idle.height == 1:
            found[name] = float(idle[name][0])
    return found
