"""The questions that pages ask, each with how long its answer is good for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from control_room import words
from control_room.clients.api import Catalog
from control_room.clients.mlflow import ExperimentRun
from control_room.live import Seen
from control_room.session import ask_airflow, ask_api, ask_mlflow
from ml.records import (
    WHAT_IF,
    Account,
    Accuracy,
    Advice,
    Alerts,
    Answer,
    ApiKey,
    AuditPage,
    ChampionsPage,
    DataHealth,
    ForecastReply,
    ForecastRequest,
    Health,
    HistoryItem,
    Job,
    JobKind,
    Judgement,
    Limits,
    ModelInfo,
    ModelReport,
    Pipeline,
    PlanDifferences,
    PredictionInput,
    Progress,
    Promotion,
    RowError,
    Run,
    SalesPoint,
    Scenario,
    ScenarioPlan,
    Snapshot,
    Upload,
    VersionWeek,
)


def health() -> Seen[Health]:
    return ask_api("health", lambda api: api.health(), seconds=4)


def catalog() -> Seen[Catalog]:
    return ask_api("catalog", lambda api: api.catalog(), seconds=60)


def snapshot() -> Seen[Snapshot]:
    return ask_api("snapshot", lambda api: api.snapshot(), seconds=10)


def data_health() -> Seen[DataHealth]:
    return ask_api("data-health", lambda api: api.data_health(), seconds=60)


def uploads() -> Seen[tuple[Upload, ...]]:
    return ask_api("uploads", lambda api: api.uploads(), seconds=5)


def sales(store: str | None, product: str | None, since: dt.date | None) -> Seen[tuple[SalesPoint, ...]]:
    return ask_api(("sales", store, product, since), lambda api: api.sales(store, product, since), seconds=60)


def standing_forecast(store: str, product: str, version: str, data_version: str) -> Seen[ForecastReply]:
    """The forecast of one series. It is the same until model or data change, and asking logs it: ask once."""
    request = ForecastRequest(stores=(store,), products=(product,), horizon=None)
    question = ("forecast", store, product, version, data_version)
    return ask_api(question, lambda api: api.forecast(request), seconds=6 * 3600)


def what_if(
    rows: tuple[PredictionInput, ...], model: str, version: str, data_version: str
) -> Seen[tuple[Answer | RowError, ...]]:
    """Answers to what is only tried out. The same until model or data change, and asking logs them: ask once."""
    question = ("what-if", tuple(row.model_dump_json() for row in rows), model, version, data_version)
    return ask_api(question, lambda api: api.predict(rows, model, WHAT_IF), seconds=6 * 3600)


def differences(plan: ScenarioPlan, version: str, data_version: str) -> Seen[PlanDifferences]:
    """The same until model or data change; nothing is logged."""
    question = ("differences", plan.model_dump_json(), version, data_version)
    return ask_api(question, lambda api: api.differences(plan, version), seconds=6 * 3600)


def accuracy(by: str, filters: Mapping[str, Any]) -> Seen[Accuracy]:
    question = ("accuracy", by, tuple(sorted((name, str(value)) for name, value in filters.items())))
    return ask_api(question, lambda api: api.accuracy(by, filters), seconds=60)


def scenarios() -> Seen[tuple[Scenario, ...]]:
    return ask_api("scenarios", lambda api: api.scenarios(), seconds=10)


def scenario(scenario_id: str) -> Seen[Scenario]:
    return ask_api(("scenario", scenario_id), lambda api: api.scenario(scenario_id), seconds=10)


def models() -> Seen[tuple[ModelInfo, ...]]:
    return ask_api("models", lambda api: api.models(), seconds=15)


def model(version: str) -> Seen[ModelReport]:
    return ask_api(("model", version), lambda api: api.model(version), seconds=60)


def choice(version: str) -> str:
    """Why this model is a simple one, in words; empty where it is not, or nothing is known of it."""
    report = model(version).value
    return words.choice(report.evaluation.choice) if report and report.evaluation else ""


def advice() -> Seen[Advice]:
    return ask_api("advice", lambda api: api.advice(), seconds=30)


def alerts(limit: int) -> Seen[Alerts]:
    return ask_api(("alerts", limit), lambda api: api.alerts(limit), seconds=60)


def promotions() -> Seen[tuple[Promotion, ...]]:
    return ask_api("promotions", lambda api: api.promotions(), seconds=15)


def champions(limit: int) -> Seen[ChampionsPage]:
    return ask_api(("champions", limit), lambda api: api.champions(limit=limit), seconds=15)


def prediction(prediction_id: int) -> Seen[HistoryItem]:
    return ask_api(("prediction", prediction_id), lambda api: api.prediction(prediction_id), seconds=30)


def overrides(first: dt.date, last: dt.date) -> Seen[tuple[Judgement, ...]]:
    return ask_api(("overrides", first, last), lambda api: api.overrides({"from": first, "to": last}), seconds=15)


def accuracy_weeks(since: dt.date) -> Seen[tuple[VersionWeek, ...]]:
    return ask_api(("accuracy-weeks", since), lambda api: api.accuracy_weeks(since), seconds=60)


def keys() -> Seen[tuple[ApiKey, ...]]:
    return ask_api("keys", lambda api: api.keys(), seconds=10)


def accounts() -> Seen[tuple[Account, ...]]:
    return ask_api("accounts", lambda api: api.accounts(), seconds=10)


def audit(filters: Mapping[str, Any], cursor: str | None, limit: int) -> Seen[AuditPage]:
    question = ("audit", tuple(sorted((name, str(value)) for name, value in filters.items())), cursor, limit)
    return ask_api(question, lambda api: api.audit(filters, cursor, limit), seconds=5)


def audit_words() -> Seen[tuple[tuple[str, ...], tuple[str, ...]]]:
    return ask_api(("audit", "words"), lambda api: api.audit_words(), seconds=30)


def jobs(kind: JobKind) -> Seen[tuple[Job, ...]]:
    return ask_api(("jobs", "newest", kind), lambda api: api.jobs(10, kind), seconds=5)


def job(job_id: str) -> Seen[Job]:
    return ask_api(("jobs", job_id), lambda api: api.job(job_id), seconds=0.5)


def limits() -> Seen[Limits]:
    return ask_api("limits", lambda api: api.limits(), seconds=60)


def runs(dag_id: str) -> Seen[tuple[Run, ...]]:
    return ask_airflow(("runs", dag_id), lambda airflow: airflow.runs(dag_id), seconds=3)


def run(dag_id: str, run_id: str) -> Seen[Run]:
    return ask_airflow(("run", dag_id, run_id), lambda airflow: airflow.run(dag_id, run_id), seconds=1)


def progress(dag_id: str, run_id: str) -> Seen[Progress | None]:
    """How far the running step is; Airflow itself does not know."""
    return ask_api(("progress", dag_id, run_id), lambda api: api.run(dag_id, run_id).progress, seconds=1)


def paused(dag_id: str) -> Seen[bool]:
    return ask_airflow(("paused", dag_id), lambda airflow: airflow.paused(dag_id), seconds=5)


def pipeline(dag_id: str) -> Seen[Pipeline]:
    return ask_airflow(("pipeline", dag_id), lambda airflow: airflow.pipeline(dag_id), seconds=5)


def task_log(dag_id: str, run_id: str, task_id: str, try_number: int) -> Seen[str]:
    question = ("log", dag_id, run_id, task_id, try_number)
    return ask_airflow(question, lambda airflow: airflow.log(dag_id, run_id, task_id, try_number), seconds=5)


def experiment_runs() -> Seen[tuple[ExperimentRun, ...]]:
    return ask_mlflow("runs", lambda mlflow: mlflow.runs(), seconds=30)
