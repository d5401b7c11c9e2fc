"""The steps of both pipelines: JSON in, JSON out. A DAG task is one call; ``python -m ml.jobs`` needs no Airflow.

What one step hands to the next lies in the lake below ``runs/<run_id>/``, so every step can be retried or killed: it
reads what is there, writes whole objects, and a second time writes the same.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ml import sources
from ml.bundle import write_bundle
from ml.cleaning import BASE, KEY, Panel, make_panel, merge, step
from ml.encoding import encode, fit_encoding
from ml.errors import ControlRoomError, InputError, ServiceDown
from ml.evaluation import evaluate
from ml.features import Columns
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.lake import Lake, load_sales, open_lake, publish, read_snapshot, require_snapshot
from ml.promotion import decide
from ml.records import ETL_DAG, RETRAIN_DAG, Decision, Evaluation, Manifest, ModelInfo, Recipe, Snapshot
from ml.registry import DECISION, EVALUATION, Registry
from ml.settings import Settings, load_settings
from ml.splits import Split, default_blocks, rolling_origins
from ml.store import Store
from ml.training import Data, backtest, build_tables, train_until
from ml.tuning import score, tune, tuning_split

log = logging.getLogger("ml.jobs")
Json = dict[str, Any]
CONFIRM_SECONDS = 90
COMPARABLE = 0.5  # a champion that knows fewer of the stores or products is not the champion of this business
TUNE_SECONDS = 900
UNITS = {"D": "units/day", "W": "units/week"}


@dataclass(frozen=True)
class Context:
    """The services of one run. Without a database URL there is no prediction log and no audit (command line only)."""

    settings: Settings
    run_id: str
    conf: Json

    @cached_property
    def lake(self) -> Lake:
        return open_lake(self.settings.lake_url)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.settings.mlflow_url or self.settings.mlflow)

    @cached_property
    def store(self) -> Store | None:
        if not self.settings.database_url:
            log.warning("No CONTROL_ROOM_DATABASE_URL: actuals and the audit of promotions are not written.")
            return None
        store = Store(self.settings.database_url)
        store.migrate()
        return store

    def key(self, name: str) -> str:
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.run_id)
        return f"runs/{safe}/{name}"

    def put(self, name: str, value: Any) -> None:
        if isinstance(value, pl.DataFrame):
            self.lake.put_frame(self.key(name), value)
        else:
            self.lake.put_json(self.key(name), value)

    def frame(self, name: str) -> pl.DataFrame:
        return self.lake.get_frame(self.key(name))

    def json(self, name: str) -> Any:
        return self.lake.get_json(self.key(name))

    def option(self, name: str, default: Any) -> Any:
        value = self.conf.get(name)
        return default if value in (None, "") else value


# ---------------------------------------------------------------- process_etl_sales_data


def collect(c: Context) -> Json:
    """Bring the raw data of this run into the lake and name the uploads it uses."""
    source = str(c.option("source", "uploads"))
    today = dt.datetime.now(dt.UTC).date()
    if source in ("demo", "demo_next_week"):
        sources.add_demo(c.lake, next_week=source != "demo", scale=c.settings.demo_scale, today=today)
        wanted = [sources.DEMO] if source == "demo" else []
    elif source != "uploads":
        added = sources.add_file(c.lake, c.store, source, list(c.option("regressors", [])), c.settings.upload_limit_mb)
        wanted = [added] if c.option("only_this", False) else []
    else:
        wanted = list(c.option("uploads", []))
    uploads = sources.accepted_uploads(c.lake, c.store, wanted)
    if not uploads:
        raise InputError("No upload has been accepted yet: upload a file and accept it, then run this again.")
    c.put("collect.json", {"uploads": uploads})
    return _etl_logged(c, {"uploads": uploads}, params={"source": source, "uploads": ", ".join(uploads)})


def validate(c: Context) -> Json:
    """Merge the accepted rows (later uploads win) and count what was left out of them."""
    uploads = c.json("collect.json")["uploads"]
    frames = [c.lake.get_frame(f"accepted/{upload_id}.parquet") for upload_id in uploads]
    merged, notes = merge(frames, uploads)
    rejected = sources.rejected_rows(c.lake, uploads)
    c.put("merged.parquet", merged)
    c.put("rejected.parquet", rejected)
    counts = {"rows_in": sum(f.height for f in frames), "rows_merged": merged.height, "rows_rejected": rejected.height}
    c.put("validate.json", {"notes": notes, **counts})
    texts = {"rejected.csv": rejected.head(10_000).write_csv()} if rejected.height else {}
    return _etl_logged(c, counts, metrics=counts, texts=texts)


def clean(c: Context) -> Json:
    """Make the regular panel: frequency, periods without a row, inputs, closing days."""
    panel = make_panel(
        c.frame("merged.parquet"),
        country=str(c.option("country", c.settings.country)).upper(),
        missing_days=c.option("missing_days", c.settings.missing_days),
    )
    c.put("panel.parquet", panel.frame)
    facts = {k: v for k, v in panel.__dict__.items() if k != "frame"}
    c.put("panel.json", facts)
    counts = {"rows_clean": panel.frame.height, "rows_filled": panel.rows_filled}
    for note in panel.decisions:
        log.info("%s", note)
    params = {"frequency": panel.frequency, "missing_days": panel.missing_days}
    return _etl_logged(c, {**counts, **params}, metrics=counts, params=params)


def split(c: Context) -> Json:
    """Split train and test in time; fit categories and standardisation on train only and encode both."""
    panel = _panel(c)
    horizon = _horizon(c.settings, panel.frequency)
    first, last = _span(panel.frame)
    folds = int(c.option("test_folds", c.settings.backtest_folds))
    origin = rolling_origins(first, last, horizon, folds, panel.frequency)[0].origin
    frame = _with_weekday(panel.frame, panel.frequency)
    train, test = frame.filter(pl.col("date") <= origin), frame.filter(pl.col("date") > origin)
    text = [n for n in panel.regressors if not frame.schema[n].is_numeric()]
    numeric = [n for n in frame.columns if frame.schema[n].is_numeric() and n not in ("sales", "weekday")]
    categorical = ["store", "product", *(["weekday"] if panel.frequency == "D" else []), *text]
    encoding = fit_encoding(train.with_columns(pl.col("weekday").cast(pl.String)), categorical, numeric)
    for name, part in (("train", train), ("test", test)):
        c.put(f"{name}.parquet", encode(part.with_columns(pl.col("weekday").cast(pl.String)), encoding).sort(KEY))
    c.put("series.parquet", _series(panel.frame))
    counts = {"rows_train": train.height, "rows_test": test.height}
    c.put("split.json", {"split_date": origin, "horizon": horizon, "encoding": encoding.model_dump(), **counts})
    return _etl_logged(c, {"split_date": str(origin), **counts}, metrics=counts, params={"split_date": origin})


def publish_snapshot(c: Context) -> Json:
    """Write the snapshot under its content hash, move the pointer, record actuals: only now is the data new."""
    snapshot = _snapshot(c)
    folder = f"snapshots/{snapshot.data_version}"
    for name in snapshot.files:
        c.lake.put(f"{folder}/{name}", c.lake.get(c.key(name)))
    publish(c.lake, snapshot)
    if c.store is not None:
        sold = c.frame("panel.parquet").filter(pl.col("sales").is_not_null())
        changed = c.store.upsert_actuals(sold, snapshot.data_version)
        log.info("%d actuals are new or corrected", changed)
        c.store.set_upload_status(list(snapshot.sources), "processed", snapshot.data_version)
    result = {"data_version": snapshot.data_version, "rows": snapshot.rows, "date_to": str(snapshot.date_to)}
    texts = {"data.json": snapshot.model_dump_json(indent=1)}
    return _etl_logged(c, result, params=result, texts=texts, finish=True)


def _etl_logged(c: Context, result: Json, *, finish: bool = False, **what: Any) -> Json:
    with c.registry.run(ETL_DAG, c.run_id, finish=finish) as mlflow_run:
        c.registry.log(mlflow_run, **what)
    return result


def _panel(c: Context) -> Panel:
    facts = c.json("panel.json")
    facts["regressors"], facts["decisions"] = tuple(facts["regressors"]), tuple(facts["decisions"])
    return Panel(frame=c.frame("panel.parquet"), **facts)


def _span(frame: pl.DataFrame) -> tuple[dt.date, dt.date]:
    return frame["date"].min(), frame["date"].max()  # type: ignore[return-value]


def _horizon(settings: Settings, frequency: str) -> int:
    return settings.horizon_days if frequency == "D" else settings.horizon_weeks


def _with_weekday(frame: pl.DataFrame, frequency: str) -> pl.DataFrame:
    return frame.with_columns(weekday=pl.col("date").dt.weekday())


def _series(frame: pl.DataFrame) -> pl.DataFrame:
    price = pl.col("price").last() if "price" in frame.columns else pl.lit(None, pl.Float64)
    known = frame.filter(pl.col("sales").is_not_null())
    return known.group_by("store", "product", maintain_order=True).agg(
        date_from=pl.col("date").min(),
        date_to=pl.col("date").max(),
        rows=pl.len().cast(pl.Int64),
        mean_sales=pl.col("sales").mean(),
        last_price=price.alias("last_price"),
    )


def _snapshot(c: Context) -> Snapshot:
    panel, parts, checks = _panel(c), c.json("split.json"), c.json("validate.json")
    files = {
        name: hashlib.sha256(c.lake.get(c.key(name))).hexdigest()
        for name in ("train.parquet", "test.parquet", "series.parquet")
    }
    frame = c.frame("train.parquet")
    first, last = _span(panel.frame)
    country = str(c.option("country", c.settings.country)).upper()
    version = hashlib.sha256(json.dumps([files, country, parts["horizon"]], sort_keys=True).encode()).hexdigest()[:16]
    return Snapshot(
        data_version=version,
        created_at=dt.datetime.now(dt.UTC),
        frequency=panel.frequency,
        horizon=parts["horizon"],
        unit=UNITS[panel.frequency],
        rows=panel.frame.height,
        rows_train=parts["rows_train"],
        rows_test=parts["rows_test"],
        rows_rejected=checks["rows_rejected"],
        rows_filled=panel.rows_filled,
        stores=panel.frame["store"].n_unique(),
        products=panel.frame["product"].n_unique(),
        series=panel.frame.select("store", "product").n_unique(),
        date_from=first,
        date_to=last,
        split_date=parts["split_date"],
        country=country,
        columns={name: str(dtype) for name, dtype in frame.schema.items()},
        regressors=panel.regressors,
        derived=tuple(name for name in frame.columns if name not in (*BASE, *panel.regressors)),
        closed_when=panel.closed_when,
        missing_days=panel.missing_days,
        encoding=parts["encoding"],
        sources=tuple(c.json("collect.json")["uploads"]),
        decisions=(*checks["notes"], *panel.decisions, f"train up to {parts['split_date']}, test after it"),
        files=files,
    )


# ---------------------------------------------------------------- retrain_sales_model


def snapshot(c: Context) -> Json:
    """Fix which data this run uses: the published snapshot of now, whatever is published meanwhile."""
    found = require_snapshot(c.lake, c.conf.get("data_version"))
    c.put("snapshot.json", {"data_version": found.data_version})
    facts = {"data_version": found.data_version, "rows": found.rows, "date_to": str(found.date_to)}
    return _logged(c, facts, params=facts | {"seed": _seed(c), "trials": _trials(c)})


def tune_model(c: Context) -> Json:
    """Search parameters on a fold before the judged ones, and let linear and naive models race there too."""
    data, found = _data(c)
    blocks = default_blocks(found.horizon, found.frequency)
    splits = _splits(c, found)
    first, _ = _span(data.panel)
    judge = tuning_split(splits[0], first, step(found.frequency) * found.horizon)
    tables = build_tables(data, blocks, _since(c, judge.end))
    metric = c.option("metric", "wape")
    best, trials = tune(
        data, tables, judge, blocks=blocks, trials=_trials(c), seed=_seed(c), metric=metric,
        seconds=TUNE_SECONDS, progress=lambda text: log.info("%s", text),
    )  # fmt: skip
    recipe, race = _race(best, data, tables, judge, metric)
    c.put("recipe.json", recipe.model_dump())
    history = [{"trial": t.number, metric: t.value, **t.params} for t in trials]
    metrics = {f"tuning_{metric}_{name}": value for name, value in race.items()}
    texts = {"tuning.json": json.dumps(history, indent=1)}
    return _logged(c, {"kind": recipe.kind, **metrics}, params=_params(recipe), metrics=metrics, texts=texts)


def _race(best: Recipe, data: Data, tables: Any, judge: Split, metric: Any) -> tuple[Recipe, dict[str, float]]:
    """The tuned trees against models that need less data; each trained on the same rows. Ties go to the simpler."""
    simple = [Recipe(kind=kind, blocks=best.blocks) for kind in ("seasonal_naive", "moving_average", "linear")]
    scores: dict[str, float] = {}
    for recipe in (*simple, best):
        scores[recipe.kind] = score(train_until(recipe, data, tables, judge.origin), data, tables, judge, metric)
        log.info("%s: %s %.4f", recipe.kind, metric, scores[recipe.kind])
    winner = min((*simple, best), key=lambda recipe: scores[recipe.kind])
    return winner, scores


def backtest_models(c: Context) -> Json:
    """Challenger, champion's recipe, baselines: trained at each origin, judged on the same rows."""
    data, found = _data(c)
    recipes = _contestants(c)
    splits = _splits(c, found)
    blocks = recipes["challenger"].blocks
    tables = build_tables(data, blocks, _since(c, splits[-1].end))
    rows = backtest(recipes, data, tables, splits, lambda text: log.info("%s", text))
    evaluation = evaluate(rows, list(recipes), found.data_version)
    c.put("backtest.parquet", rows)
    c.put("evaluation.json", json.loads(evaluation.model_dump_json()))
    metrics = _metrics(evaluation)
    return _logged(c, metrics, metrics=metrics, texts={EVALUATION: evaluation.model_dump_json(indent=1)})


