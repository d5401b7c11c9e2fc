"""From a panel to feature tables, from tables to trained models and backtests.

Features are computed once per horizon block for the whole panel: a row's features look at sales up to ``block`` periods
before it, so any origin can be cut out of the same table and no fold sees what came after its origin.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl

from ml.closures import closed_days, tells
from ml.dayeffects import DayEffects, Days
from ml.encoding import add_codes
from ml.features import (
    CHUNK_ROWS,
    DAY_EFFECT,
    Columns,
    GroupSales,
    by_store,
    closed_mask,
    feature_names,
    history_features,
    in_turn,
    known_features,
    to_matrix,
)
from ml.models import Array, Inputs, LocalSample, Model, Sample, train_model
from ml.records import Encoding, Frequency, Recipe
from ml.splits import Split, block_of

Progress = Callable[[str], None]
LINEAR_ROWS = 100_000  # a few hundred coefficients are settled long before; its dummies take 2 kB a row
MAX_ROWS = 3_500_000  # per block and model: about 1 GB of float32 and two minutes on two cores
CHANCE, CHANCES = 20_130, 1_000_000  # seed of the hash, and how finely a share is told


@dataclass(frozen=True)
class Data:
    """A panel with what is needed to read it."""

    panel: pl.DataFrame
    frequency: Frequency
    columns: Columns
    encoding: Encoding
    country: str

    @property
    def names(self) -> list[str]:
        return feature_names(self.frequency, self.columns)

    def effects(self, origin: dt.date) -> DayEffects | None:
        """What days do to sales, as learnt up to ``origin``: a model trained until then needs it to answer."""
        return self.days.effects(origin) if self.days else None

    @cached_property
    def days(self) -> Days | None:
        """What its days do to sales, as seen from any origin; weekly data has none."""
        return Days.of(self.panel, self.columns, self.country) if self.frequency == "D" else None

    def told(self) -> Data:
        """All but the panel: with it parts of the panel can be worked on elsewhere."""
        light = replace(self, panel=self.panel.clear())
        light.__dict__["days"] = self.days and self.days.told()
        return light


class Table(Protocol):
    """Model inputs and sales of one block, wherever they lie."""

    @property
    def block(self) -> int: ...

    def count(self, until: dt.date) -> int:
        """How many rows are no later than that."""
        ...

    def sample(self, recipe: Recipe, origin: dt.date, limit: int | None = None) -> Sample:
        """What a recipe learns from at an origin; ``limit``: so many rows, by chance."""
        ...

    def judged(self, models: Mapping[str, Model], split: Split, blocks: tuple[int, ...]) -> pl.DataFrame:
        """The rows of a fold that this block answers, with the forecasts of the models, in units.

        Returns
        -------
        ``date, store, product, promotion, origin, ahead, block, y`` and a column per model, in the order of the panel.
        """
        ...


@dataclass(frozen=True)
class LocalTable:
    """The table in this process. ``keys``: date, store, product, promotion per row; ``y`` in units.

    ``cells``: the day of each row in ``days``. The effect of a day is the one input that depends on the origin: ask
    :meth:`seen_from` for the inputs.
    """

    block: int
    rows: Inputs
    y: Array
    keys: pl.DataFrame
    names: list[str]
    cells: Array
    frequency: Frequency
    days: Days | None = None

    def seen_from(self, origin: dt.date) -> Inputs:
        """All rows, with the effects of their days as known at ``origin``: written into ``rows``, which is no copy."""
        if self.days is not None:
            self.rows.x[:, self.names.index(DAY_EFFECT)] = self.days.at(origin)[self.cells]
        return self.rows

    @property
    def date(self) -> Array:
        return self.keys["date"].to_numpy()

    def count(self, until: dt.date) -> int:
        return int((self.date <= np.datetime64(until)).sum())

    def sample(self, recipe: Recipe, origin: dt.date, limit: int | None = None) -> LocalSample:
        return self.taken(recipe, origin, chosen(recipe, self.count(origin), limit))

    def taken(self, recipe: Recipe, origin: dt.date, positions: Array | None) -> LocalSample:
        """Of the rows up to ``origin`` those at these positions; None: all."""
        index = np.flatnonzero(self.date <= np.datetime64(origin))
        index = index if positions is None else index[positions]
        weight = recency_weight(self.date[index], origin, float(recipe.params.get("half_life", 0)))
        rows = self.seen_from(origin)
        whole = len(index) == len(self.y)  # then no copy
        return LocalSample(self.block, rows if whole else rows.take(index), self.y[index], weight)

    def judged(self, models: Mapping[str, Model], split: Split, blocks: tuple[int, ...]) -> pl.DataFrame:
        index, ahead = test_rows(self, split, blocks)
        rows = self.seen_from(split.origin).take(index)
        part = self.keys[index].with_columns(
            origin=pl.lit(split.origin), ahead=ahead, block=pl.lit(self.block), y=self.y[index]
        )
        return part.with_columns(pl.Series(name, m.predict(self.block, rows)) for name, m in models.items())


def chosen(recipe: Recipe, count: int, limit: int | None) -> Array | None:
    """Positions of the rows that a recipe learns from, of so many; None: all."""
    if recipe.kind == "linear":
        limit = min(limit or LINEAR_ROWS, LINEAR_ROWS)
    if not limit or count <= limit:
        return None
    return np.sort(np.random.default_rng(recipe.seed).choice(count, limit, replace=False))


@dataclass(frozen=True)
class Rows:
    """Which rows of a panel a table holds: from ``since`` on, and of those up to ``until`` a ``share`` by chance.

    Chance is the hash of date, store and product: the same rows whatever part of a panel is looked at.
    """

    since: dt.date | None = None
    until: dt.date | None = None
    share: float = 1.0

    @classmethod
    def learnable(cls, panel: pl.DataFrame, origin: dt.date, since: dt.date | None = None) -> Rows:
        """What is learned from at ``origin``: of more than ``MAX_ROWS`` rows, that many."""
        before = panel.select(((pl.col("date") <= origin) & _since(since)).sum()).item()
        return cls(since, origin, MAX_ROWS / before) if before > MAX_ROWS else cls(since)

    @property
    def wanted(self) -> pl.Expr:
        """Rows of the panel with known sales that the table holds."""
        wanted = pl.col("sales").is_not_null() & _since(self.since)
        if self.until is None or self.share >= 1:
            return wanted
        chosen = pl.struct("store", "product", "date").hash(CHANCE) % CHANCES < int(self.share * CHANCES)
        return wanted & ((pl.col("date") > self.until) | chosen)


def _since(date: dt.date | None) -> pl.Expr:
    return pl.lit(True) if date is None else pl.col("date") >= date


def build_table(data: Data, block: int, rows: Rows = Rows(), groups: GroupSales | None = None) -> LocalTable:
    """Feature table of one block: the rows asked for on which the shop was open. All history counts.

    A large panel is worked on store by store, so that only the rows asked for are ever whole in memory. ``groups``: of
    this panel, if known.
    """
    groups = groups or GroupSales.of(data.panel, data.frequency, data.columns)
    parts = by_store(data.panel)
    if len(parts) == 1:
        return part_of_table(data, parts[0], groups, block, rows)
    groups.of_offset(block)  # once, before the parts ask for them side by side
    within = data.panel.select(rows.wanted.sum()).item()
    stack, keys = _Stack(within), []
    for table in in_turn(lambda part: part_of_table(data, part, groups, block, rows), parts):
        found = table.rows
        stack.add(table.y, table.cells, found.x, found.level, found.seasonal_naive, found.moving_average)
        keys.append(table.keys)
    y, cells, *arrays = stack.whole()
    return LocalTable(block, Inputs(*arrays), y, pl.concat(keys), data.names, cells, data.frequency, data.days)


class _Stack:
    """Arrays of parts, each laid once where it belongs: a large matrix is never held twice.

    ``most``: rows that may come; memory that no row is written to is never taken.
    """

    def __init__(self, most: int) -> None:
        self._most, self._height = most, 0
        self._arrays: tuple[Array, ...] = ()

    def add(self, *part: Array) -> None:
        self._arrays = self._arrays or tuple(np.empty((self._most, *a.shape[1:]), a.dtype) for a in part)
        for array, values in zip(self._arrays, part, strict=True):
            array[self._height : self._height + len(values)] = values
        self._height += len(part[0])

    def whole(self) -> tuple[Array, ...]:
        return tuple(array[: self._height] for array in self._arrays)


def part_of_table(data: Data, panel: pl.DataFrame, groups: GroupSales, block: int, wanted: Rows) -> LocalTable:
    """The table of some series: ``panel`` holds all periods of them, ``groups`` knows all series."""
    features = history_features(panel, block, data.frequency, data.columns, groups)
    if tells(data.columns.closed_when, data.frequency):
        panel = closed_days(panel, closed_mask(data.columns))
    rows = pl.concat([features, panel.drop("store", "product", "date")], how="horizontal")
    # Without any level (the first rows of all data) a share means nothing and would teach nonsense.
    keep = wanted.wanted & pl.col("level").is_not_null() & ~closed_mask(data.columns)
    rows = add_codes(rows.filter(keep), data.encoding)
    rows = known_features(rows, data.frequency, data.columns, data.country)
    rows = rows.with_columns(pl.lit(None, pl.Float32).alias(DAY_EFFECT))  # known only from an origin on
    cells = data.days.numbered(rows) if data.days else np.zeros(rows.height, np.uint32)
    promotion = pl.col("promotion") if data.columns.promotion else pl.lit(0.0).alias("promotion")
    keys = rows.select("date", "store", "product", promotion)
    y = rows["sales"].to_numpy().astype(np.float64)
    inputs = as_inputs(rows, data.names)
    return LocalTable(block, inputs, y, keys, data.names, cells, data.frequency, data.days)


def as_inputs(rows: pl.DataFrame, names: list[str]) -> Inputs:
    """Model inputs of rows that carry all features."""
    units = (rows[n].cast(pl.Float64).to_numpy() for n in ("level", "seasonal_naive", "moving_average"))
    return Inputs(to_matrix(rows, names), *units)


class Tables(Mapping[int, LocalTable]):
    """Feature tables by block, each built when it is asked for.

    Small ones are kept; of large ones only the last, so that a run over many rows holds one table at a time.
    """

    def __init__(self, data: Data, blocks: tuple[int, ...], rows: Rows = Rows()) -> None:
        self._data, self._blocks, self._rows = data, blocks, rows
        self._built: dict[int, LocalTable] = {}

    @cached_property
    def _groups(self) -> GroupSales:
        return GroupSales.of(self._data.panel, self._data.frequency, self._data.columns)

    def __getitem__(self, block: int) -> LocalTable:
        if block not in self._blocks:
            raise KeyError(block)
        if block not in self._built:
            if self._data.panel.height > CHUNK_ROWS:
                self._built.clear()
            self._built[block] = build_table(self._data, block, self._rows, self._groups)
        return self._built[block]

    def __iter__(self) -> Iterator[int]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


def recency_weight(date: Array, origin: dt.date, half_life: float) -> Array:
    """1 at the origin, halved every ``half_life`` days; 0 means all rows count alike."""
    if not half_life:
        return np.ones(len(date))
    age = (np.datetime64(origin) - date).astype("timedelta64[D]").astype(np.float64)
    return np.exp2(-age / half_life)


def train_until(
    recipe: Recipe, data: Data, tables: Mapping[int, Table], origin: dt.date, *, limit: int | None = None
) -> Model:
    """Train a recipe on a table's rows up to ``origin``; ``limit``: on so many of them per block, by chance."""
    return train_model(recipe, data.names, (tables[b].sample(recipe, origin, limit) for b in recipe.blocks))


