"""The measured parts of ``bench.engine``: each runs in a process of its own, so that its peak memory is its own.

``python -m bench.engine_parts PART SCRATCH`` prints one line of JSON: what the part returns and ``peak_gb``. Reading
the inputs is outside the clock, for ours and for the peers alike.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xgboost as xgb

from bench import plain
from bench.tables import manifest_of, peak_gb
from ml.bundle import DAYS, load_bundle, write_bundle
from ml.dayeffects import DayEffects
from ml.evaluation import wape
from ml.features import Columns
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.models import Inputs, Model, booster_params
from ml.records import Encoding, Recipe
from ml.splits import default_blocks
from ml.training import Data, LocalTable, Rows, Tables, build_table, recency_weight, train_until
from ml.tuning import known_good

HORIZON = 28
SAMPLE_PRODUCTS = 30  # of the check that both write the same features
SCORED_SAMPLE = 200_000  # rows that the scored trees have learned from: predicting takes as long as with all of them
ARRAYS = ("x", "level", "seasonal_naive", "moving_average")
EFFECTS = "effects.json"  # wall and processor seconds that learning the effects of days took
Result = dict[str, Any]


@dataclass(frozen=True)
class Scratch:
    """The panel of one run on disk, and what the parts leave for each other."""

    folder: Path

    @classmethod
    def write(cls, folder: Path, data: Data, trees: int | None, depth: int | None = None) -> Scratch:
        last: dt.date = data.panel["date"].max()  # type: ignore[assignment]
        facts = {
            "frequency": data.frequency,
            "columns": asdict(data.columns),
            "encoding": data.encoding.model_dump(),
            "country": data.country,
            "origin": str(last - dt.timedelta(days=HORIZON)),
            "sizes": {k: v for k, v in (("rounds", trees), ("max_depth", depth)) if v},
        }
        (folder / "data.json").write_text(json.dumps(facts))
        data.panel.write_parquet(folder / "panel.parquet")
        return cls(folder)

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "data.json").read_text())

    @property
    def origin(self) -> dt.date:
        return dt.date.fromisoformat(self.facts["origin"])

    def panel(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "panel.parquet")

    def past(self) -> Data:
        """What is known at the origin."""
        return self.data(self.panel().filter(pl.col("date") <= self.origin))

    def data(self, panel: pl.DataFrame) -> Data:
        facts = self.facts
        columns = Columns(**{k: _tuples(v) for k, v in facts["columns"].items()})
        return Data(panel, facts["frequency"], columns, Encoding.model_validate(facts["encoding"]), facts["country"])

    def recipe(self, rows: int, blocks: tuple[int, ...] = (HORIZON,)) -> Recipe:
        """Where every search starts; one objective, so that the peer is one call."""
        params = known_good("wape", rows) | {"objective": "tweedie"}
        return Recipe(kind="xgboost", params=params | self.facts["sizes"], blocks=blocks)

    def keep(self, table: LocalTable) -> None:
        for name in ARRAYS:
            np.save(self.folder / f"{name}.npy", getattr(table.rows, name))
        np.save(self.folder / "y.npy", table.y)
        table.keys.write_parquet(self.folder / "keys.parquet")

    def table(self) -> LocalTable:
        arrays = [np.load(self.folder / f"{name}.npy") for name in (*ARRAYS, "y")]
        keys = pl.read_parquet(self.folder / "keys.parquet")
        names = self.data(pl.DataFrame()).names
        # The effects of days are in it: without days to ask, they stay as they are.
        return LocalTable(HORIZON, Inputs(*arrays[:-1]), arrays[-1], keys, names, np.zeros(keys.height, np.uint32), "D")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


# ---------------------------------------------------------------- features


def check(scratch: Scratch) -> Result:
    """Largest relative difference between our features and the plain script's, on some products of all stores."""
    panel = scratch.panel()
    some = panel["product"].unique().sort().gather_every(max(1, panel["product"].n_unique() // SAMPLE_PRODUCTS))
    data = scratch.data(panel.filter(pl.col("product").is_in(some.implode())))
    data = replace(data, encoding=_encoding_of(data.panel, data.encoding))
    ours = build_table(data, HORIZON)
    known = pl.col("sales").is_not_null()
    x, level, y = plain.matrix(data.panel, HORIZON, data.names, data.country, wanted=known)
    if x.shape != ours.rows.x.shape or (np.isnan(x) != np.isnan(ours.rows.x)).any() or (y != ours.y).any():
        raise SystemExit("the plain script's rows or gaps differ from the product's: the two do not do the same work")
    return {"rows": len(y), "difference": max(_difference(ours.rows.x, x), _difference(ours.rows.level, level))}


def _encoding_of(panel: pl.DataFrame, encoding: Encoding) -> Encoding:
    categories = {n: tuple(panel[n].drop_nulls().unique().cast(pl.String).sort()) for n in encoding.categories}
    return encoding.model_copy(update={"categories": categories})


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.nanmax(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))))