def _contestants(c: Context) -> dict[str, Recipe]:
    """The champion takes part as its recipe, retrained at each origin: its bundle has seen the judged rows."""
    challenger = Recipe.model_validate(c.json("recipe.json"))
    recipes = {"challenger": challenger}
    champion = c.registry.alias("champion")
    if champion is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = c.registry.download(champion.version, Path(folder) / "bundle")
            manifest = Manifest.model_validate_json((path / "manifest.json").read_text())
        known = _share_known(manifest, read_snapshot(c.lake, c.json("snapshot.json")["data_version"]))
        if known >= COMPARABLE:
            recipes["champion"] = manifest.recipe.model_copy(update={"blocks": challenger.blocks})
        facts = {"version": champion.version, "data_version": manifest.data_version, "known": known}
        c.put("champion.json", facts)
    else:
        c.put("champion.json", {"version": None, "data_version": None, "known": 0.0})
    baselines: tuple[Literal["seasonal_naive", "moving_average"], ...] = ("seasonal_naive", "moving_average")
    for kind in baselines:
        recipes[kind] = Recipe(kind=kind, blocks=challenger.blocks)
    if challenger.kind != "linear":
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
    _, last = _span(data.panel)
    model = train_until(recipe, data, build_tables(data, recipe.blocks, _since(c, last)), last)
    rows = c.frame("backtest.parquet")
    intervals = Intervals.fit(rows["challenger"].to_numpy(), rows["y"].to_numpy(), rows["block"].to_numpy())
    state = tail_of(data.panel.select(_state_columns(data)), found.frequency, found.horizon)
    evaluation = Evaluation.model_validate(c.json("evaluation.json"))
    with tempfile.TemporaryDirectory() as folder, c.registry.run(RETRAIN_DAG, c.run_id) as mlflow_run:
        path = Path(folder) / "bundle"
        made = write_bundle(
            path, _manifest(data, found, recipe), model, intervals, state, lambda b: Forecaster(b).golden_rows()
        )
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


