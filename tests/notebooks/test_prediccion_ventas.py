"""The notebook runs from top to bottom, against a real MLflow server and a real S3 server."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ml.lake import open_lake
from ml.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "prediccion_ventas.ipynb"


@pytest.fixture
def environment(monkeypatch, s3, mlflow_server, tmp_path) -> str:
    lake = f"s3://{s3.bucket}/{tmp_path.name}"
    values = {
        **s3.environment,
        "CONTROL_ROOM_LAKE": lake,
        "CONTROL_ROOM_MLFLOW_URL": mlflow_server,
        "CUADERNO_CARPETA": str(tmp_path),
        "CUADERNO_ESCALA": "0.1",
        "CUADERNO_ENSAYOS": "2",
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("VENTAS", raising=False)
    return lake


def texts(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(str(output.get("data", output.get("text", ""))) for output in outputs)


def test_it_runs_and_leaves_what_it_says(environment, mlflow_server):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = texts(notebook)
    assert "application/vnd.plotly.v1+json" in shown
    for name in ("lineal", "árbol", "bosque", "XGBoost"):
        assert name in shown
    lake = open_lake(environment)
    wanted = [f"exports/cuaderno/{name}" for name in ("data.json", "test.parquet", "train.parquet")]
    assert lake.list("exports/") == wanted
    facts = lake.get_json(wanted[0])
    assert lake.get_frame(wanted[2]).height == facts["rows_train"]
    client = Registry(mlflow_server).client
    experiment = client.get_experiment_by_name("prediccion_ventas")
    (run,) = client.search_runs([experiment.experiment_id], max_results=1)
    assert run.data.metrics["challenger_wape"] < run.data.metrics["seasonal_naive_wape"]
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"evaluation.json", "modelos.json"}


def test_it_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
