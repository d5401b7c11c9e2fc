"""The same work on many machines: feature tables, backtests, trees and large forecasts on a Dask cluster.

The panel stays with whoever asks; its series go to the workers in parts of like size, with what is known of all series
(:class:`ml.features.GroupSales`, the effects of days). A worker makes its part of a feature table with the very
function that makes a whole one, and keeps it. So features, baselines and the rows learned from are equal to the last
digit; trees are trained by ``xgboost.dask``, which sums histograms over workers, and differ from those of one machine
as those of another seed do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import xgboost as xgb
from dask import array as da
from dask import delayed
from distributed import Client, Future

from ml.cleaning import series_number
from ml.errors import ServiceDown
from ml.features import SERIES, GroupSales
from ml.forecasting import Forecaster
from ml.models import (
    LocalSample,
    Model,
    Trees,
    centre_factor,
    centre_sums,
    rounds_of,
    told_to_trees,
    training_params,
)
from ml.records import Recipe
from ml.splits import Split
from ml.training import Data, LocalTable, Rows, Table, chosen, part_of_table

PARTS_EACH = 3  # parts per worker: one that is slow does not hold up all
CONNECT_SECONDS = 10
EVERY = Rows()
Array = np.ndarray


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Client]:
    """The cluster whose scheduler listens at ``tcp://host:port``.

    Raises
    ------
    ServiceDown
        Nothing answers there, or it has no workers.
    """
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ServiceDown("dask", f"no scheduler answers at {address} ({error})") from error
    with client:
        if not client.nthreads():
            raise ServiceDown("dask", f"the scheduler at {address} has no workers")
        yield client


# ---------------------------------------------------------------- parts


def parts_of(panel: pl.DataFrame, count: int) -> list[pl.DataFrame]:
    """A panel in up to ``count`` parts of like many rows, in its order; no series is cut in two."""
    starts = panel.select((series_number().diff() > 0).fill_null(True).arg_true()).to_series().to_numpy()
    wanted = np.arange(count) * panel.height / count
    cuts = [*np.unique(starts[np.searchsorted(starts, wanted, "right") - 1]).tolist(), panel.height]
    return [panel.slice(begin, end - begin) for begin, end in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Placed:
    """A panel on the workers. ``told``: all that is known but the panel, on every worker."""

    client: Client
    data: Data
    parts: tuple[Future, ...]
    workers: tuple[str, ...]
    told: Future
    groups: Future

    @classmethod
    def of(cls, client: Client, data: Data) -> Placed:
        known = sorted(client.nthreads())
        frames = parts_of(data.panel, len(known) * PARTS_EACH)
        workers = tuple(known[k % len(known)] for k in range(len(frames)))
        parts = tuple(_scatter(client, frame, [at]) for frame, at in zip(frames, workers, strict=True))
        groups = GroupSales.of(data.panel, data.frequency, data.columns)
        return cls(client, data, parts, workers, _scatter(client, data.told()), _scatter(client, groups))

    def each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> tuple[Future, ...]:
        """The function of each part's values, on the worker that has the part."""
        return tuple(
            self.client.submit(function, *values, workers=[at], allow_other_workers=True, pure=False)
            for at, *values in zip(self.workers, *columns, strict=True)
        )

    def same(self, value: Any) -> list[Any]:
        """One value for each part."""
        return [value] * len(self.parts)


def _scatter(client: Client, value: Any, workers: list[str] | None = None) -> Future:
    # In a list: of a dict every value would be sent for itself, under its name, where others of that name lie.
    (sent,) = client.scatter([value], workers=workers, broadcast=workers is None, hash=False)
    return sent


def _gathered(client: Client, futures: Sequence[Future]) -> list[Any]:
    return client.gather(list(futures))


