"""What the API adds to Airflow's word on a run: how far its running step is, and which rows it left out."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from api.routes.runs import _progress
from ml.context import Context
from ml.lake import PROGRESS, open_lake, run_folder
from ml.records import ETL_DAG, RETRAIN_DAG, Run, TaskState
from ml.settings import load_settings, variable

RUN_ID = "asset_triggered__2026-01-05T03:30:00.1+00:00_Ab12"


def run(**states: str) -> Run:
    tasks = tuple(TaskState(task_id=name, state=state) for name, state in states.items())
    begin = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
    return Run(dag_id=RETRAIN_DAG, run_id=RUN_ID, state="running", started_at=begin, ended_at=None, tasks=tasks)


@pytest.fixture
def context(tmp_path) -> Context:
    settings = load_settings({variable("lake"): str(tmp_path / "lake"), variable("data_dir"): str(tmp_path)})
    return Context(settings, RUN_ID, {}, "tune")


def test_the_running_step_tells_how_far_it_is(context):
    lake = open_lake(context.settings.lake_url)
    assert _progress(lake, run(tune="running")) is None
    context.progress("trial", 3, 10, 0.2)
    seen = _progress(lake, run(snapshot="success", tune="running"))
    assert seen is not None
    assert (seen.step, seen.unit, seen.number, seen.total, seen.share) == ("tune", "trial", 3, 10, 0.2)


@pytest.mark.parametrize("states", [{"tune": "success", "backtest": "running"}, {"tune": "failed"}, {}])
def test_what_another_step_told_is_not_shown(context, states):
    context.progress("trial", 10, 10, 1.0)
    assert _progress(open_lake(context.settings.lake_url), run(**states)) is None


def test_a_damaged_note_costs_no_answer(context):
    lake = open_lake(context.settings.lake_url)
    lake.put_json(f"{run_folder(RUN_ID)}/{PROGRESS}", {"step": "tune"})
    assert _progress(lake, run(tune="running")) is None


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_the_rows_a_run_left_out_are_one_table(bare, form):
    rows = {"upload_id": ["u1", "u2"], "row": [3, 9], "column": ["=cmd", "sales"], "code": ["a", "b"],
            "reason": ["=1+1", "is negative"]}  # fmt: skip
    bare.services.lake.put_frame(f"{run_folder(RUN_ID)}/rejected.parquet", pl.DataFrame(rows))
    reply = bare.get(f"/v1/runs/{ETL_DAG}/{RUN_ID}/rejected", params={"format": form})
    assert reply.status_code == 200
    assert reply.headers["content-disposition"].endswith(f'rejected.{form}"')
    table = pl.read_csv(reply.content) if form == "csv" else pl.read_excel(reply.content)
    assert table.columns == ["upload_id", "row", "column", "code", "reason"]
    assert table["row"].to_list() == [3, 9]
    assert table["reason"].to_list() == ["'=1+1", "is negative"]  # no spreadsheet computes it


def test_a_run_without_such_a_table(bare):
    assert bare.get(f"/v1/runs/{ETL_DAG}/never/rejected").status_code == 404
