"""Acceptance check of a running product, through its published ports: ``python -m deploy.exercise``.

Runs the ETL (on the sales that were uploaded, else on the demo chain), retrains, predicts and finds the predictions in
the history, printing outcome and time of every step; the exit code is 0 only if all went well. Addresses and the API
key come from the settings (``CONTROL_ROOM_…``), so it works for the local mode, for compose (``docker compose exec api
python -m deploy.exercise``) and for a server elsewhere. It leaves behind what a person would: runs, a model (promoted
if it is better), predictions.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from ml.errors import SettingsError
from ml.records import ETL_DAG, RETRAIN_DAG
from ml.settings import Settings, load_settings

READY_SECONDS = 120.0
RUN_SECONDS = 1800.0
POLL_SECONDS = 1.0
ACTIVE = ("queued", "running")


class StepFailed(Exception):
    """What was expected and what was seen."""


@dataclass
class Product:
    """The running product, seen from outside."""

    settings: Settings
    session: requests.Session = field(default_factory=requests.Session)
    asked: dict[str, Any] = field(default_factory=dict)  # what a later step compares with

    def __post_init__(self) -> None:
        self.session.headers["X-API-Key"] = self.settings.api_token

    def ask(self, method: str, path: str, **request: Any) -> requests.Response:
        """One call of the API; whoever does not answer is named."""
        return _call(self.session, method, f"{self.settings.api}{path}", **request)

    def json(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        reply = self.ask(method, path, **request)
        if reply.status_code != status:
            raise StepFailed(f"{method} {path} answered {reply.status_code}, not {status}: {reply.text[:500]}")
        return reply.json()

    # ---------------------------------------------------------------- the steps

    def answers(self) -> str:
        """The API and its documentation answer."""
        health = _patiently(lambda: self.json("GET", "/health"), READY_SECONDS)
        if self.ask("GET", "/docs").status_code != 200:
            raise StepFailed("GET /docs does not answer 200")
        return ", ".join(f"{part['name']} {part['state']}" for part in health["parts"])

    def console(self) -> str:
        """The console answers, where its address can be known."""
        if self.settings.api_url:
            return "not asked: its address is known only where the API's is the default"
        url = f"http://127.0.0.1:{self.settings.console_port}"
        page = _call(self.session, "GET", f"{url}/_stcore/health")
        if page.status_code != 200:
            raise StepFailed(f"{url} answers {page.status_code}")
        return url

    def load(self) -> str:
        """The ETL publishes a snapshot."""
        source = "uploads" if self._has_own_sales() else "demo"
        self._run(ETL_DAG, "/v1/etl", {"source": source})
        snapshot = self.json("GET", "/v1/snapshot")
        if snapshot["rows"] < 1:
            raise StepFailed("the snapshot is empty")
        return f"{source}: {snapshot['rows']} rows, {snapshot['series']} series to {snapshot['date_to']}"

    def train(self) -> str:
        """A retraining ends well and the API serves a champion."""
        self._run(RETRAIN_DAG, "/v1/retrain", {"trials": 1})  # the way is checked here, not the tuning
        _patiently(lambda: self.json("GET", "/readyz"), READY_SECONDS)
        newest = max(self.json("GET", "/v1/models")["items"], key=lambda model: int(model["version"]))
        champion = self.json("GET", "/health")["champion"]
        return f"version {newest['version']} was judged {newest['verdict']}; version {champion['version']} serves"

    def predict_one(self) -> str:
        """One day of one product: a number inside its interval, with the versions that made it."""
        series, day = self._series()
        answer = self.json("POST", "/predict", json={**series, "date": day})
        low, high = answer["interval"]["95"]
        if not 0 <= low <= answer["prediction"] <= high:
            raise StepFailed(f"{answer['prediction']} is not in its interval {low} to {high}")
        self.asked = answer
        return f"{answer['prediction']:.1f} {answer['unit']} for {series['store']}, {series['product']} on {day}"

    def predict_many(self) -> str:
        """A wrong row among good ones is answered by its error, the others by a prediction."""
        series, day = self._series()
        good, wrong = {**series, "date": day}, {**series, "date": "not a day"}
        rows = self.json("POST", "/predict", json={"instances": [good, wrong, good]})["predictions"]
        kinds = ["error" if "error" in row else "prediction" for row in rows]
        if kinds != ["prediction", "error", "prediction"]:
            raise StepFailed(f"good, wrong, good were answered by {', '.join(kinds)}")
        return f"2 predictions and 1 error: {rows[1]['error']['message']}"

    def history(self) -> str:
        """The prediction is in the log, with the same number."""
        page = self.json("GET", "/historical-predictions", params={"limit": 100})
        found = [item for item in page["items"] if item["request_id"] == self.asked["request_id"]]
        if len(found) != 1 or abs(found[0]["prediction"] - self.asked["prediction"]) > 1e-6:
            raise StepFailed(f"request {self.asked['request_id']} is {len(found)} times in the history, not once")
        return f"request {self.asked['request_id']} found, made by version {found[0]['model_version']}"

    # ---------------------------------------------------------------- parts of steps

    def _has_own_sales(self) -> bool:
        reply = self.ask("GET", "/v1/snapshot")
        return reply.status_code == 200 and set(reply.json()["sources"]) != {"demo"}

    def _series(self) -> tuple[dict[str, str], str]:
        """A series that is still sold, and the first day after the data."""
        catalog = self.json("GET", "/v1/catalog")
        sold = max(catalog["series"], key=lambda one: (one["date_to"], one["mean_sales"]))
        day = dt.date.fromisoformat(catalog["date_to"]) + dt.timedelta(days=1)
        return {"store": sold["store"], "product": sold["product"]}, day.isoformat()

    def _run(self, dag_id: str, path: str, conf: dict[str, Any]) -> None:
        """Start a run after the one that may be active, and wait for its end."""
        _until(lambda: not any(run["state"] in ACTIVE for run in self._runs(dag_id)), f"{dag_id} is still busy")
        run_id = self.json("POST", path, status=202, json={"conf": conf})["run_id"]
        run: dict[str, Any] = {}

        def ended() -> bool:
            # A busy machine may keep Airflow from answering in time; the run goes on all the same.
            run.update(_patiently(lambda: self.json("GET", f"/v1/runs/{dag_id}/{run_id}"), READY_SECONDS))
            return run["state"] not in ACTIVE

        _until(ended, f"{dag_id} {run_id} has not ended")
        if run["state"] != "success":
            tasks = ", ".join(f"{task['task_id']} {task['state']}" for task in run["tasks"])
            raise StepFailed(f"{dag_id} {run_id} ended as {run['state']}: {tasks}")

    def _runs(self, dag_id: str) -> list[dict[str, Any]]:
        # A service that has just started may not have read its DAGs yet.
        return _patiently(lambda: self.json("GET", f"/v1/runs/{dag_id}"), READY_SECONDS)["items"]


def _call(session: requests.Session, method: str, url: str, **request: Any) -> requests.Response:
    try:
        return session.request(method, url, timeout=60, **request)
    except requests.RequestException as error:
        raise StepFailed(f"{url} does not answer: {error}") from error


def _patiently(ask: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except StepFailed:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def _until(done: Callable[[], bool], problem: str) -> None:
    end = time.monotonic() + RUN_SECONDS
    while not done():
        if time.monotonic() > end:
            raise StepFailed(f"{problem} after {RUN_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def exercise(product: Product) -> int:
    """Take the steps in order until one fails; give the number of failures (0 or 1)."""
    steps = {
        "API answers": product.answers,
        "console answers": product.console,
        "ETL": product.load,
        "retrain": product.train,
        "predict one": product.predict_one,
        "predict many": product.predict_many,
        "history": product.history,
    }
    for name, step in steps.items():
        begin = time.monotonic()
        try:
            outcome, failed = step(), False
        except StepFailed as error:
            outcome, failed = str(error), True
        print(f"{'FAILED' if failed else 'ok':<7}{time.monotonic() - begin:7.1f} s  {name:<16} {outcome}", flush=True)
        if failed:
            return 1
    return 0


def main() -> int:
    """Check the product that the settings point to."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return exercise(Product(settings))


if __name__ == "__main__":
    sys.exit(main())
