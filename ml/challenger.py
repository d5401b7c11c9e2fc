"""The steps of ``retrain_sales_model`` that make and judge a challenger: tune, backtest, train."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from ml.bundle import write_bundle
from ml.cleaning import BASE, step
from ml.context import Context, Json, log
from ml.errors import InputError
from ml.evaluation import evaluate
from ml.features import CHUNK_ROWS, KEY, Columns
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.lake import load_attributes, load_sales, read_snapshot
from ml.models import MONOTONE
from ml.promotion import TWIN
from ml.records import RETRAIN_DAG, Choice, Evaluation, Manifest, Recipe, Snapshot
from ml.registry import EVALUATION, IMPORTANCE, TRIALS
from ml.splits import Split, default_blocks, rolling_origins
from ml.studies import open_storage
from ml.succession import seed_of, trials_of
from ml.sums import Sums
from ml.training import Data, Progress, Rows, Table, Tables, backtest, train_until
from ml.tuning import SAMPLE, Trial, importance, score, tune, tuning_split

if TYPE_CHECKING:
    from distributed import Client

COMPARABLE = 0.5  # a champion that knows fewer of the stores or products is not the champion of this business
LEAST_ROWS = 28  # fewer before the fold that chooses, and neither trees nor a linear model know a month of weekdays
NAIVE: tuple[Literal["seasonal_naive"], Literal["moving_average"]] = ("seasonal_naive", "moving_average")
MONOTONE_COST = 0.01  # a larger error by up to this share is the price of what-if answers that are never upside down


TablesOf = Callable[[Data, tuple[int, ...], Rows], Mapping[int, Table]]


@contextmanager
def work_place(address: str) -> Iterator[TablesOf]:
    """Where feature tables are made and worked on: in this process, or on the Dask cluster at the address."""
    with cluster_at(address) as client:
        yield tables_on(client)


@contextmanager
def cluster_at(address: str) -> Iterator[Client | None]:
    """The Dask cluster at the address; None without an address."""
    if not address:
        yield None
        return
    from ml.cluster import cluster

    with cluster(address) as client:
        log.info("%d workers of the Dask cluster at %s do the work", len(client.nthreads()), address)
        yield client


def tables_on(client: Client | None) -> TablesOf:
    """What makes feature tables: on a cluster, or in this process."""
    if client is None:
        return Tables
    from ml.cluster import ClusterTables

    return partial(ClusterTables, client)


def tune_model(c: Context) -> Json:
    """Search parameters on a fold before the judged ones, and let linear and naive models race there too."""
    with work_place(c.settings.dask) as tables_of:
        return _tune(c, tables_of)


def _tune(c: Context, tables_of: TablesOf) -> Json:
    data, found = _data(c)
    blocks = default_blocks(found.horizon, found.frequency)
    splits = _splits(c, found)
    judge = tuning_split(splits[0], found.date_from, step(found.frequency) * found.horizon)
    tables = tables_of(data, blocks, _rows(c, data, judge))
    metric = c.option("metric", "wape")
    trials: list[Trial] = []
    weights: dict[str, float] = {}
    storage = open_storage(c.settings.database_url)
    rows = learnable_rows(tables, judge)
    if rows < LEAST_ROWS:
        recipe, errors = simple_race(blocks, data, tables, judge, metric)
    else:
        best, trials = tune(
            data, tables, judge, blocks=blocks, trials=trials_of(c), seed=seed_of(c), metric=metric,
            seconds=float(c.option("tune_seconds", c.settings.tuning_seconds)),
            progress=lambda text: log.info("%s", text),
            count=lambda done, of: c.progress("trial", min(done + 1, of), of, done / of),
            storage=storage, name=c.run_id, data_version=found.data_version,
        )  # fmt: skip
        weights = importance(storage, c.run_id, seed_of(c))
        best, known = _constrained(best, str(c.option("monotone", "auto")), data, tables, judge, metric)
        recipe, errors = race(best, data, tables, judge, metric, known)
    choice = choose(recipe, errors, str(metric), rows, found)
    c.put("recipe.json", recipe.model_dump())
    c.put("choice.json", choice.model_dump())
    history = [{"trial": t.number, metric: t.value, **t.params} for t in trials]
    metrics = {f"tuning_{metric}_{name}": value for name, value in errors.items()}
    texts = {TRIALS: json.dumps(history, indent=1), IMPORTANCE: json.dumps(weights, indent=1)}
    facts = {"kind": recipe.kind, "reason": choice.reason, **metrics}
    return c.logged(RETRAIN_DAG, facts, params=_params(recipe), metrics=metrics, texts=texts)


def learnable_rows(tables: Mapping[int, Table], judge: Split) -> int:
    """How many rows the block that has the fewest could learn from before the fold that chooses."""
    return min(tables[block].count(judge.origin) for block in tables)


def choose(recipe: Recipe, errors: dict[str, float], metric: str, rows: int, found: Snapshot) -> Choice:
    """Why this model answers, as facts that a page can put into words; also written to the log."""
    periods = (found.date_to - found.date_from) // step(found.frequency) + 1
    reason = "short" if rows < LEAST_ROWS else "trees" if recipe.kind == "xgboost" else "simpler"
    facts = {"kind": recipe.kind, "reason": reason, "metric": metric, "errors": errors, "rows": rows}
    choice = Choice.model_validate(facts | {"periods": periods, "frequency": found.frequency})
    seen = ", ".join(f"{kind} {error:.4f}" for kind, error in errors.items()) or "nothing to judge on"
    log.info("%s answers (%s): %d periods of history, %d rows to learn from; %s: %s",
             choice.kind, choice.reason, periods, rows, metric, seen)  # fmt: skip
    return choice


def _constrained(
    best: Recipe, monotone: str, data: Data, tables: Any, judge: Split, metric: Any
) -> tuple[Recipe, float | None]:
    """The recipe under the constraints asked for, and its error if that had to be known.

    ``auto`` puts them on price and promotion unless that costs accuracy. Raises InputError for a word that is none.
    """
    known = ("auto", *filter(None, MONOTONE))
    if monotone not in known:
        raise InputError(f"monotone is one of {', '.join(known)}, not {monotone!r}.", field="monotone")
    if monotone != "auto":
        return _with(best, monotone), None
    free, held = _with(best, "off"), _with(best, "price_promotion")
    if not (data.columns.price or data.columns.promotion):
        return free, None
    error = {r: _tried(recipe, data, tables, judge, metric) for r, recipe in (("free", free), ("held", held))}
    log.info("price and promotion free: %s %.4f, held to their way: %.4f", metric, error["free"], error["held"])
    taken = held if error["held"] <= error["free"] * (1 + MONOTONE_COST) else free
    return taken, error["held"] if taken is held else error["free"]


def _with(recipe: Recipe, monotone: str) -> Recipe:
    return recipe.model_copy(update={"params": recipe.params | {"monotone": monotone}})


def _tried(recipe: Recipe, data: Data, tables: Any, judge: Split, metric: Any) -> float:
    """A recipe's error as the trials of the tuning were judged."""
    tried = recipe.model_copy(update={"blocks": recipe.blocks[-1:]})
    return score(train_until(tried, data, tables, judge.origin, limit=SAMPLE), tables, judge, metric)


