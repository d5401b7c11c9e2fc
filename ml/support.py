"""How much of the history looks like what is asked, and which input lies outside of all that was seen.

A past period is *similar* to a row when it had the same promotion state and a price within ``SIMILAR_PRICE``. The
history is kept as counts per series, promotion state and price, in sorted order with running totals: a question is two
binary searches, whatever the length of the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from ml.features import SERIES, Columns, closed_mask

SIMILAR_PRICE = 0.10  # a past price within 10 % counts as the same price
ROUNDING = 1e-6  # prices are kept in single precision here and there: as much beyond the range is inside
MASK_BITS = 60  # flags that fit into one whole number
ENOUGH = 14  # similar periods: two weeks of daily sales
Array = np.ndarray


@dataclass(frozen=True)
class Counts:
    """Past periods by group and value, sorted, so that "how many in group g within low..high" is two searches."""

    values: Array  # distinct values, ascending
    keys: Array  # group * (len(values) + 1) + rank of the value, ascending
    total: Array  # periods up to and including each key, with a 0 before

    @classmethod
    def of(cls, group: Array, value: Array, periods: Array) -> Counts:
        values = np.unique(value)
        keys = group.astype(np.int64) * (len(values) + 1) + np.searchsorted(values, value)
        order = np.argsort(keys, kind="stable")
        return cls(values, keys[order], np.concatenate([[0], np.cumsum(periods[order])]).astype(np.int64))

    def between(self, group: Array, low: Array, high: Array) -> Array:
        """Periods of each group with a value in ``low..high``; group -1 has none."""
        width = len(self.values) + 1
        first = group * width + self.values.searchsorted(low, side="left")
        last = group * width + self.values.searchsorted(high, side="right")
        found = self.total[self.keys.searchsorted(last)] - self.total[self.keys.searchsorted(first)]
        return np.where(group < 0, 0, found)


class SupportTable:
    """The past of a state, ready to be asked; made once per state.

    Parameters
    ----------
    state
        Cleaned panel: store, product, date, sales and the inputs. Closed and unknown periods do not count.
    """

    def __init__(self, state: pl.DataFrame, columns: Columns) -> None:
        self.columns = columns
        known = state.lazy().filter(pl.col("sales").is_not_null() & ~closed_mask(columns))
        price = pl.col("price") if columns.price else pl.lit(None, pl.Float64)
        promoted = pl.col("promotion") > 0 if columns.promotion else pl.lit(False)
        past = known.select(*SERIES, price.cast(pl.Float64).alias("price"), promoted.fill_null(False).alias("promoted"))
        self._past = past.group_by(*SERIES, "promoted", "price").agg(periods=pl.len()).collect()
        self.limits = _limits(state, columns.regressors)
        self.words = {name: state[name].drop_nulls().unique() for name in columns.text}

    # -- similar periods

    @cached_property
    def _usual(self) -> pl.DataFrame:
        """The usual price of each series: what makes prices of different products comparable."""
        priced = self._past.filter(pl.col("price") > 0)
        middle = pl.col("price").repeat_by("periods").explode().median()
        return priced.group_by(SERIES).agg(usual=middle)

    @cached_property
    def _indexes(self) -> dict[str, tuple[pl.DataFrame, Counts, Array]]:
        """By kind of likeness: the groups, counts by price, and periods whose price is not known."""
        past = self._past.join(self._usual, on=SERIES, how="left", maintain_order="left")
        past = past.with_columns(relative=pl.col("price") / pl.col("usual"))
        kinds = {"series": (SERIES, "price"), "product": (["product"], "price")}
        kinds |= {"store": (["store"], "relative"), "own": (SERIES, "relative")}
        return {name: _index(past, keys, value) for name, (keys, value) in kinds.items()}

    def similar(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Count similar periods of each row, in the order of the rows.

        Parameters
        ----------
        rows
            ``store, product`` and, where the data has them, ``price`` and ``promotion``; an unknown price is like any.

        Returns
        -------
        ``similar_days``: of the same series. ``similar_sibling_days``: of the same product in other stores; where
        there are none, of other products of the same store with a price as far from their usual one. Both Int64.
        """
        asked = self._asked(rows)
        series, product = (self._count(asked, kind, "price") for kind in ("series", "product"))
        store, own = (self._count(asked, kind, "relative") for kind in ("store", "own"))
        elsewhere = product - series
        siblings = np.where(elsewhere > 0, elsewhere, store - own)
        return pl.DataFrame({"similar_days": series, "similar_sibling_days": siblings}).cast(pl.Int64)

    def _asked(self, rows: pl.DataFrame) -> pl.DataFrame:
        price = pl.col("price").cast(pl.Float64) if self.columns.price else pl.lit(None, pl.Float64)
        promoted = pl.col("promotion") > 0 if self.columns.promotion else pl.lit(False)
        asked = rows.select(*SERIES, price.alias("price"), promoted.fill_null(False).alias("promoted"))
        asked = asked.join(self._usual, on=SERIES, how="left", maintain_order="left")
        return asked.with_columns(relative=pl.col("price") / pl.col("usual"))

    def _count(self, asked: pl.DataFrame, kind: str, value: str) -> Array:
        return self.within(kind, self._group(asked, kind), about(asked[value].to_numpy()))

    def _group(self, asked: pl.DataFrame, kind: str) -> Array:
        groups = self._indexes[kind][0]
        keys = [name for name in groups.columns if name != "group"]
        return asked.join(groups, on=keys, how="left", maintain_order="left")["group"].fill_null(-1).to_numpy()

    def within(self, kind: str, group: Array, around: tuple[Array, Array]) -> Array:
        """Periods of each group at about this price: see :func:`about`."""
        _, counts, unpriced = self._indexes[kind]
        return counts.between(group, *around) + unpriced[group]

    def of_series(self, series: pl.DataFrame) -> SeriesSupport:
        """For questions about these series only, each by its position."""
        asked = [series.with_columns(promoted=pl.lit(promoted)) for promoted in (False, True)]
        groups = {kind: np.stack([self._group(rows, kind) for rows in asked], axis=1) for kind in self._indexes}
        ranges = self._with_ranges(series)
        return SeriesSupport(
            table=self,
            groups=groups,
            usual=series.join(self._usual, on=SERIES, how="left", maintain_order="left")["usual"].to_numpy(),
            low=ranges["low"].cast(pl.Float64).to_numpy(),
            high=ranges["high"].cast(pl.Float64).to_numpy(),
            never=(~ranges["ever"]).fill_null(False).to_numpy(),
        )

    # -- inputs outside the range seen

    @cached_property
    def _ranges(self) -> dict[str, pl.DataFrame]:
        """Price range and promotion of each series, and of each product for series that are new."""
        of = [
            pl.col("price").min().alias("low"),
            pl.col("price").max().alias("high"),
            pl.col("promoted").any().alias("ever"),
        ]
        return {"series": self._past.group_by(SERIES).agg(of), "product": self._past.group_by("product").agg(of)}

    def outside(self, rows: pl.DataFrame) -> pl.Series:
        """Per row the names of inputs that lie outside of what was seen.

        ``price`` beyond the lowest and highest of the series (a new series: of its product), ``promotion`` where none
        was seen there, a regressor beyond its range or with a value that never came. What is not known is not outside.
        """
        ranged = self._ranged(rows)
        masks = ranged.to_dict()
        for name, (low, high) in self.limits.items():
            masks[name] = ~rows[name].cast(pl.Float64).is_between(low, high)
        for name, words in self.words.items():
            masks[name] = ~rows[name].is_in(words.implode())
        if not masks:
            return pl.Series("outside", [[]] * rows.height, dtype=pl.List(pl.String))
        return words_of(pl.DataFrame(masks)).alias("outside")

    def _ranged(self, rows: pl.DataFrame) -> pl.DataFrame:
        asked = rows.select(*SERIES, *(name for name in ("price", "promotion") if getattr(self.columns, name)))
        asked = self._with_ranges(asked)
        masks = []
        if self.columns.price:
            inside = pl.col("price").cast(pl.Float64).is_between("low", "high")
            masks.append((~inside).alias("price"))
        if self.columns.promotion:
            masks.append(((pl.col("promotion") > 0) & ~pl.col("ever")).alias("promotion"))
        return asked.select(masks)

    def _with_ranges(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add ``low``, ``high`` and ``ever``: what counts as inside."""
        series, product = self._ranges["series"], self._ranges["product"]
        rows = rows.join(series, on=SERIES, how="left", maintain_order="left")
        rows = rows.join(product, on="product", how="left", maintain_order="left", suffix="_product")
        low, high, ever = (pl.coalesce(name, f"{name}_product") for name in ("low", "high", "ever"))
        return rows.with_columns(low=low * (1 - ROUNDING), high=high * (1 + ROUNDING), ever=ever)


@dataclass(frozen=True)
class SeriesSupport:
    """What a :class:`SupportTable` knows of some series, asked by their position and without a frame.

    ``groups``: kind of likeness -> series × (off, on promotion); ``usual``, ``low``, ``high``: prices; ``never``: no
    promotion was seen.
    """

    table: SupportTable
    groups: dict[str, Array]
    usual: Array
    low: Array
    high: Array
    never: Array

    def similar(self, number: Array, promoted: Array, price: Array) -> tuple[Array, Array]:
        """As :meth:`SupportTable.similar`: of the series itself, and of its siblings."""
        on = promoted.astype(np.intp)
        around = about(price)
        series, product = (self.table.within(k, self.groups[k][number, on], around) for k in ("series", "product"))
        elsewhere = product - series
        if (elsewhere > 0).all():  # mostly so, and then the other half need not be looked up
            return series, elsewhere
        around = about(price / self.usual[number])
        store, own = (self.table.within(k, self.groups[k][number, on], around) for k in ("store", "own"))
        return series, np.where(elsewhere > 0, elsewhere, store - own)

    def price_outside(self, number: Array, price: Array) -> Array:
        """Below the lowest or above the highest; what is not known is not outside."""
        return (price < self.low[number]) | (price > self.high[number])

    def promotion_outside(self, number: Array, promoted: Array) -> Array:
        """On promotion where none was seen."""
        return promoted & self.never[number]


def about(price: Array) -> tuple[Array, Array]:
    """From where to where a past price counts as the same; a NaN is like any."""
    low, high = price / (1 + SIMILAR_PRICE), price / (1 - SIMILAR_PRICE)
    anything = np.isnan(price)
    if anything.any():
        low, high = np.where(anything, -np.inf, low), np.where(anything, np.inf, high)
    return low, high


def words_of(flags: pl.DataFrame) -> pl.Series:
    """Per row the names of the columns that are true, in their order.

    Rows have few different combinations: each is put together once.

    Examples
    --------
    >>> words_of(pl.DataFrame({"a": [True, False, None], "b": [True, True, False]})).to_list()
    [['a', 'b'], ['b'], []]
    """
    if flags.width > MASK_BITS:
        return words_of(flags[:, :MASK_BITS]).list.concat(words_of(flags[:, MASK_BITS:]))
    bits = (pl.col(name).fill_null(False).cast(pl.Int64) * 2**at for at, name in enumerate(flags.columns))
    codes = flags.select(pl.sum_horizontal(bits)).to_series()
    different = codes.unique().sort()
    names = [[name for at, name in enumerate(flags.columns) if code >> at & 1] for code in different]
    words = pl.Series(names, dtype=pl.List(pl.String))
    return words.gather(different.search_sorted(codes))


def _limits(state: pl.DataFrame, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """The lowest and highest value that counts as seen."""
    found = {}
    for name in names:
        if state[name].count():
            low, high = float(state[name].min()), float(state[name].max())  # type: ignore[arg-type]
            margin = ROUNDING * max(abs(low), abs(high))
            found[name] = (low - margin, high + margin)
    return found


def _index(past: pl.DataFrame, keys: list[str], value: str) -> tuple[pl.DataFrame, Counts, Array]:
    keys = [*keys, "promoted"]
    groups = (
        past.select(keys)
        .unique(maintain_order=True)
        .with_row_index("group")
        .with_columns(pl.col("group").cast(pl.Int64))
    )
    found = past.select(*keys, value, "periods").join(groups, on=keys, how="left", maintain_order="left")
    priced = found.filter(pl.col(value).is_not_null())
    counts = Counts.of(*(priced[name].to_numpy() for name in ("group", value, "periods")))
    without = found.filter(pl.col(value).is_null()).group_by("group").agg(pl.col("periods").sum())
    unpriced = np.zeros(groups.height + 1, np.int64)  # the last one is for group -1
    unpriced[without["group"].to_numpy()] = without["periods"].to_numpy()
    return groups, counts, unpriced


def level(similar: int, siblings: int) -> Literal["ok", "thin", "none"]:
    """``ok`` from ``ENOUGH`` similar periods on; ``thin`` with fewer, or as many of siblings only; else ``none``."""
    if similar >= ENOUGH:
        return "ok"
    return "thin" if similar or siblings >= ENOUGH else "none"
