"""The steps of both pipelines: JSON in, JSON out. A DAG task is one call; ``python -m ml.jobs`` needs no Airflow.

What one step hands to the next lies in the lake below ``runs/<run_id>/``, so every step can be retried or killed: it
reads what is there, writes whole objects, and a second time writes the same.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from ml import logs, tracing
from ml.context import Context, Json, log, peak_mb
from ml.errors import ControlRoomError
from ml.records import ETL_DAG, RETRAIN_DAG
from ml.settings import load_settings

# step -> module and function: a step's process imports what that step needs and no more
STEPS: dict[str, dict[str, str]] = {
    ETL_DAG: {
        "collect": "ml.etl:collect",
        "validate": "ml.etl:validate",
        "clean": "ml.etl:clean",
        "split": "ml.etl:split",
        "check": "ml.etl:check",
        "publish": "ml.etl:publish_snapshot",
        "tidy": "ml.retention:tidy",
    },
    RETRAIN_DAG: {
        "snapshot": "ml.succession:snapshot",
        "tune": "ml.challenger:tune_model",
        "backtest": "ml.challenger:backtest_models",
        "train": "ml.challenger:train",
        "decide": "ml.succession:decide_promotion",
        "promote": "ml.succession:promote",
        "confirm": "ml.succession:confirm",
    },
}

# what runs at the start of every step: a killed promotion is put right before anybody reads who is champion
BEFORE = {RETRAIN_DAG: "ml.succession:settle_quietly"}


def step_of(dag_id: str, name: str) -> Callable[[Context], Json]:
    """The function of a step, importing its module only now."""
    return _function(STEPS[dag_id][name])


def _function(where: str) -> Callable[[Context], Any]:
    module, _, function = where.partition(":")
    return getattr(importlib.import_module(module), function)


def run_step(dag_id: str, name: str, run_id: str, conf: Json) -> Json:
    """Run one step of a pipeline; what it returns is small JSON.

    A failing step marks the MLflow run of the pipeline failed (when MLflow answers) and raises.
    """
    settings = load_settings()
    logs.configure(settings.log_format)
    tracing.begin_from(conf)
    context = Context(settings, run_id, conf, name)
    begin = time.perf_counter()
    try:
        if dag_id in BEFORE:
            _function(BEFORE[dag_id])(context)
        result = step_of(dag_id, name)(context)
    except Exception as error:
        _mark_failed(context, dag_id, name, error)
        raise
    took, said = time.perf_counter() - begin, json.dumps(result, default=str)
    log.info("%s took %.1f s and at most %.0f MB: %s", name, took, peak_mb(), said)
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