def decide_promotion(c: Context) -> Json:
    """Put the evidence before the gate."""
    rows, champion = c.frame("backtest.parquet"), c.json("champion.json")
    decision = decide(
        rows,
        Evaluation.model_validate(c.json("evaluation.json")),
        same_data=champion["data_version"] == c.json("snapshot.json")["data_version"],
        challenger=Recipe.model_validate(c.json("recipe.json")),
        foreign=champion["known"] if champion["version"] else None,
        policy=c.option("policy", c.settings.promotion_policy),
    )
    version = c.json("challenger.json")["version"]
    c.put("decision.json", json.loads(decision.model_dump_json()))
    c.registry.tag(version, verdict=decision.verdict)
    log.info("%s", decision.reason)
    facts = {"verdict": decision.verdict, "promote": decision.promote, "reason": decision.reason}
    gain = {"gain": decision.gain} if decision.gain is not None else {}
    texts = {DECISION: decision.model_dump_json(indent=1)}
    return _logged(c, facts, metrics=gain, tags={"verdict": decision.verdict}, texts=texts)


def promote(c: Context) -> Json:
    """Move the champion alias if the gate says so, under the database's lock and with one audit row."""
    decision = Decision.model_validate(c.json("decision.json"))
    version, previous = c.json("challenger.json")["version"], c.json("champion.json")["version"]
    if not decision.promote:
        waiting = "; a manager can promote it in the console" if decision.needs_approval else ""
        return _logged(c, {"promoted": None, "champion": previous, "note": decision.reason + waiting}, finish=True)

    def move() -> None:
        c.registry.set_alias("champion", version)

    if c.store is None:
        move()
    else:
        reason = decision.reason
        c.store.promote(
            version, expected_previous=previous, actor=RETRAIN_DAG, reason=reason, decision=decision, move=move
        )
    c.registry.drop_alias("challenger")
    return _logged(c, {"promoted": version, "champion": version, "note": decision.reason}, finish=True)