class ClusterTables(Mapping[int, Table]):
    """As :class:`ml.training.Tables`; the workers keep the parts of the last one."""

    def __init__(self, client: Client, data: Data, blocks: tuple[int, ...], rows: Rows = EVERY) -> None:
        self._placed, self._blocks, self._rows = Placed.of(client, data), blocks, rows
        self._last: ClusterTable | None = None

    def __getitem__(self, block: int) -> ClusterTable:
        if block not in self._blocks:
            raise KeyError(block)
        if self._last is None or self._last.block != block:
            self._last = None  # workers forget it before they make the next
            p = self._placed
            parts = p.each(
                part_of_table, p.same(p.told), p.parts, p.same(p.groups), p.same(block), p.same(self._rows)
            )  # fmt: skip
            self._last = ClusterTable(block, p, parts)
        return self._last

    def __iter__(self) -> Iterator[int]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


@dataclass(frozen=True)
class ClusterTable:
    """A table in parts on workers, in the order of the panel. Its methods are those of :class:`ml.training.Table`."""

    block: int
    placed: Placed
    parts: tuple[Future, ...]

    def counts(self, until: dt.date) -> list[int]:
        found = self.placed.each(LocalTable.count, self.parts, self.placed.same(until))
        return _gathered(self.placed.client, found)

    def count(self, until: dt.date) -> int:
        return sum(self.counts(until))

    def sample(self, recipe: Recipe, origin: dt.date, limit: int | None = None) -> ClusterSample:
        """The very rows that one machine takes: chance is thrown once, for all parts."""
        p, counts = self.placed, self.counts(origin)
        positions = chosen(recipe, sum(counts), limit)
        ends = np.cumsum(counts)
        mine = [
            None if positions is None else positions[(positions >= end - count) & (positions < end)] - (end - count)
            for end, count in zip(ends, counts, strict=True)
        ]
        rows = [count if taken is None else len(taken) for count, taken in zip(counts, mine, strict=True)]
        found = p.each(_sampled, self.parts, p.same(self._days(origin)), p.same(recipe), p.same(origin), mine)
        return ClusterSample(self.block, p, found, tuple(rows))

    def judged(self, models: Mapping[str, Model], split: Split, blocks: tuple[int, ...]) -> pl.DataFrame:
        p = self.placed
        sent = _scatter(p.client, dict(models))
        days = p.same(self._days(split.origin))
        found = p.each(_judged, self.parts, days, p.same(sent), p.same(split), p.same(blocks))
        return pl.concat(_gathered(p.client, found))

    def _days(self, origin: dt.date) -> Future | None:
        """What days do as known at ``origin``: learnt here, from the whole panel."""
        days = self.placed.data.days
        if days is None:
            return None
        return _scatter(self.placed.client, days.told(only=origin))


def _seen(table: LocalTable, days: Any) -> LocalTable:
    """The part with the effects of its days to be asked; what came over the network is not written to."""
    rows = table.rows if table.rows.x.flags.writeable else replace(table.rows, x=table.rows.x.copy())
    return replace(table, rows=rows, days=days)


def _sampled(table: LocalTable, days: Any, recipe: Recipe, origin: dt.date, positions: Array | None) -> LocalSample:
    return _seen(table, days).taken(recipe, origin, positions)


def _judged(
    table: LocalTable, days: Any, models: Mapping[str, Model], split: Split, blocks: tuple[int, ...]
) -> pl.DataFrame:
    return _seen(table, days).judged(models, split, blocks)


# ---------------------------------------------------------------- trees


