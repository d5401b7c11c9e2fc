"""Who may import whom, read from the imports themselves (docs/architecture.md has the table)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURE = ("ml.records", "ml.errors", "ml.settings")
OUTSIDE = ("mlflow", "requests", "airflow", "airflow_client", "streamlit", "fastapi")
CORE = (
    "reading contract cleaning encoding features splits training tuning models evaluation intervals promotion "
    "forecasting bundle calendar demo values vocabulary findings"
)


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def package(name: str) -> list[Path]:
    return sorted((ROOT / name).rglob("*.py"))


def reaches(found: set[str], *roots: str) -> set[str]:
    return {name for name in found if any(name == root or name.startswith(f"{root}.") for root in roots)}


@pytest.mark.parametrize("name", PURE)
def test_records_errors_settings_cost_nothing(name):
    found = imports(ROOT / f"{name.replace('.', '/')}.py")
    third = {n.split(".")[0] for n in found} - set(sys.stdlib_module_names) - {"pydantic", "ml", "__future__"}
    assert third == set()
    assert reaches(found, "ml") <= {n for n in found if n == "ml" or n.startswith(PURE)}


@pytest.mark.parametrize("name", CORE.split())
def test_the_core_knows_no_service(name):
    assert (
        reaches(imports(ROOT / "ml" / f"{name}.py"), *OUTSIDE, "ml.registry", "ml.store", "ml.lake", "ml.jobs") == set()
    )


@pytest.mark.parametrize("path", package("ml"), ids=lambda p: p.stem)
def test_ml_knows_no_front_end(path):
    assert reaches(imports(path), "api", "control_room", "dags", "deploy", "streamlit", "fastapi", "airflow") == set()


@pytest.mark.parametrize("name", ["registry", "store", "lake", "orchestration"])
def test_clients_know_no_arithmetic(name):
    found = imports(ROOT / "ml" / f"{name}.py")
    assert reaches(found, "ml.features", "ml.training", "ml.forecasting", "ml.models", "xgboost", "sklearn") == set()


@pytest.mark.parametrize("path", package("api"), ids=lambda p: p.stem)
def test_the_api_knows_no_page_and_no_scheduler(path):
    assert reaches(imports(path), "streamlit", "airflow", "airflow_client", "control_room", "dags") == set()


@pytest.mark.parametrize("path", package("control_room"), ids=lambda p: p.stem)
def test_the_console_draws_and_asks(path):
    found = imports(path)
    assert reaches(found, "xgboost", "sklearn", "sqlalchemy", "psycopg2", "boto3", "airflow", "api", "dags") == set()
    allowed = (*PURE, "ml.orchestration", "ml.findings", "ml.tracing", "ml.logs", "ml.hosts")
    assert {n for n in reaches(found, "ml") if n != "ml" and not n.startswith(allowed)} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda p: p.stem)
def test_a_dag_file_only_wires(path):
    top = {name.split(".")[0] for name in imports(path, top_level=True)} - set(sys.stdlib_module_names)
    assert top <= {"airflow", "__future__"}
    assert {n for n in imports(path) if n.startswith("ml")} <= {"ml.jobs", "ml.jobs.run_step"}


def test_no_module_is_a_drawer_for_everything():
    names = {p.stem for folder in ("ml", "api", "control_room", "deploy", "bench") for p in package(folder)}
    assert names & {"utils", "util", "common", "helpers", "shared", "misc"} == set()


@pytest.mark.parametrize("module", ["ml.records", "ml.settings", "ml.errors"])
def test_importing_them_loads_nothing_heavy(module):
    code = (
        f"import {module}, sys; print([m for m in ('pandas','polars','numpy','sklearn','mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_waiting_openmp_threads_sleep_whatever_is_imported_first():
    """libgomp reads the variable when it is loaded: it must be there before scikit-learn or XGBoost are."""
    code = (
        "import sys, os, ml; assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE';"
        "assert not {'sklearn', 'xgboost', 'scipy'} & set(sys.modules)"
    )
    environ = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, cwd=ROOT)