def test_rows(table: LocalTable, split: Split, blocks: tuple[int, ...]) -> tuple[Array, Array]:
    """Indices of the rows of a fold that this block answers, and how many periods ahead each is."""
    days = 1 if table.frequency == "D" else 7
    ahead = (table.date - np.datetime64(split.origin)) / np.timedelta64(days, "D")
    inside = (ahead > 0) & (table.date <= np.datetime64(split.end))
    answering = np.array([block_of(int(a), blocks) for a in range(int(ahead[inside].max(initial=0)) + 1)] or [0])
    mine = np.zeros(len(inside), bool)
    mine[inside] = answering[ahead[inside].astype(int)] == table.block
    return np.flatnonzero(mine), ahead[mine].astype(int)


def backtest(
    recipes: dict[str, Recipe],
    data: Data,
    tables: Mapping[int, Table],
    splits: list[Split],
    progress: Progress = lambda _: None,
) -> pl.DataFrame:
    """Train every recipe at every origin and forecast the same rows, oldest fold first.

    Returns
    -------
    One row per judged period: ``fold, origin, date, store, product, promotion, ahead, block, y`` and a column per
    recipe name with its forecast, in units.
    """
    if len({recipe.blocks for recipe in recipes.values()}) != 1:
        raise ValueError("recipes of one backtest must share their horizon blocks")
    parts = []
    for block in next(iter(recipes.values())).blocks:  # one table at a time
        for number, split in enumerate(splits):
            progress(f"days up to {block} ahead, fold {number + 1} of {len(splits)}")
            parts.append(_judged(recipes, data, tables[block], split).with_columns(fold=pl.lit(number)))
    return pl.concat(parts).select("fold", pl.exclude("fold")).sort("fold", maintain_order=True)


def _judged(recipes: dict[str, Recipe], data: Data, table: Table, split: Split) -> pl.DataFrame:
    """Forecasts of every recipe for the rows of a fold that this table's block answers."""
    blocks, mine = next(iter(recipes.values())).blocks, {table.block: table}
    alone = {name: recipe.model_copy(update={"blocks": (table.block,)}) for name, recipe in recipes.items()}
    models = {name: train_until(recipe, data, mine, split.origin) for name, recipe in alone.items()}
    return table.judged(models, split, blocks)