def features_ours(scratch: Scratch) -> Result:
    data = scratch.past()
    rows = Rows.learnable(data.panel, scratch.origin)
    with _clock() as took:
        table = build_table(data, HORIZON, rows)
    with _clock() as effects:  # learnt, not a window: part of training, where the peer has nothing like it
        table.seen_from(scratch.origin)
    scratch.keep(table)
    (scratch.folder / EFFECTS).write_text(json.dumps(effects))
    return {
        "seconds": took[0],
        "cpu_seconds": took[1],
        "effects_seconds": effects[0],
        "rows": data.panel.height,
        "kept": len(table.y),
        "features": len(data.names),
    }


def features_plain(scratch: Scratch) -> Result:
    data = scratch.past()
    rows = Rows.learnable(data.panel, scratch.origin)
    with _clock() as took:
        x, _, _ = plain.matrix(data.panel, HORIZON, data.names, data.country, wanted=rows.wanted)
    return {"seconds": took[0], "cpu_seconds": took[1], "rows": data.panel.height, "kept": len(x)}


# ---------------------------------------------------------------- training


def train_ours(scratch: Scratch) -> Result:
    """From the table of ``features_ours`` to the trained model, with the time that the effects of days took there."""
    table, data = scratch.table(), scratch.data(pl.DataFrame())
    effects = json.loads((scratch.folder / EFFECTS).read_text())
    with _clock() as took:
        model = train_until(scratch.recipe(len(table.y)), data, {HORIZON: table}, scratch.origin)
    return {
        "seconds": took[0] + effects[0],
        "cpu_seconds": took[1] + effects[1],
        "rows": len(table.y),
        "check": _sum_of(model.predict(HORIZON, _first(table))),
    }


def train_raw(scratch: Scratch) -> Result:
    """The same matrix and the same parameters, by ``xgboost.train`` alone."""
    table, data = scratch.table(), scratch.data(pl.DataFrame())
    recipe = scratch.recipe(len(table.y))
    params = booster_params(recipe, "tweedie")
    x, y, margin = table.rows.x, table.y.astype(np.float32), np.log(table.rows.level).astype(np.float32)
    weight = recency_weight(table.date, scratch.origin, float(recipe.params["half_life"])).astype(np.float32)
    with _clock() as took:
        matrix = xgb.QuantileDMatrix(
            x, label=y, weight=weight, base_margin=margin, feature_names=data.names, max_bin=params["max_bin"]
        )
        booster = xgb.train(params, matrix, num_boost_round=int(recipe.params["rounds"]))
    first = _first(table)
    found = booster.inplace_predict(first.x, base_margin=margin[: len(first.x)], validate_features=False)
    return {"seconds": took[0], "cpu_seconds": took[1], "rows": len(y), "check": _sum_of(found)}


def _first(table: LocalTable) -> Inputs:
    return table.rows.take(np.arange(min(10_000, len(table.y))))


def _sum_of(values: np.ndarray) -> float:
    return float(values.astype(np.float64).sum())


# ---------------------------------------------------------------- scoring


def bundle(scratch: Scratch) -> Result:
    """A bundle to score with: the recipe's trees, on some of the rows."""
    table, data = scratch.table(), scratch.past()
    recipe = scratch.recipe(len(table.y))
    model = train_until(recipe, data, {HORIZON: table}, scratch.origin, limit=SCORED_SAMPLE)
    _bundled(scratch, data, recipe, model)
    return {"rows": min(len(table.y), SCORED_SAMPLE)}


def _bundled(scratch: Scratch, data: Data, recipe: Recipe, model: Model) -> None:
    manifest = manifest_of(data, recipe, HORIZON, scratch.origin)
    # Residuals of a backtest would cost hours; any bounds take the same time to look up.
    spread = Intervals.fit(np.ones(3000), np.arange(3000.0) % 7, np.resize(recipe.blocks, 3000))
    tail = tail_of(data.panel, data.frequency, HORIZON)
    write_bundle(
        scratch.folder / "bundle", manifest, model, spread, tail, lambda _: [], days=data.effects(scratch.origin)
    )


