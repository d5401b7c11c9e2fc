"""The product's own way from a panel to a forecast, without its services: race, backtest, training, bundle, answer.

``python -m bench.ours JOB_FOLDER`` is one method of :mod:`bench.accuracy`; :mod:`bench.forecast` learns the same way.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from bench.job import FACTS, FORECAST, FUTURE, past_of, read_job
from bench.tables import manifest_of, peak_gb
from ml.bundle import write_bundle
from ml.challenger import LEAST_ROWS, learnable_rows, race, simple_race
from ml.cleaning import step
from ml.features import CHUNK_ROWS, KEY
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.records import LEVELS, Recipe
from ml.splits import default_blocks, rolling_origins
from ml.training import Data, Progress, Rows, Tables, backtest, train_until
from ml.tuning import Metric, known_good, tune, tuning_split

FOLDS = 3
BOUNDS = tuple(f"{side}_{level}" for level in LEVELS for side in ("low", "high"))
TUNE_SECONDS = 900


@dataclass(frozen=True)
class Wish:
    """What a run may choose; the defaults are what a user gets without choosing."""

    metric: Metric = "wape"
    changes: Mapping[str, float | int | str] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    trials: int = 0


@dataclass(frozen=True)
class Learned:
    """A model that answers, and how it came to be. ``race``: error of each kind on the tuning fold; empty: not run."""

    forecaster: Forecaster
    recipe: Recipe
    race: dict[str, float]
    folds: int


def learn(
    data: Data,
    horizon: int,
    folder: Path,
    wish: Wish = Wish(),
    side: pl.DataFrame | None = None,
    progress: Progress = lambda _: None,
) -> Learned:
    """Choose, backtest and train on all rows of a panel, and write the bundle into ``folder``.

    As retraining does, with the recipe that a search starts with. On more than ``CHUNK_ROWS`` rows there is one fold
    and no race: a fold is then hundreds of thousands of residuals, and simple models have never won there.

    Parameters
    ----------
    horizon
        Periods to be forecast.
    side
        Side table of static attributes, for series that have not sold yet.

    Raises
    ------
    NotEnoughData
        Fewer than 14 periods.
    """
    first: dt.date = data.panel["date"].min()  # type: ignore[assignment]
    last: dt.date = data.panel["date"].max()  # type: ignore[assignment]
    large = data.panel.height > CHUNK_ROWS
    splits = rolling_origins(first, last, horizon, 1 if large else FOLDS, data.frequency)
    blocks = wish.blocks or default_blocks(horizon, data.frequency)
    recipe, errors = _chosen(data, blocks, horizon, splits[0], wish, large, progress)
    tables = Tables(data, blocks, Rows.learnable(data.panel, splits[0].origin))
    rows = backtest({"challenger": recipe}, data, tables, splits, progress)
    progress(f"training {recipe.kind} on everything up to {last!s}")
    model = train_until(recipe, data, tables, last)
    intervals = Intervals.fit(rows["challenger"].to_numpy(), rows["y"].to_numpy(), rows["block"].to_numpy())
    state = tail_of(data.panel, data.frequency, horizon)
    bundle = write_bundle(
        folder,
        manifest_of(data, recipe, horizon, last),
        model,
        intervals,
        state,
        lambda _: [],
        side,
        days=data.effects(last),
    )
    return Learned(Forecaster(bundle), recipe, errors, len(splits))


def _chosen(
    data: Data, blocks: tuple[int, ...], horizon: int, first: Any, wish: Wish, large: bool, progress: Progress
) -> tuple[Recipe, dict[str, float]]:
    """The recipe, and the race that it came out of."""
    judge = tuning_split(first, data.panel["date"].min(), step(data.frequency) * horizon)  # type: ignore[arg-type]
    tables = Tables(data, blocks, Rows.learnable(data.panel, judge.origin))
    if not large and learnable_rows(tables, judge) < LEAST_ROWS:
        return simple_race(blocks, data, tables, judge, wish.metric)
    best = Recipe(kind="xgboost", params=known_good(wish.metric, data.panel.height) | dict(wish.changes), blocks=blocks)
    if wish.trials:
        best, _ = tune(
            data, tables, judge, blocks=blocks, trials=wish.trials, seed=best.seed, metric=wish.metric,
            seconds=TUNE_SECONDS, progress=progress,
        )  # fmt: skip
    return (best, {}) if large else race(best, data, tables, judge, wish.metric)


def run(folder: Path, changes: dict[str, Any], blocks: tuple[int, ...]) -> None:
    """Answer a job; its clock starts when the past is read."""
    job = read_job(folder)
    data, future = past_of(folder, job), pl.read_parquet(folder / FUTURE).drop("closed")
    began = time.monotonic()
    wish = Wish("rmspe" if job.metric == "rmspe" else "wape", changes, blocks)
    found = learn(data, job.horizon, folder / "bundle", wish, progress=lambda text: print(f"  {text}", flush=True))
    trained = time.monotonic()
    answered = found.forecaster.forecast(future)
    facts = {
        "seconds": time.monotonic() - began,
        "forecast_seconds": time.monotonic() - trained,
        "peak_gb": peak_gb(),
        "kind": found.recipe.kind,
        "recipe": found.recipe.model_dump(),
        "race": found.race,
        "folds": found.folds,
        "features": len(data.names),
        "rows": data.panel.height,
        "note": f"{found.recipe.kind}, {len(data.names)} features, folds for the intervals: {found.folds}",
    }
    answered.select(*KEY, "prediction", *BOUNDS).write_parquet(folder / FORECAST)
    (folder / FACTS).write_text(json.dumps(facts, indent=1, default=str))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ours", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--changes", type=json.loads, default={}, help="JSON of parameters to change in the recipe")
    parser.add_argument("--blocks", type=json.loads, default=[], help="JSON list of horizon blocks")
    asked = parser.parse_args()
    run(asked.folder, asked.changes, tuple(asked.blocks))


if __name__ == "__main__":
    main()