def confirm(c: Context) -> Json:
    """Wait until the API serves the champion and its golden rows agree."""
    champion = c.registry.alias("champion")
    if champion is None:
        return {"confirmed": False, "note": "There is no champion."}
    return _confirmed(c.settings, champion)


def _confirmed(settings: Settings, champion: ModelInfo) -> Json:
    import requests

    end = time.monotonic() + CONFIRM_SECONDS
    seen = "nothing"
    reached = False
    while time.monotonic() < end:
        try:
            health = requests.get(f"{settings.api}/health", timeout=5).json()
            reached = True
            served = health.get("champion") or {}
            seen = str(served.get("version"))
            if seen == champion.version:
                return {"confirmed": True, "version": seen, "parity": health.get("parity")}
        except (requests.RequestException, ValueError) as error:
            seen = type(error).__name__
            if not reached and end - time.monotonic() < CONFIRM_SECONDS - 10:
                return {"confirmed": False, "note": f"The API does not answer ({seen}); it will load it at its start."}
        time.sleep(1)
    raise ServiceDown("api", f"serves version {seen} instead of {champion.version} after {CONFIRM_SECONDS} s")


def _logged(c: Context, result: Json, *, finish: bool = False, **what: Any) -> Json:
    with c.registry.run(RETRAIN_DAG, c.run_id, finish=finish) as mlflow_run:
        c.registry.log(mlflow_run, **what)
    return result