def race(
    best: Recipe, data: Data, tables: Any, judge: Split, metric: Any, known: float | None = None
) -> tuple[Recipe, dict[str, float]]:
    """The tuned trees against models that need less data, as the trials were judged. Ties go to the simpler.

    ``known``: the trees' error, where they have been trained for it already.
    """
    simple = [Recipe(kind=kind, blocks=best.blocks) for kind in (*NAIVE, "linear")]
    scores: dict[str, float] = {}
    for recipe in (*simple, best):
        given = known if recipe is best else None
        scores[recipe.kind] = _tried(recipe, data, tables, judge, metric) if given is None else given
        log.info("%s: %s %.4f", recipe.kind, metric, scores[recipe.kind])
    winner = min((*simple, best), key=lambda recipe: scores[recipe.kind])
    return winner, scores


def simple_race(
    blocks: tuple[int, ...], data: Data, tables: Any, judge: Split, metric: Any
) -> tuple[Recipe, dict[str, float]]:
    """Models that need no training, on the few rows of the fold that any block can answer; none: seasonal naive."""
    entered = [Recipe(kind=kind, blocks=blocks) for kind in NAIVE]
    if not any(tables[block].judged({}, judge, blocks).height for block in blocks):
        return entered[0], {}
    tried = (train_until(recipe, data, tables, judge.origin) for recipe in entered)
    scores = [(str(model.recipe.kind), score(model, tables, judge, metric)) for model in tried]
    errors = {kind: error for kind, error in scores if math.isfinite(error)}
    return min(entered, key=lambda recipe: errors.get(recipe.kind, math.inf)), errors


