"""The two DAGs as Airflow sees them, read in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml.context import Context
from ml.errors import SettingsError
from ml.jobs import STEPS
from ml.promotion import Rules
from ml.records import ETL_DAG, RETRAIN_DAG
from ml.settings import load_settings, variable
from ml.succession import RULES, rules_of

ROOT = Path(__file__).resolve().parents[2]
READ = """
import importlib.util, json, sys
from airflow.sdk import Param
path, name = sys.argv[1:]
spec = importlib.util.spec_from_file_location(name, path)
module = importlib.util.module_from_spec(spec)
before = set(sys.modules)
spec.loader.exec_module(module)
dag = getattr(module, name)()
print(json.dumps({
    "tasks": dag.topological_sort() and [t.task_id for t in dag.topological_sort()],
    "retries": sorted({t.retries for t in dag.tasks}),
    "doc": dag.doc_md,
    "active_runs": dag.max_active_runs,
    "schedule": [a.name for a in dag.schedule] if isinstance(dag.schedule, list) else dag.schedule,
    "outlets": {t.task_id: [a.name for a in t.outlets] for t in dag.tasks if t.outlets},
    "params": {k: dag.params.get_param(k).schema for k in dag.params},
    "defaults": dag.params.dump(),
    "loaded": sorted({m.split(".")[0] for m in set(sys.modules) - before}),
}))
"""


@pytest.fixture(scope="module", params=list(STEPS))
def dag(request, tmp_path_factory) -> tuple[str, dict[str, Any]]:
    return request.param, read_dag(request.param, str(tmp_path_factory.mktemp("airflow")))


def read_dag(name: str, home: str, **given: str) -> dict[str, Any]:
    env = {**os.environ, "AIRFLOW_HOME": home, "PYTHONPATH": str(ROOT), **given}
    command = [sys.executable, "-c", READ, str(ROOT / "dags" / f"{name}.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_task_per_step_in_their_order(dag):
    name, found = dag
    assert found["tasks"] == list(STEPS[name])


def test_it_explains_itself_retries_and_runs_one_at_a_time(dag):
    _, found = dag
    assert found["doc"].strip().startswith("# Sales")
    assert found["retries"] == [2]
    assert found["active_runs"] == 1


def test_every_parameter_is_typed_and_its_default_fits(dag):
    _, found = dag
    assert found["params"]
    for key, schema in found["params"].items():
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        default = found["defaults"][key]
        is_kind = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "null": type(None)}
        assert any(isinstance(default, is_kind[kind]) for kind in kinds), key
        assert schema.get("title"), key


def test_reading_the_file_loads_nothing_heavy(dag):
    """What makes a parse slow is an import; the time itself depends on the machine."""
    _, found = dag
    assert set(found["loaded"]) & {"ml", "polars", "pandas", "numpy", "xgboost", "sklearn", "mlflow", "optuna"} == set()


def test_the_data_pipeline_tells_who_waits_for_new_data(dag):
    name, found = dag
    assert found["outlets"] == ({"publish": ["published_sales"]} if name == ETL_DAG else {})
    assert found["schedule"] is None


@pytest.mark.parametrize(
    ("name", "variable_name", "value", "wanted"),
    [
        (ETL_DAG, "etl_schedule", "30 3 * * *", "30 3 * * *"),
        (RETRAIN_DAG, "retrain_schedule", "on_new_data", ["published_sales"]),
        (RETRAIN_DAG, "retrain_schedule", "0 5 * * 1", "0 5 * * 1"),
    ],
)
def test_schedules_are_settings(tmp_path, name, variable_name, value, wanted):
    given = {variable(variable_name): value}
    assert getattr(load_settings(given), variable_name) == value
    assert read_dag(name, str(tmp_path), **given)["schedule"] == wanted


@pytest.mark.parametrize("value", ["on_new_data", "daily", "30 3 * *"])
def test_a_schedule_that_is_none_is_refused(value):
    with pytest.raises(SettingsError, match="CONTROL_ROOM_ETL_SCHEDULE"):
        load_settings({variable("etl_schedule"): value})


def test_the_gate_is_set_by_parameters_of_the_same_names(tmp_path):
    found = read_dag(RETRAIN_DAG, str(tmp_path))["params"]
    for name in RULES:
        schema, usual = found[name], getattr(Rules(), name)
        assert schema["minimum"] <= usual <= schema["maximum"], name


def test_what_a_run_sets_of_the_gate_counts_and_the_rest_is_usual():
    given = {"min_gain": 0.2, "confidence": None, "trials": 3}
    assert rules_of(Context(load_settings({}), "r", given)) == replace(Rules(), min_gain=0.2)
