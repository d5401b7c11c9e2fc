"""Runs of the two DAGs, started under ids of ours."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.auth import needs
from api.deps import DagId, RunId, ServicesDep, Table
from api.openapi import json_body
from api.receiving import rejected_table
from api.routes.uploads import attachment
from api.services import Services
from api.strict import body_of
from ml.errors import NotFound, ServiceDown
from ml.lake import PROGRESS, REJECTED, Lake, run_folder
from ml.records import ETL_DAG, RETRAIN_DAG, Progress, Run

router = APIRouter(prefix="/v1", tags=["runs"])


class RunRequest(BaseModel):
    """What the DAG is to be told; its parameters are in its documentation."""

    model_config = ConfigDict(extra="forbid")

    conf: dict[str, Any] = Field(default_factory=dict, examples=[{}])


RunBody = Annotated[RunRequest, body_of(RunRequest, RunRequest())]


class Runs(BaseModel):
    items: list[Run]


@router.post(
    "/etl",
    dependencies=needs("planner"),
    status_code=202,
    summary="Process the accepted uploads",
    **json_body(RunRequest, required=False),
)
def etl(request: Request, services: ServicesDep, response: Response, asked: RunBody) -> Run:
    """Starts process_etl_sales_data; 409 when it is running or paused."""
    return _started(request, services, ETL_DAG, asked, response)


@router.post(
    "/retrain",
    dependencies=needs("analyst"),
    status_code=202,
    summary="Train and judge a model",
    **json_body(RunRequest, required=False),
)
def retrain(request: Request, services: ServicesDep, response: Response, asked: RunBody) -> Run:
    """Starts retrain_sales_model; 409 when it is running or paused."""
    return _started(request, services, RETRAIN_DAG, asked, response)


@router.get("/runs/{dag_id}", dependencies=needs("viewer"), summary="The latest runs of a DAG, newest first")
def runs(services: ServicesDep, dag_id: DagId) -> Runs:
    return Runs(items=services.airflow.runs(dag_id))


@router.get("/runs/{dag_id}/{run_id}", dependencies=needs("viewer"), summary="One run with its tasks")
def run(services: ServicesDep, dag_id: DagId, run_id: RunId) -> Run:
    """`progress` counts the trials or folds of the step that is running, where it has any."""
    found = services.airflow.run(dag_id, run_id)
    return found.model_copy(update={"progress": _progress(services.lake, found)}) if found.active else found


@router.get(
    "/runs/process_etl_sales_data/{run_id}/rejected",
    dependencies=needs("viewer"),
    summary="The rows that a run left out of all its uploads, with reasons",
    response_class=Response,
)
def rejected(services: ServicesDep, run_id: RunId, format: Table = "csv") -> Response:
    """404 before its step `validate` has ended, and once the run is no longer kept."""
    rows = services.lake.get_frame(f"{run_folder(run_id)}/{REJECTED}")
    return attachment(rejected_table(rows, format), "rejected", format)


def _progress(lake: Lake, run: Run) -> Progress | None:
    running = next((task.task_id for task in run.tasks if task.state == "running"), None)
    if running is None:
        return None
    try:
        told = Progress.model_validate(lake.get_json(f"{run_folder(run.run_id)}/{PROGRESS}"))
    except (NotFound, ServiceDown, ValidationError):
        return None  # how far a step is adds to an answer; it never costs one
    return told if told.step == running else None


def _started(request: Request, services: Services, dag_id: str, asked: RunRequest, response: Response) -> Run:
    started = services.airflow.trigger(dag_id, new_run_id(), asked.conf)
    services.audit.note(request.scope["caller"].name, "run.started", started.run_id, dag=dag_id)
    response.headers["Location"] = f"/v1/runs/{dag_id}/{started.run_id}"
    return started


def new_run_id() -> str:
    """``manual__2026-01-04T10-42-11Z_1a2b3c``: ours, so that asking twice cannot start two; fit for a path."""
    return f"manual__{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%SZ}_{secrets.token_hex(3)}"
