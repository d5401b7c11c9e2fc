"""Runs of the two DAGs, started under ids of ours."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.auth import Caller, needs
from api.deps import DagId, RunId, ServicesDep, Table
from api.openapi import json_body
from api.receiving import rejected_table
from api.routes.uploads import attachment
from api.services import Services
from api.strict import body_of
from ml.access import allows
from ml.errors import Forbidden, NotFound, ServiceDown
from ml.lake import PROGRESS, REJECTED, Lake, run_folder
from ml.records import ETL_DAG, RETRAIN_DAG, Pipeline, Progress, Run

router = APIRouter(prefix="/v1", tags=["runs"])


class RunRequest(BaseModel):
    """What the DAG is to be told; its parameters are in its documentation."""

    model_config = ConfigDict(extra="forbid")

    conf: dict[str, Any] = Field(default_factory=dict, examples=[{}])


RunBody = Annotated[RunRequest, body_of(RunRequest, RunRequest())]


class Paused(BaseModel):
    model_config = ConfigDict(extra="forbid")

    paused: bool


PausedBody = Annotated[Paused, body_of(Paused)]


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
    """Starts retrain_sales_model; 409 when it is running or paused. Where a manager's approval is the rule, only a
    manager starts a run that promotes by itself (`policy` `auto`)."""
    if services.settings.promotion_policy == "approval" and asked.conf.get("policy") == "auto":
        _refuse_below_manager(request.scope["caller"])
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


@router.delete(
    "/runs/process_etl_sales_data/{run_id}", dependencies=needs("planner"), summary="Cancel a run of the ETL"
)
def cancel_etl(request: Request, services: ServicesDep, run_id: RunId) -> Run:
    """Running steps are ended; what was published before stays."""
    return _cancelled(request, services, ETL_DAG, run_id)


@router.delete("/runs/retrain_sales_model/{run_id}", dependencies=needs("analyst"), summary="Cancel a retraining")
def cancel_retrain(request: Request, services: ServicesDep, run_id: RunId) -> Run:
    """Running steps are ended; the champion goes on serving."""
    return _cancelled(request, services, RETRAIN_DAG, run_id)


@router.put(
    "/pipelines/process_etl_sales_data/paused", dependencies=needs("planner"), summary="Pause the ETL, or let it go on",
    **json_body(Paused),
)  # fmt: skip
def pause_etl(request: Request, services: ServicesDep, asked: PausedBody) -> Pipeline:
    """A run that is active goes on; a new one waits while it is paused."""
    return _turned(request, services, ETL_DAG, asked.paused)


@router.put(
    "/pipelines/retrain_sales_model/paused", dependencies=needs("analyst"), summary="Pause retraining, or let it go on",
    **json_body(Paused),
)  # fmt: skip
def pause_retrain(request: Request, services: ServicesDep, asked: PausedBody) -> Pipeline:
    """A run that is active goes on; a new one waits while it is paused."""
    return _turned(request, services, RETRAIN_DAG, asked.paused)


def _refuse_below_manager(caller: Caller) -> None:
    if not allows(caller.role, "manager"):
        raise Forbidden("A manager approves promotions here: a run that promotes by itself takes the role manager.")


def _cancelled(request: Request, services: Services, dag_id: str, run_id: str) -> Run:
    ended = services.airflow.cancel(dag_id, run_id)
    services.audit.note(request.scope["caller"].name, "run.cancelled", run_id, dag=dag_id)
    return ended


def _turned(request: Request, services: Services, dag_id: str, paused: bool) -> Pipeline:
    (services.airflow.pause if paused else services.airflow.unpause)(dag_id)
    services.audit.note(request.scope["caller"].name, "pipeline.paused" if paused else "pipeline.unpaused", dag_id)
    return services.airflow.pipeline(dag_id)


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
