"""Airflow as the console needs it: ``ml.orchestration`` with our own run ids."""

from __future__ import annotations

from typing import Any

from ml.orchestration import AirflowClient as Orchestration
from ml.records import PartHealth, Pipeline, Run

# A page asks several things in a row; whoever does not answer in this time is said to be away.
SECONDS = 4.0


class AirflowClient:
    """Start, follow and stop runs. Raises ServiceDown("airflow"), NotFound and Conflict."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._airflow = Orchestration(url, user, password, timeout=SECONDS)

    def start(self, dag_id: str, conf: dict[str, Any], run_id: str) -> Run:
        """Start a run under an id of ours: asking twice with one id, as a double click does, starts one run."""
        return self._airflow.trigger(dag_id, run_id, conf)

    def run(self, dag_id: str, run_id: str) -> Run:
        return self._airflow.run(dag_id, run_id)

    def runs(self, dag_id: str, limit: int = 30) -> tuple[Run, ...]:
        return tuple(self._airflow.runs(dag_id, limit))

    def cancel(self, dag_id: str, run_id: str) -> Run:
        return self._airflow.cancel(dag_id, run_id)

    def paused(self, dag_id: str) -> bool:
        return self._airflow.paused(dag_id)

    def pipeline(self, dag_id: str) -> Pipeline:
        return self._airflow.pipeline(dag_id)

    def pause(self, dag_id: str) -> bool:
        """Let no new run begin; says whether none will."""
        self._airflow.pause(dag_id)
        return self._airflow.paused(dag_id)

    def unpause(self, dag_id: str) -> bool:
        """Let the DAG run again; says whether it will."""
        self._airflow.unpause(dag_id)
        return not self._airflow.paused(dag_id)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        return self._airflow.log(dag_id, run_id, task_id, try_number)

    def health(self) -> PartHealth:
        return self._airflow.health()