def backtest_models(c: Context) -> Json:
    """Challenger, champion's recipe, baselines: trained at each origin, judged on the same rows."""
    data, found = _data(c)
    recipes = _contestants(c)
    splits = _splits(c, found)
    blocks = recipes["challenger"].blocks
    with work_place(c.settings.dask) as tables_of:
        tables = tables_of(data, blocks, _rows(c, data, splits[0]))
        rows = backtest(recipes, data, tables, splits, _fold_progress(c, blocks, len(splits)))
        if "champion" in recipes:
            rows = with_twin(rows, recipes["challenger"], data, tables, splits)
    evaluation = evaluate(rows, list(recipes), found.data_version)
    evaluation = evaluation.model_copy(update={"choice": Choice.model_validate(c.json("choice.json"))})
    c.put("backtest.parquet", rows)
    c.put("evaluation.json", json.loads(evaluation.model_dump_json()))
    metrics = _metrics(evaluation)
    return c.logged(RETRAIN_DAG, metrics, metrics=metrics, texts={EVALUATION: evaluation.model_dump_json(indent=1)})


def with_twin(
    rows: pl.DataFrame, challenger: Recipe, data: Data, tables: Mapping[int, Table], splits: list[Split]
) -> pl.DataFrame:
    """The rows with what the challenger's recipe says under another seed, null before the newest fold.

    One fold is enough to tell how far seeds lie apart (see :func:`ml.promotion.noise_floor`). Not where rows are so
    many that seeds hardly matter and a table is built anew for each use, and not for a recipe that has no seed.
    """
    if challenger.kind != "xgboost" or data.panel.height > CHUNK_ROWS:
        return rows
    twin = {TWIN: challenger.model_copy(update={"seed": challenger.seed + 1})}
    seen = backtest(twin, data, tables, splits[-1:]).select([*KEY, TWIN])
    return rows.join(seen, on=KEY, how="left", maintain_order="left")


