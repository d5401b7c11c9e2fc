"""Airflow's REST API, as much of it as the console, the API and the first start need.

It lives in ``ml`` because it has several callers; it imports nothing of ours but records, errors and tracing.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import requests
from airflow_client import client as ac
from airflow_client.client.exceptions import ApiException

from ml import tracing
from ml.errors import Conflict, InputError, NotFound, ServiceDown
from ml.records import PartHealth, Pipeline, Run, TaskState

T = TypeVar("T")
ACTIVE = ["queued", "running"]


def _answer_text(error: ApiException) -> str:
    try:
        detail = json.loads(error.body or "{}").get("detail", "")
    except (ValueError, AttributeError):
        detail = ""
    return detail if isinstance(detail, str) else json.dumps(detail)


class _Traced(ac.ApiClient):
    """Says with every call which request it is for."""

    def call_api(
        self, method: str, url: str, header_params: dict[str, str] | None = None, *more: Any, **how: Any
    ) -> Any:
        return super().call_api(method, url, {**(header_params or {}), **tracing.headers()}, *more, **how)


class AirflowClient:
    """A thread-safe client that fetches its token when needed and again when it has expired.

    Every method raises ServiceDown when Airflow does not answer, NotFound for an unknown DAG or run.
    """

    def __init__(self, url: str, user: str, password: str, timeout: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self._user, self._password, self._timeout = user, password, timeout
        self._lock = threading.Lock()
        self._api: ac.ApiClient | None = None

    # -- connection

    def _login(self) -> ac.ApiClient:
        body = {"username": self._user, "password": self._password}
        try:
            reply = requests.post(f"{self.url}/auth/token", json=body, timeout=self._timeout)
        except requests.RequestException as error:
            raise ServiceDown("airflow", type(error).__name__) from error
        if reply.status_code != 201:
            raise ServiceDown("airflow", f"sign-in of {self._user} was refused with {reply.status_code}")
        configuration = ac.Configuration(host=self.url, access_token=reply.json()["access_token"])
        configuration.retries = 1
        return _Traced(configuration)

    def _client(self, fresh: bool = False) -> ac.ApiClient:
        with self._lock:
            if self._api is None or fresh:
                self._api = self._login()
            return self._api

    def _call(self, ask: Callable[[ac.ApiClient], T]) -> T:
        try:
            try:
                return ask(self._client())
            except ApiException as error:
                if error.status != 401:
                    raise
                return ask(self._client(fresh=True))
        except ApiException as error:
            raise self._translated(error) from error
        except ServiceDown:
            raise
        except Exception as error:  # urllib3's own errors: the other side is away or broken
            raise ServiceDown("airflow", type(error).__name__) from error

    @staticmethod
    def _translated(error: ApiException) -> Exception:
        text = _answer_text(error)
        if error.status == 404:
            return NotFound(text or "Airflow does not know this")
        if error.status == 409:
            return Conflict(text or "Airflow says this exists already")
        if error.status in (400, 422):
            return InputError(f"Airflow refuses this: {text}")
        return ServiceDown("airflow", f"answered {error.status}")

    # -- runs

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> Run:
        """Start a run under our own id: asking twice with one id starts one run.

        Its conf also says which request it is for, so that its steps belong to that trace.

        Raises Conflict when another run of the DAG is active or the DAG is paused (it would wait for ever).
        """
        if self.paused(dag_id):
            raise Conflict(f"{dag_id} is paused in Airflow: unpause it first.", dag_id=dag_id, reason="paused")
        for other in self.runs(dag_id, limit=5, states=ACTIVE):
            if other.run_id == run_id:
                return other
            raise Conflict(f"{dag_id} is already running as {other.run_id}.", dag_id=dag_id, run_id=other.run_id)
        told = conf | tracing.as_conf()
        body = ac.TriggerDAGRunPostBody(dag_run_id=run_id, conf=told, logical_date=None)
        try:
            reply = self._call(
                lambda api: ac.DagRunApi(api).trigger_dag_run(
                    dag_id=dag_id, trigger_dag_run_post_body=body, _request_timeout=self._timeout
                )
            )
        except Conflict:
            return self.run(dag_id, run_id)
        return _run(reply, ())

    def run(self, dag_id: str, run_id: str) -> Run:
        """One run with the state of its tasks, in the order they ran."""
        where: dict[str, Any] = {"dag_id": dag_id, "dag_run_id": run_id, "_request_timeout": self._timeout}
        reply = self._call(lambda api: ac.DagRunApi(api).get_dag_run(**where))
        tasks = self._call(lambda api: ac.TaskInstanceApi(api).get_task_instances(**where)).task_instances
        order = {task_id: index for index, task_id in enumerate(self._task_order(dag_id))}
        states = sorted((_task(task) for task in tasks), key=lambda t: order.get(t.task_id, 99))
        return _run(reply, tuple(states))

    def _task_order(self, dag_id: str) -> list[str]:
        """Task ids with every task after those it waits for."""
        reply = self._call(lambda api: ac.TaskApi(api).get_tasks(dag_id=dag_id, _request_timeout=self._timeout))
        after = {str(task.task_id): set(task.downstream_task_ids or ()) for task in reply.tasks}
        ordered: list[str] = []
        while after:
            waiting = set().union(*after.values())
            ready = sorted(task for task in after if task not in waiting) or sorted(after)
            ordered += ready
            for task in ready:
                del after[task]
        return ordered

    def runs(self, dag_id: str, limit: int = 20, states: list[str] | None = None) -> list[Run]:
        """The latest runs, newest first, without their tasks."""
        reply = self._call(
            lambda api: ac.DagRunApi(api).get_dag_runs(
                dag_id=dag_id, limit=limit, order_by=["-run_after"], state=states, _request_timeout=self._timeout
            )
        )
        return [_run(item, ()) for item in reply.dag_runs]

    def cancel(self, dag_id: str, run_id: str) -> Run:
        """Mark a run failed, which ends its tasks."""
        body = ac.DAGRunPatchBody(state=ac.DagRunMutableStates.FAILED, note="Cancelled in the control room")
        reply = self._call(
            lambda api: ac.DagRunApi(api).patch_dag_run(
                dag_id=dag_id, dag_run_id=run_id, dag_run_patch_body=body, _request_timeout=self._timeout
            )
        )
        return _run(reply, ())

    def paused(self, dag_id: str) -> bool:
        """Whether the DAG is paused; raises NotFound while Airflow has not parsed it yet."""
        reply = self._call(lambda api: ac.DAGApi(api).get_dag(dag_id=dag_id, _request_timeout=self._timeout))
        return bool(reply.is_paused)

    def pipeline(self, dag_id: str) -> Pipeline:
        """Whether the DAG is paused, when it runs by itself, and when next."""
        reply = self._call(lambda api: ac.DAGApi(api).get_dag(dag_id=dag_id, _request_timeout=self._timeout))
        return _pipeline(reply)

    def pause(self, dag_id: str) -> None:
        """A run that is active goes on; a new one waits."""
        self._set_paused(dag_id, True)

    def unpause(self, dag_id: str) -> None:
        self._set_paused(dag_id, False)

    def _set_paused(self, dag_id: str, paused: bool) -> None:
        body = ac.DAGPatchBody(is_paused=paused)
        self._call(
            lambda api: ac.DAGApi(api).patch_dag(dag_id=dag_id, dag_patch_body=body, _request_timeout=self._timeout)
        )

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, lines: int = 60) -> str:
        """The last lines of one task's log, as text."""
        reply = self._call(
            lambda api: ac.TaskInstanceApi(api).get_log_with_http_info(
                dag_id=dag_id,
                dag_run_id=run_id,
                task_id=task_id,
                try_number=max(try_number, 1),
                full_content=True,
                _request_timeout=self._timeout,
            )
        )
        content = json.loads(reply.raw_data)["content"]  # the client's own model drops why a task failed
        return "\n".join([_log_line(item) for item in (content or [])][-lines:])

    def health(self) -> PartHealth:
        """State of the scheduler and the database behind Airflow; never raises."""
        begin = time.perf_counter()
        state: Literal["ok", "degraded", "down"]
        try:
            reply = requests.get(f"{self.url}/api/v2/monitor/health", timeout=min(self._timeout, 2)).json()
            parts = {name: part.get("status") for name, part in reply.items() if part and part.get("status")}
            bad = sorted(f"{name} {status}" for name, status in parts.items() if status != "healthy")
            state, detail = ("degraded", ", ".join(bad)) if bad else ("ok", "")
        except (requests.RequestException, ValueError, AttributeError) as error:
            state, detail = "down", type(error).__name__
        latency = (time.perf_counter() - begin) * 1000
        now = dt.datetime.now(dt.UTC)
        return PartHealth(name="airflow", state=state, latency_ms=latency, checked_at=now, detail=detail)