def _asked(scratch: Scratch, columns: Columns) -> pl.DataFrame:
    """The days after the origin, with all their inputs."""
    optional = [name for name in ("price", "promotion") if getattr(columns, name)]
    wanted = ["date", "store", "product", *optional, "holiday", *columns.regressors, *columns.text]
    known = pl.col("date") > scratch.origin, pl.col("sales").is_not_null()
    return scratch.panel().filter(*known).select(*wanted, "sales")


def score_ours(scratch: Scratch) -> Result:
    """The first answer at an origin prepares the history; later ones have it."""
    made = load_bundle(scratch.folder / "bundle")
    asked = _asked(scratch, scratch.data(pl.DataFrame()).columns).drop("sales")
    with _clock() as first:
        forecaster = Forecaster(made)
        found = forecaster.forecast(asked)
    with _clock() as later:
        forecaster.forecast(asked)
    check = _sum_of(found["prediction"].to_numpy())
    return {
        "seconds": first[0],
        "cpu_seconds": first[1],
        "later": later[0],
        "later_cpu": later[1],
        "rows": asked.height,
        "check": check,
    }


def score_plain(scratch: Scratch) -> Result:
    """Plain features of the same rows and XGBoost's own prediction: no bounds, no support, no warnings."""
    data = scratch.data(pl.DataFrame())
    booster = xgb.Booster(model_file=next((scratch.folder / "bundle").glob("*.ubj")))
    effects = DayEffects.from_json((scratch.folder / "bundle" / DAYS).read_text()).of
    panel, later = scratch.panel(), pl.col("date") > scratch.origin
    rows = panel.filter(~later | pl.col("sales").is_not_null())
    rows = rows.with_columns(sales=pl.when(~later).then("sales"))
    with _clock() as first:
        x, level, _ = plain.matrix(rows, HORIZON, data.names, data.country, wanted=later, effects=effects)
        with _clock() as again:
            margin = np.log(level).astype(np.float32)
            found = booster.inplace_predict(x, base_margin=margin, validate_features=False)
    return {
        "seconds": first[0],
        "cpu_seconds": first[1],
        "later": again[0],
        "later_cpu": again[1],
        "rows": len(x),
        "check": _sum_of(found),
    }


# ---------------------------------------------------------------- everything


class _Timed(Mapping[int, LocalTable]):
    """Tables that know how long it took to make them."""

    def __init__(self, tables: Mapping[int, LocalTable]) -> None:
        self._tables, self.seconds = tables, 0.0

    def __getitem__(self, block: int) -> LocalTable:
        with _clock() as took:
            found = self._tables[block]
        self.seconds += took[0]
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def whole(scratch: Scratch) -> Result:
    """Features, training without a search, and the forecast of the horizon, with the blocks that the product uses."""
    data, began = scratch.past(), time.perf_counter()
    blocks = default_blocks(HORIZON, data.frequency)
    recipe = scratch.recipe(data.panel.height, blocks)
    tables = _Timed(Tables(data, blocks, Rows.learnable(data.panel, scratch.origin)))
    with _clock() as training:
        model = train_until(recipe, data, tables, scratch.origin)
    features = tables.seconds
    del tables
    with _clock() as forecasting:
        _bundled(scratch, data, recipe, model)
        asked = _asked(scratch, data.columns)
        found = Forecaster(load_bundle(scratch.folder / "bundle")).forecast(asked.drop("sales"))
    return {
        "seconds": time.perf_counter() - began,
        "features_seconds": features,
        "training_seconds": training[0] - features,
        "forecast_seconds": forecasting[0],
        "rows": data.panel.height,
        "blocks": list(blocks),
        "wape": wape(asked["sales"].to_numpy().astype(np.float64), found["prediction"].to_numpy()),
    }


# ---------------------------------------------------------------- one process


PARTS: dict[str, Callable[[Scratch], Result]] = {
    part.__name__: part
    for part in (check, features_ours, features_plain, train_ours, train_raw, bundle, score_ours, score_plain, whole)
}


@contextmanager
def _clock() -> Iterator[list[float]]:
    """Wall and processor seconds of the block; the latter hold on a machine that others use too."""
    took: list[float] = []
    began, busy = time.perf_counter(), time.process_time()
    yield took
    took += [time.perf_counter() - began, time.process_time() - busy]


def main() -> None:
    name, folder = sys.argv[1:3]
    found = PARTS[name](Scratch(Path(folder)))
    print(json.dumps(found | {"peak_gb": peak_gb()}))


if __name__ == "__main__":
    main()
