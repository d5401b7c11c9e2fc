"""Runs of the two DAGs, started under ids of ours."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.deps import DagId, RunId, ServicesDep
from api.openapi import json_body
from api.services import Services
from api.strict import body_of
from ml.records import ETL_DAG, RETRAIN_DAG, Run

router = APIRouter(prefix="/v1", tags=["runs"])


class RunRequest(BaseModel):
    """What the DAG is to be told; its parameters are in its documentation."""

    model_config = ConfigDict(extra="forbid")

    conf: dict[str, Any] = Field(default_factory=dict, examples=[{}])


RunBody = Annotated[RunRequest, body_of(RunRequest, RunRequest())]


class Runs(BaseModel):
    items: list[Run]


@router.post("/etl", status_code=202, summary="Process the accepted uploads", **json_body(RunRequest, required=False))
def etl(services: ServicesDep, response: Response, asked: RunBody) -> Run:
    """Starts process_etl_sales_data; 409 when it is running or paused."""
    return _started(services, ETL_DAG, asked, response)


@router.post("/retrain", status_code=202, summary="Train and judge a model", **json_body(RunRequest, required=False))
def retrain(services: ServicesDep, response: Response, asked: RunBody) -> Run:
    """Starts retrain_sales_model; 409 when it is running or paused."""
    return _started(services, RETRAIN_DAG, asked, response)


@router.get("/runs/{dag_id}", summary="The latest runs of a DAG, newest first")
def runs(services: ServicesDep, dag_id: DagId) -> Runs:
    return Runs(items=services.airflow.runs(dag_id))


@router.get("/runs/{dag_id}/{run_id}", summary="One run with its tasks")
def run(services: ServicesDep, dag_id: DagId, run_id: RunId) -> Run:
    return services.airflow.run(dag_id, run_id)


def _started(services: Services, dag_id: str, asked: RunRequest, response: Response) -> Run:
    started = services.airflow.trigger(dag_id, new_run_id(), asked.conf)
    response.headers["Location"] = f"/v1/runs/{dag_id}/{started.run_id}"
    return started


def new_run_id() -> str:
    """``manual__2026-01-04T10-42-11Z_1a2b3c``: ours, so that asking twice cannot start two; fit for a path."""
    return f"manual__{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%SZ}_{secrets.token_hex(3)}"
