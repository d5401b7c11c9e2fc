"""The two DAGs as Airflow sees them, read in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.jobs import STEPS

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
    "params": {k: dag.params.get_param(k).schema for k in dag.params},
    "defaults": dag.params.dump(),
    "loaded": sorted({m.split(".")[0] for m in set(sys.modules) - before}),
}))
"""


@pytest.fixture(scope="module", params=list(STEPS))
def dag(request, tmp_path_factory) -> tuple[str, dict[str, Any]]:
    name = request.param
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READ, str(ROOT / "dags" / f"{name}.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return name, json.loads(done.stdout.splitlines()[-1])


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
        is_kind = {"string": str, "integer": int, "boolean": bool, "array": list, "null": type(None)}
        assert any(isinstance(default, is_kind[kind]) for kind in kinds), key
        assert schema.get("title"), key


def test_reading_the_file_loads_nothing_heavy(dag):
    """What makes a parse slow is an import; the time itself depends on the machine."""
    _, found = dag
    assert set(found["loaded"]) & {"ml", "polars", "pandas", "numpy", "xgboost", "sklearn", "mlflow", "optuna"} == set()