def _data(c: Context) -> tuple[Data, Snapshot]:
    found = read_snapshot(c.lake, c.json("snapshot.json")["data_version"])
    frame = load_sales(c.lake, found)
    panel = frame.select([n for n in frame.columns if n in (*BASE, *found.regressors)])
    columns = Columns.of(panel, found.regressors, found.closed_when)
    return Data(panel, found.frequency, columns, found.encoding, found.country), found


def _state_columns(data: Data) -> list[str]:
    return [n for n in data.panel.columns if n in (*BASE, *data.columns.regressors, *data.columns.text)]


def _splits(c: Context, found: Snapshot) -> list[Split]:
    folds = int(c.option("folds", c.settings.backtest_folds))
    return rolling_origins(found.date_from, found.date_to, found.horizon, folds, found.frequency)


def _since(c: Context, origin: dt.date) -> dt.date | None:
    days = c.option("window_days", None)
    return origin - dt.timedelta(days=int(days)) if days else None


def _seed(c: Context) -> int:
    """Another run is another throw: the seed follows from the run's id unless it is given."""
    given = c.conf.get("seed")
    return int(given) if given is not None else int(hashlib.sha256(c.run_id.encode()).hexdigest()[:6], 16)


def _trials(c: Context) -> int:
    return int(c.option("trials", c.settings.tuning_trials))