@dataclass(frozen=True)
class ClusterSample:
    """Rows to learn from in parts on workers; ``counts``: how many each has."""

    block: int
    placed: Placed
    parts: tuple[Future, ...]
    counts: tuple[int, ...]

    def booster(self, recipe: Recipe, objective: str, names: list[str]) -> xgb.Booster:
        from xgboost import dask as spread

        client = self.placed.client
        x, label, weight, margin = self._arrays(objective, len(names))
        matrix = spread.DaskQuantileDMatrix(
            client, x, label, weight=weight, base_margin=margin, feature_names=names,
            max_bin=int(recipe.params["max_bin"]),
        )  # fmt: skip
        asked = training_params(recipe, objective, names)
        trained = spread.train(client, asked, matrix, rounds_of(recipe), verbose_eval=False)
        return trained["booster"]

    def _arrays(self, objective: str, width: int) -> tuple[Any, ...]:
        """Inputs, labels, weights and margins as Dask arrays, cut as the parts are; parts without rows are left out."""
        told = self.placed.each(_told, self.parts, self.placed.same(objective))
        some = [(future, count) for future, count in zip(told, self.counts, strict=True) if count]
        shapes: list[tuple[int, ...]] = [(width,), (), ()]
        shapes += [()] if objective in ("tweedie", "poisson") else []

        def array(k: int, rest: tuple[int, ...]) -> Any:
            values = (delayed(_item)(future, k) for future, _ in some)
            sizes = ((count, *rest) for _, count in some)
            return da.concatenate([da.from_delayed(v, s, np.float32) for v, s in zip(values, sizes, strict=True)])

        found = [array(k, rest) for k, rest in enumerate(shapes)]
        return (*found, *[None] * (4 - len(found)))

    def centred(self, trees: Trees, centre: str) -> float:
        p = self.placed
        found = p.each(_centred, self.parts, p.same(_scatter(p.client, trees)), p.same(centre))
        return centre_factor(_gathered(p.client, found))

    def gathered(self) -> LocalSample:
        parts: list[LocalSample] = _gathered(self.placed.client, self.parts)
        rows = type(parts[0].rows)(
            *(
                np.concatenate([getattr(part.rows, name) for part in parts])
                for name in ("x", "level", "seasonal_naive", "moving_average")
            )
        )
        y, weight = (np.concatenate([getattr(part, name) for part in parts]) for name in ("y", "weight"))
        return LocalSample(self.block, rows, y, weight)


def _told(sample: LocalSample, objective: str) -> tuple[Array | None, ...]:
    told = told_to_trees(objective, sample)
    return sample.rows.x, told.label, told.weight, told.margin


def _item(values: tuple[Any, ...], k: int) -> Any:
    return values[k]


def _centred(sample: LocalSample, trees: Trees, centre: str) -> tuple[float, float]:
    return centre_sums(centre, trees.predict(sample.rows), sample.rows.level, sample.y, sample.weight)


# ---------------------------------------------------------------- forecasts


def forecast(client: Client, forecaster: Forecaster, rows: pl.DataFrame) -> pl.DataFrame:
    """As :meth:`ml.forecasting.Forecaster.forecast`, for so many rows that it pays to send them out.

    What needs more than its own series' history (what has never sold, dates out of the horizon) is answered here.
    """
    rows = rows.with_row_index("_asked")
    # All rows of a series together: the days around a row tell something where shops close.
    usual = rows.with_columns(_usual=forecaster.usual(rows)).select(pl.col("_usual").all().over(SERIES)).to_series()
    found = [_answered_here(forecaster, rows.filter(~usual))]
    states = parts_of(forecaster.state.with_row_index("_at"), len(client.nthreads()) * PARTS_EACH)
    light, groups = _scatter(client, forecaster.told()), _scatter(client, forecaster.groups())
    futures = []
    for state in states:
        asked = rows.filter(usual).join(state.select(SERIES).unique(), on=SERIES, how="semi", maintain_order="left")
        if asked.height:
            futures.append(client.submit(_answered, light, groups, state["_at"][0], state.height, asked, pure=False))
    found += _gathered(client, futures)
    return pl.concat(part for part in found if part.height).sort("_asked").drop("_asked")


def _answered_here(forecaster: Forecaster, rows: pl.DataFrame) -> pl.DataFrame:
    return forecaster.forecast(rows).with_columns(rows["_asked"]) if rows.height else rows


def _answered(forecaster: Forecaster, groups: GroupSales, begin: int, height: int, rows: pl.DataFrame) -> pl.DataFrame:
    part = forecaster.of_series(forecaster.state.slice(begin, height), groups)
    return part.forecast(rows).with_columns(rows["_asked"])
