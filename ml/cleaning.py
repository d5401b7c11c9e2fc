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
from collections.abc import Collection
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
    static: tuple[str, ...] = ()


def merge(frames: list[pl.DataFrame], names: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Upsert the frames in order: the last one wins for a date, store and product.

    Raises InputError when some frames have stores or products and others have none: they can't be one business.
    """
    if not frames:
        raise NotEnoughData("There is no accepted upload to process: upload a file and accept it first.")
    _refuse_mixed(frames, names)
    frames, notes = as_text(frames, names)
    whole = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
    ordered = _ordered(whole)
    last = pl.any_horizontal(pl.col(name) != pl.col(name).shift(-1) for name in KEY).fill_null(True)
    merged = ordered.filter(last)
    replaced = whole.height - merged.height
    return merged, [*notes, *([f"{replaced} rows were replaced by later uploads"] if replaced else [])]


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorted by store, product, date, rows of one key in their order; not copied when it is so already."""
    before = [pl.col(name).shift(1) for name in KEY]
    now = [pl.col(name) for name in KEY]
    equal = [b == n for b, n in zip(before, now, strict=True)]
    less = [b < n for b, n in zip(before, now, strict=True)]
    in_order = less[0] | (equal[0] & (less[1] | (equal[1] & (less[2] | equal[2]))))
    # the first row has none before it
    return frame if frame.select(in_order.fill_null(True).all()).item() else frame.sort(KEY, maintain_order=True)


def as_text(frames: list[pl.DataFrame], names: list[str]) -> tuple[list[pl.DataFrame], list[str]]:
    """One type per column: where one of the tables has text, the numbers of the others become text; with notes."""
    notes = []
    for column in dict.fromkeys(name for frame in frames for name in frame.columns):
        numeric = [column in frame.columns and frame.schema[column].is_numeric() for frame in frames]
        text = [column in frame.columns and frame.schema[column] == pl.String for frame in frames]
        if not (any(numeric) and any(text)):
            continue
        frames = [
            frame.with_columns(_number_as_text(column)) if is_number else frame
            for frame, is_number in zip(frames, numeric, strict=True)
        ]
        numbers = ", ".join(name for name, is_number in zip(names, numeric, strict=True) if is_number)
        texts = ", ".join(name for name, is_text in zip(names, text, strict=True) if is_text)
        notes.append(f"{column} is text in {texts}: its numbers in {numbers} are read as text too")
    return frames, notes


def _number_as_text(column: str) -> pl.Expr:
    """Numbers as a person writes them: 3, not 3.0."""
    value = pl.col(column)
    whole = value.cast(pl.Int64, strict=False)
    return pl.when(whole == value).then(whole.cast(pl.String)).otherwise(value.cast(pl.String)).alias(column)


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
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in ("store", "product"))
    gaps = _ordered(frame).select(gap=pl.when(same).then(pl.col("date").diff().dt.total_days()))["gap"].drop_nulls()
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
    frame = _ordered(frame)
    frequency = detect_frequency(frame)
    policy, note = _missing_policy(frame, frequency, missing_days)
    regressors = tuple(c for c in frame.columns if c not in BASE)
    filled = _regular(frame, frequency)
    rows_filled = filled.height - frame.height
    filled = _fill_sales(filled, frame, policy, frequency, country)
    filled = _fill_inputs(filled, regressors, country)
    closed = find_closed(filled, regressors)
    notes = [note, f"{rows_filled} periods without a row were added"] if rows_filled else [note]
    notes += [f"days with {name} = {value:g} never sell anything: treated as closed" for name, value in closed.items()]
    return Panel(
        filled.select(*KEY, pl.exclude(*KEY)), frequency, policy, rows_filled, regressors, closed, tuple(notes)
    )


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


def begins() -> pl.Expr:
    """Whether a row is the first of its series, in a frame sorted by store and product."""
    return pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in ("store", "product")).fill_null(True)


def series_number() -> pl.Expr:
    """The number of each row's series, from 0, in a frame sorted by store and product; much faster than its names."""
    changed = pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in ("store", "product"))
    return changed.fill_null(False).cast(pl.UInt32).cum_sum()