def _params(recipe: Recipe) -> Json:
    return {"kind": recipe.kind, "blocks": list(recipe.blocks), **recipe.params}


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, m in evaluation.overall.items():
        found |= {f"{name}_wape": m.wape, f"{name}_bias": m.bias, f"{name}_rmse": m.rmse}
        if m.rmspe is not None:
            found[f"{name}_rmspe"] = m.rmspe
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
        derived=tuple(used),
        closed_when=found.closed_when,
        encoding=found.encoding,
        files={},
    )


# ---------------------------------------------------------------- running them

STEPS: dict[str, dict[str, Callable[[Context], Json]]] = {
    ETL_DAG: {"collect": collect, "validate": validate, "clean": clean, "split": split, "publish": publish_snapshot},
    RETRAIN_DAG: {
        "snapshot": snapshot,
        "tune": tune_model,
        "backtest": backtest_models,
        "train": train,
        "decide": decide_promotion,
        "promote": promote,
        "confirm": confirm,
    },
}


def run_step(dag_id: str, name: str, run_id: str, conf: Json) -> Json:
    """Run one step of a pipeline; what it returns is small JSON.

    A failing step marks the MLflow run of the pipeline failed (when MLflow answers) and raises.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    context = Context(load_settings(), run_id, conf)
    begin = time.perf_counter()
    try:
        result = STEPS[dag_id][name](context)
    except Exception as error:
        _mark_failed(context, dag_id, name, error)
        raise
    log.info("%s took %.1f s: %s", name, time.perf_counter() - begin, json.dumps(result, default=str))
    return result


def _mark_failed(c: Context, dag_id: str, name: str, error: Exception) -> None:
    try:
        mlflow_run = c.registry._find_or_make(dag_id, c.run_id)
        c.registry.log(mlflow_run, tags={"failed_step": name, "error": str(error)[:4000]})
        c.registry.client.set_terminated(mlflow_run, "FAILED")
    except ControlRoomError:
        log.warning("MLflow does not answer; the failure is not noted there.")


def main(arguments: list[str] | None = None) -> int:
    """``python -m ml.jobs etl|retrain [step] --conf '{"source": …}'`` runs a pipeline, or one step of it."""
    names = {"etl": ETL_DAG, "retrain": RETRAIN_DAG}
    parser = argparse.ArgumentParser(prog="python -m ml.jobs", description=main.__doc__)
    parser.add_argument("pipeline", choices=names)
    parser.add_argument("step", nargs="?", help="one step only (all when left out)")
    parser.add_argument("--run-id", default=f"cli__{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%S}")
    parser.add_argument("--conf", type=json.loads, default={}, help="parameters as JSON, as in the DAG")
    asked = parser.parse_args(arguments)
    dag_id = names[asked.pipeline]
    steps = [asked.step] if asked.step else list(STEPS[dag_id])
    if asked.step and asked.step not in STEPS[dag_id]:
        parser.error(f"{asked.pipeline} has no step {asked.step}; it has {', '.join(STEPS[dag_id])}")
    try:
        for name in steps:
            result = run_step(dag_id, name, asked.run_id, asked.conf)
            print(json.dumps({"step": name, **result}, default=str), flush=True)
    except ControlRoomError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
