"""MLflow's runs over its REST API.

Plain requests: MLflow's own client takes 3 s to import, brings a hundred megabytes into the console and retries for
minutes when the server is away.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, Literal

import requests
from pydantic import BaseModel, ConfigDict

from ml.errors import ServiceDown
from ml.records import PartHealth

SECONDS = (2.0, 5.0)


class ExperimentRun(BaseModel):
    """One MLflow run with what it was given and what it reached."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    name: str
    experiment: str
    status: str
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


class MlflowClient:
    """Reads experiments; raises ServiceDown("mlflow") when the server does not answer in time."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()

    def runs(self, limit: int = 200) -> tuple[ExperimentRun, ...]:
        """The latest runs of all experiments, newest first."""
        names = {item["experiment_id"]: item["name"] for item in self._experiments()}
        if not names:
            return ()
        body = {"experiment_ids": list(names), "max_results": limit, "order_by": ["attributes.start_time DESC"]}
        reply = self._post("runs/search", body)
        return tuple(_run(item, names) for item in reply.get("runs", []))

    def run_url(self, experiment_id: str, run_id: str) -> str:
        return f"{self.url}/#/experiments/{experiment_id}/runs/{run_id}"

    def health(self) -> PartHealth:
        """Whether the server answers a real question; never raises."""
        begin = time.perf_counter()
        state: Literal["ok", "down"] = "ok"
        detail = ""
        try:
            self._experiments()
        except ServiceDown as error:
            state, detail = "down", error.reason
        latency = (time.perf_counter() - begin) * 1000
        now = dt.datetime.now(dt.UTC)
        return PartHealth(name="mlflow", state=state, latency_ms=latency, checked_at=now, detail=detail)

    def _experiments(self) -> list[dict[str, Any]]:
        return self._post("experiments/search", {"max_results": 100}).get("experiments", [])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self._session.post(f"{self.url}/api/2.0/mlflow/{path}", json=body, timeout=SECONDS)
            reply.raise_for_status()
            answer = reply.json()
        except requests.HTTPError as error:
            raise ServiceDown("mlflow", f"answered {reply.status_code}") from error
        except (requests.RequestException, ValueError) as error:
            raise ServiceDown("mlflow", type(error).__name__) from error
        return answer


def _run(item: dict[str, Any], names: dict[str, str]) -> ExperimentRun:
    info, data = item["info"], item.get("data", {})
    return ExperimentRun(
        run_id=info["run_id"],
        name=info.get("run_name") or info["run_id"][:8],
        experiment=names.get(info["experiment_id"], info["experiment_id"]),
        status=info.get("status", ""),
        started_at=_time(info.get("start_time")),
        ended_at=_time(info.get("end_time")),
        params=_pairs(data.get("params")),
        metrics=_pairs(data.get("metrics")),
        tags=_pairs(data.get("tags")),
    )


def _pairs(items: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in items or []}


def _time(milliseconds: int | str | None) -> dt.datetime | None:
    return dt.datetime.fromtimestamp(int(milliseconds) / 1000, dt.UTC) if milliseconds else None
