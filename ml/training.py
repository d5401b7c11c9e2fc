"""From a panel to feature tables, from tables to trained models and backtests.

Features are computed once per horizon block for the whole panel: a row's features look at sales up to ``block`` periods
before it, so any origin can be cut out of the same table and no fold sees what came after its origin.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.encoding import add_codes
from ml.features import (
    Columns,
    closed_mask,
    feature_names,
    history_features,
    known_features,
    to_matrix,
)
from ml.models import Array, Inputs, Model, train_model
from ml.records import Encoding, Frequency, Recipe
from ml.splits import Split, block_of

Progress = Callable[[str], None]


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


@dataclass(frozen=True)
class Table:
    """Model inputs and sales of one block. ``keys``: date, store, product, promotion per row; ``y`` in units."""

    block: int
    rows: Inputs
    y: Array
    keys: pl.DataFrame

    @property
    def date(self) -> Array:
        return self.keys["date"].to_numpy()


def build_table(data: Data, block: int, since: dt.date | None = None) -> Table:
    """Feature table of one block: every row with known sales on which the shop was open.

    ``since``: leave out rows before this date (their history still counts).
    """
    features = history_features(data.panel, block, data.frequency, data.columns)
    inputs = data.panel.drop("store", "product", "date")
    rows = pl.concat([features, inputs], how="horizontal")
    # Without any level (the first rows of all data) a share means nothing and would teach nonsense.
    keep = pl.col("sales").is_not_null() & pl.col("level").is_not_null() & ~closed_mask(data.columns)
    if since is not None:
        keep = keep & (pl.col("date") >= since)
    rows = add_codes(rows.filter(keep), data.encoding)
    rows = known_features(rows, data.frequency, data.columns, data.country)
    promotion = pl.col("promotion") if data.columns.promotion else pl.lit(0.0).alias("promotion")
    keys = rows.select("date", "store", "product", promotion)
    return Table(block, as_inputs(rows, data.names), rows["sales"].to_numpy().astype(np.float64), keys)


def as_inputs(rows: pl.DataFrame, names: list[str]) -> Inputs:
    """Model inputs of rows that carry all features."""
    units = (rows[n].cast(pl.Float64).to_numpy() for n in ("level", "seasonal_naive", "moving_average"))
    return Inputs(to_matrix(rows, names), *units)


def build_tables(data: Data, blocks: tuple[int, ...], since: dt.date | None = None) -> dict[int, Table]:
    return {block: build_table(data, block, since) for block in blocks}


def recency_weight(date: Array, origin: dt.date, half_life: float) -> Array:
    """1 at the origin, halved every ``half_life`` days; 0 means all rows count alike."""
    if not half_life:
        return np.ones(len(date))
    age = (np.datetime64(origin) - date).astype("timedelta64[D]").astype(np.float64)
    return np.exp2(-age / half_life)


def train_until(
    recipe: Recipe, data: Data, tables: dict[int, Table], origin: dt.date, *, limit: int | None = None
) -> Model:
    """Train a recipe on the rows up to ``origin``; ``limit`` samples at most that many rows per block (tuning)."""
    prepared = {}
    for block in recipe.blocks:
        table = tables[block]
        mask = table.date <= np.datetime64(origin)
        index = np.flatnonzero(mask)
        if limit and len(index) > limit:
            index = np.random.default_rng(recipe.seed).choice(index, limit, replace=False)
            index.sort()
        weight = recency_weight(table.date[index], origin, float(recipe.params.get("half_life", 0)))
        prepared[block] = (table.rows.take(index), table.y[index], weight)
    return train_model(recipe, data.names, prepared)


def test_rows(table: Table, split: Split, blocks: tuple[int, ...], frequency: Frequency) -> tuple[Array, Array]:
    """Indices of the rows of a fold that this block answers, and how many periods ahead each is."""
    days = 1 if frequency == "D" else 7
    ahead = (table.date - np.datetime64(split.origin)) / np.timedelta64(days, "D")
    inside = (ahead > 0) & (table.date <= np.datetime64(split.end))
    answering = np.array([block_of(int(a), blocks) for a in range(int(ahead[inside].max(initial=0)) + 1)] or [0])
    mine = np.zeros(len(inside), bool)
    mine[inside] = answering[ahead[inside].astype(int)] == table.block
    return np.flatnonzero(mine), ahead[mine].astype(int)


def backtest(
    recipes: dict[str, Recipe],
    data: Data,
    tables: dict[int, Table],
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
    blocks = next(iter(recipes.values())).blocks
    parts = []
    for number, split in enumerate(splits):
        models = {}
        for name, recipe in recipes.items():
            progress(f"fold {number + 1} of {len(splits)}: {name}")
            models[name] = train_until(recipe, data, tables, split.origin)
        for block in blocks:
            table = tables[block]
            index, ahead = test_rows(table, split, blocks, data.frequency)
            rows = table.rows.take(index)
            part = table.keys[index].with_columns(
                fold=pl.lit(number), origin=pl.lit(split.origin), ahead=ahead, block=pl.lit(block), y=table.y[index]
            )
            parts.append(part.with_columns(**{n: pl.Series(m.predict(block, rows)) for n, m in models.items()}))
    return pl.concat(parts)