def _regular(frame: pl.DataFrame, frequency: Frequency) -> pl.DataFrame:
    """A row for each period of each series, in order; the frame itself when nothing is missing.

    Joins go over series numbers: over names they take several times the memory and time.
    """
    days = 1 if frequency == "D" else 7
    last = frame["date"].max()
    numbered = frame.with_columns(_sid=series_number())
    spans = numbered.group_by("_sid", maintain_order=True).agg(
        pl.col("store", "product").first(), first=pl.col("date").first(), last=pl.col("date").last()
    )
    alive = pl.col("last").dt.offset_by(f"{ENDED_AFTER * days}d") >= last
    spans = spans.with_columns(last=pl.when(alive).then(pl.lit(last)).otherwise(pl.col("last")))
    periods = (pl.col("last") - pl.col("first")).dt.total_days() // days + 1
    off = numbered.filter(pl.col("date").diff().over("_sid") != pl.duration(days=days)).height
    if not off and spans.select(periods.sum()).item() == frame.height:
        return frame
    dates = pl.date_ranges("first", "last", interval=f"{days}d").alias("date")
    grid = spans.select("_sid", "store", "product", dates).explode("date")
    values = numbered.drop("store", "product")
    return grid.join(values, on=["_sid", "date"], how="left", maintain_order="left").drop("_sid")


def _fill_sales(
    filled: pl.DataFrame, frame: pl.DataFrame, policy: str, frequency: Frequency, country: str
) -> pl.DataFrame:
    """Give the added periods their sales: 0 or null."""
    if filled.height == frame.height:
        return filled
    zero = pl.col("_closing") | (pl.col("_recorded") & pl.lit(policy == "zero"))
    if frame["store"].n_unique() == 1 and frame["product"].n_unique() == 1:
        zero = zero | pl.lit(policy == "zero")  # one series: a store-wide gap is just a gap
    days = _store_days(filled, frame, frequency, country)
    filled = filled.join(days, on=["store", "date"], how="left", maintain_order="left")
    sales = pl.when(pl.col("sales").is_null() & zero).then(0.0).otherwise(pl.col("sales")).alias("sales")
    return filled.with_columns(sales).drop("_recorded", "_closing")


def _store_days(filled: pl.DataFrame, frame: pl.DataFrame, frequency: Frequency, country: str) -> pl.DataFrame:
    """Per store and date: whether it has any row, and whether it is a day on which the store regularly has none."""
    recorded = frame.select("store", "date").unique().with_columns(_recorded=pl.lit(True))
    days = filled.select("store", "date").unique().join(recorded, on=["store", "date"], how="left")
    days = days.with_columns(pl.col("_recorded").fill_null(False))
    if frequency == "W":
        return days.with_columns(_closing=pl.lit(False))
    days = days.join(holiday_flags(days["date"], country), on="date", how="left")
    kind = pl.when(pl.col("holiday") > 0).then(8).otherwise(pl.col("date").dt.weekday())
    share = (~pl.col("_recorded")).mean().over("store", kind.alias("_kind"))
    return days.select("store", "date", "_recorded", _closing=~pl.col("_recorded") & (share >= CLOSED_SHARE))


def _fill_inputs(filled: pl.DataFrame, regressors: tuple[str, ...], country: str) -> pl.DataFrame:
    series = ("store", "product")
    if "price" in filled.columns and filled["price"].has_nulls():
        known = pl.col("price").forward_fill().over(*series).backward_fill().over(*series)
        filled = filled.with_columns(known)
    if "promotion" in filled.columns:
        filled = filled.with_columns(pl.col("promotion").fill_null(0.0))
    if "holiday" not in filled.columns:
        flags = holiday_flags(filled["date"].unique(), country)
        filled = filled.join(flags, on="date", how="left", maintain_order="left")
    by_store_day = [
        pl.col(name).fill_null(pl.col(name).drop_nulls().first().over("store", "date"))
        for name in (*regressors, "holiday")
        if filled[name].has_nulls()
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


def usual_price(names: Collection[str]) -> pl.Expr:
    """The last known price outside promotions, of rows in order; where everything was promoted, the last known one.

    A promotion's discount in the last row is no reason to expect it on the next day without the promotion.
    """
    if "price" not in names:
        return pl.lit(None, pl.Float64)
    price = pl.col("price")
    last = price.drop_nulls().last()
    if "promotion" not in names:
        return last
    return pl.coalesce(price.filter(price.is_not_null() & (pl.col("promotion").fill_null(0) == 0)).last(), last)
