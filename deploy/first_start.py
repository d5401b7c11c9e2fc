"""The first start: load the demo chain and train a champion, told task by task.

It is a program of its own (``python -m deploy.first_start``), see :mod:`deploy.first_start_child`. A start that was
interrupted goes on where Airflow is.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from deploy import probes
from deploy.first_start_child import DONE, FAILED, NOTHING_TO_DO
from deploy.terminal import Terminal
from ml.errors import ControlRoomError, NotFound, ServiceDown
from ml.orchestration import AirflowClient
from ml.records import ETL_DAG, RETRAIN_DAG, Health, Run, TaskState
from ml.settings import Settings, load_settings

T = TypeVar("T")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 90.0  # for a DAG that is not parsed yet, or a service that is being restarted
FIRST_TRIALS = 4  # somebody is waiting; the next retraining searches as long as the setting says
ENDED_WELL = ("success", "skipped")


def main(began: float | None = None) -> int:
    settings, terminal = load_settings(), Terminal(began=began)
    client = AirflowClient(settings.airflow, settings.airflow_user, settings.airflow_password)
    try:
        return FirstStart(settings, client, terminal).run()
    except RunFailed as failure:
        terminal.line("first start", str(failure), bad=True)
        terminal.block(failure.log)
    except ControlRoomError as error:
        terminal.line("first start", f"{error.title}: {error}", bad=True)
    terminal.line("first start", "the services go on; the next start tries again, or start the run in the console")
    return FAILED


class RunFailed(Exception):
    """A run ended badly; ``log`` is the end of the log of the task that failed."""

    def __init__(self, message: str, log: str) -> None:
        self.log = log
        super().__init__(message)


@dataclass
class FirstStart:
    """What is missing decides what runs: data, then a model."""

    settings: Settings
    client: AirflowClient
    terminal: Terminal
    _seen: dict[str, str] = field(default_factory=dict)

    def run(self) -> int:
        if not self.settings.demo:
            return NOTHING_TO_DO
        health = self._health()
        if health.data_version is None:
            self._follow(ETL_DAG, {"source": "demo"})
        elif health.champion or not self._demo_is_unfinished():
            return NOTHING_TO_DO
        if health.champion is None:
            self._follow(RETRAIN_DAG, {"trials": min(FIRST_TRIALS, self.settings.tuning_trials)})
        return self._confirm()

    def _demo_is_unfinished(self) -> bool:
        """Data but no champion: ours to finish only if the data is the demo and nobody has tried since."""
        loaded = self._patiently(lambda: self.client.runs(ETL_DAG, limit=1))
        trained = [run for run in self._patiently(lambda: self.client.runs(RETRAIN_DAG, limit=5)) if not run.active]
        return bool(loaded) and loaded[0].conf.get("source") == "demo" and not trained

    def _health(self) -> Health:
        def ask() -> Health:
            body = probes.get(f"{self.settings.api}/health", seconds=10)
            if body is None:
                raise ServiceDown("api", "no answer from /health")
            return Health.model_validate_json(body)

        return self._patiently(ask)

    def _confirm(self) -> int:
        """Wait for the API to serve the champion."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (health := self._health()).champion is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if health.champion is None:
            self.terminal.line("first start", "the model is trained but not champion: see the Models page", bad=True)
            return FAILED
        self.terminal.line("first start", f"the API serves model version {health.champion.version}")
        return DONE

    # -- one run

    def _follow(self, dag_id: str, conf: dict[str, Any]) -> None:
        """Start a run, or join the one that is active, and stay with it to its end."""
        began = time.monotonic()
        run_id = (self._active(dag_id) or self._trigger(dag_id, conf)).run_id
        self.terminal.line("first start", f"{dag_id} runs ({run_id})")
        while (run := self._patiently(lambda: self.client.run(dag_id, run_id))).active:
            self._tell(run)
            time.sleep(POLL_SECONDS)
        self._tell(run)
        if run.state != "success":
            raise self._failure(run)
        self.terminal.line("first start", f"{dag_id} has ended after {time.monotonic() - began:.0f} s")

    def _active(self, dag_id: str) -> Run | None:
        return next((r for r in self._patiently(lambda: self.client.runs(dag_id, limit=5)) if r.active), None)

    def _trigger(self, dag_id: str, conf: dict[str, Any]) -> Run:
        if self._patiently(lambda: self.client.paused(dag_id)):
            self.client.unpause(dag_id)
        run_id = f"first-start-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}"
        return self._patiently(lambda: self.client.trigger(dag_id, run_id, conf))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again while a service is away or Airflow has not read the DAG yet."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except (NotFound, ServiceDown):
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def _tell(self, run: Run) -> None:
        """One line when a task begins or ends."""
        for task in run.tasks:
            key = f"{run.run_id}/{task.task_id}/{task.try_number}"
            state = task.state or "waiting"
            if self._seen.get(key) != state and state in (*ENDED_WELL, "running", "failed", "up_for_retry"):
                self.terminal.line("first start", f"  {task.task_id:<12} {state}{_took(task)}", bad=state == "failed")
            self._seen[key] = state

    def _failure(self, run: Run) -> RunFailed:
        failed = next((task for task in run.tasks if task.state == "failed"), None)
        if failed is None:
            return RunFailed(f"{run.dag_id} ended as {run.state}", "")
        try:
            log = self.client.log(run.dag_id, run.run_id, failed.task_id, failed.try_number, lines=25)
        except ControlRoomError as error:
            log = f"(its log cannot be read: {error})"
        return RunFailed(f"{run.dag_id} failed in task {failed.task_id}", log)


def _took(task: TaskState) -> str:
    if not (task.started_at and task.ended_at):
        return ""
    return f" after {(task.ended_at - task.started_at).total_seconds():.1f} s"


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else None))
