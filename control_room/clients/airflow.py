"""Airflow as the console reads it; what changes something there goes through the API, which asks for the role."""

from __future__ import annotations

from ml.orchestration import AirflowClient as Orchestration
from ml.records import PartHealth, Pipeline, Run

# A page asks several things in a row; whoever does not answer in this time is said to be away.
SECONDS = 4.0


class AirflowClient:
    """Follows runs. Raises ServiceDown("airflow") and NotFound."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._airflow = Orchestration(url, user, password, timeout=SECONDS)

    def run(self, dag_id: str, run_id: str) -> Run:
        return self._airflow.run(dag_id, run_id)

    def runs(self, dag_id: str, limit: int = 30) -> tuple[Run, ...]:
        return tuple(self._airflow.runs(dag_id, limit))

    def paused(self, dag_id: str) -> bool:
        return self._airflow.paused(dag_id)

    def pipeline(self, dag_id: str) -> Pipeline:
        return self._airflow.pipeline(dag_id)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        return self._airflow.log(dag_id, run_id, task_id, try_number)

    def health(self) -> PartHealth:
        return self._airflow.health()