def _fold_progress(c: Context, blocks: tuple[int, ...], folds: int) -> Progress:
    """Counts the folds as :func:`ml.training.backtest` begins them: all of one block, then of the next."""
    begun = itertools.count()

    def tell(text: str) -> None:
        number = next(begun)
        log.info("%s", text)
        c.progress("fold", number % folds + 1, folds, number / (folds * len(blocks)), ahead=blocks[number // folds])

    return tell


def _contestants(c: Context) -> dict[str, Recipe]:
    """The champion takes part as its recipe, retrained at each origin: its bundle has seen the judged rows."""
    challenger = Recipe.model_validate(c.json("recipe.json"))
    trainable = c.json("choice.json")["reason"] != "short"
    recipes = {"challenger": challenger}
    champion = c.registry.alias("champion")
    if champion is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = c.registry.download(champion.version, Path(folder) / "bundle")
            manifest = Manifest.model_validate_json((path / "manifest.json").read_text())
        known = _share_known(manifest, read_snapshot(c.lake, c.json("snapshot.json")["data_version"]))
        if known >= COMPARABLE and (trainable or manifest.recipe.kind in NAIVE):
            # Under one seed equal recipes are equal, and others differ by what they are rather than by luck.
            same = {"blocks": challenger.blocks, "seed": challenger.seed}
            recipes["champion"] = manifest.recipe.model_copy(update=same)
        facts = {"version": champion.version, "data_version": manifest.data_version, "known": known}
        c.put("champion.json", facts)
    else:
        c.put("champion.json", {"version": None, "data_version": None, "known": 0.0})
    for kind in NAIVE:
        recipes[kind] = Recipe(kind=kind, blocks=challenger.blocks)
    if trainable and challenger.kind != "linear":
        recipes["linear"] = Recipe(kind="linear", blocks=challenger.blocks)
    return recipes


def _share_known(manifest: Manifest, found: Snapshot) -> float:
    """Share of the data's stores and products (the smaller of both) that the champion was trained on."""
    if manifest.frequency != found.frequency:
        return 0.0
    shares = []
    for name in ("store", "product"):
        now = set(found.encoding.categories[name])
        shares.append(len(now & set(manifest.encoding.categories[name])) / max(len(now), 1))
    return min(shares)


def train(c: Context) -> Json:
    """Train the challenger on everything, with intervals from the backtest, and register it as a bundle."""
    data, found = _data(c)
    recipe = Recipe.model_validate(c.json("recipe.json"))
    last = found.date_to
    with work_place(c.settings.dask) as tables_of:
        tables = tables_of(data, recipe.blocks, _rows(c, data, Split(last, last)))
        model = train_until(recipe, data, tables, last)
    rows = c.frame("backtest.parquet")
    intervals = Intervals.fit(rows["challenger"].to_numpy(), rows["y"].to_numpy(), rows["block"].to_numpy())
    state = tail_of(data.panel, found.frequency, found.horizon)
    evaluation = Evaluation.model_validate(c.json("evaluation.json"))
    with tempfile.TemporaryDirectory() as folder, c.registry.run(RETRAIN_DAG, c.run_id) as mlflow_run:
        path = Path(folder) / "bundle"
        made = write_bundle(
            path, _manifest(data, found, recipe), model, intervals, state, lambda b: Forecaster(b).golden_rows(),
            attributes=load_attributes(c.lake, found), sums=Sums.fit(rows), days=data.effects(last),
        )  # fmt: skip
        forecaster = Forecaster(made)
        example = forecaster.next_days([], [], 1).head(5).to_pandas()
        version = c.registry.register(mlflow_run, path, _tags(made.fingerprint, recipe, found, evaluation), example)
        kept = _recorded(c, version, made.fingerprint)
        c.registry.set_alias("challenger", version)
    c.put("challenger.json", {"version": version})
    return {"version": version, "kind": recipe.kind, "golden_difference": forecaster.check_golden(), "recorded": kept}


def _recorded(c: Context, version: str, fingerprint: str) -> bool:
    """Note the manifest's hash, that of the registered bundle: nothing else is ever loaded."""
    if c.store is None:
        return False
    c.store.record_bundle(version, c.registry.fingerprint(version) or fingerprint)
    return True


def _data(c: Context) -> tuple[Data, Snapshot]:
    found = read_snapshot(c.lake, c.json("snapshot.json")["data_version"])
    panel = load_sales(c.lake, found, (*BASE, *found.regressors, *found.static))
    columns = Columns.of(panel, found.regressors, found.closed_when, found.static)
    return Data(panel, found.frequency, columns, found.encoding, found.country), found


def _splits(c: Context, found: Snapshot) -> list[Split]:
    folds = int(c.option("folds", c.settings.backtest_folds))
    return rolling_origins(found.date_from, found.date_to, found.horizon, folds, found.frequency)


def _rows(c: Context, data: Data, first: Split) -> Rows:
    """The rows to learn from: by the option ``window_days``, and by how many a model takes."""
    days = c.option("window_days", None)
    since = first.end - dt.timedelta(days=int(days)) if days else None
    return Rows.learnable(data.panel, first.origin, since)


def _params(recipe: Recipe) -> Json:
    return {"kind": recipe.kind, "blocks": list(recipe.blocks), **recipe.params}


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, m in evaluation.overall.items():
        found |= {f"{name}_wape": m.wape, f"{name}_bias": m.bias, f"{name}_rmse": m.rmse}
        if m.rmspe is not None:
            found[f"{name}_rmspe"] = m.rmspe
        if m.pinball is not None:
            found[f"{name}_pinball"] = m.pinball
    found |= {f"challenger_coverage_{lv}": s for lv, s in evaluation.overall["challenger"].coverage.items()}
    return found


def _tags(fingerprint: str, recipe: Recipe, found: Snapshot, evaluation: Evaluation) -> dict[str, str]:
    mine = evaluation.overall["challenger"]
    tags = {
        "fingerprint": fingerprint,
        "kind": recipe.kind,
        "data_version": found.data_version,
        "trained_until": str(found.date_to),
        "metric.wape": f"{mine.wape:.6f}",
        "metric.bias": f"{mine.bias:.6f}",
        "metric.seasonal_naive_wape": f"{evaluation.overall['seasonal_naive'].wape:.6f}",
        **{f"metric.coverage_{level}": f"{share:.6f}" for level, share in mine.coverage.items()},
        **{f"param.{k}": str(v) for k, v in recipe.params.items()},
    }
    return tags


def _manifest(data: Data, found: Snapshot, recipe: Recipe) -> Manifest:
    used = [name for name in ("price", "promotion") if getattr(data.columns, name)]
    return Manifest(
        created_at=dt.datetime.now(dt.UTC),
        data_version=found.data_version,
        trained_until=found.date_to,
        frequency=found.frequency,
        horizon=found.horizon,
        unit=found.unit,
        country=found.country,
        recipe=recipe,
        features=tuple(data.names),
        regressors=found.regressors,
        static=found.static,
        derived=tuple(used),
        closed_when=found.closed_when,
        encoding=found.encoding,
        files={},
    )