def _log_line(event: dict[str, Any] | str) -> str:
    """One line of text for a structured event, and one more for each exception that it tells of."""
    if isinstance(event, str):
        return event
    stamp = f"{dt.datetime.fromisoformat(event['timestamp']):%H:%M:%S} " if event.get("timestamp") else ""
    why = [f"\n  {part.get('exc_type')}: {part.get('exc_value')}" for part in event.get("error_detail") or ()]
    return f"{stamp}{event.get('event', '')}{''.join(why)}"


def _run(reply: Any, tasks: tuple[TaskState, ...]) -> Run:
    return Run(
        dag_id=reply.dag_id,
        run_id=reply.dag_run_id,
        state=str(getattr(reply.state, "value", reply.state)),
        started_at=reply.start_date,
        ended_at=reply.end_date,
        conf=dict(reply.conf or {}),
        tasks=tasks,
    )


def _pipeline(reply: Any) -> Pipeline:
    return Pipeline(
        dag_id=reply.dag_id,
        paused=bool(reply.is_paused),
        schedule=reply.timetable_summary or None,
        next_run_at=reply.next_dagrun_run_after,
    )


def _task(reply: Any) -> TaskState:
    state = getattr(reply.state, "value", reply.state)
    return TaskState(
        task_id=reply.task_id,
        state=None if state is None else str(state),
        started_at=reply.start_date,
        ended_at=reply.end_date,
        try_number=reply.try_number or 0,
    )
