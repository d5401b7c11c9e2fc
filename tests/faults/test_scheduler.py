"""Airflow's scheduler killed in the middle of a retraining of the whole product."""

from __future__ import annotations

import os
import signal
import time
import uuid

import pytest
import requests

from ml.records import RETRAIN_DAG, Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
RUN_SECONDS = 420


def wait_until(look, seconds=RUN_SECONDS):
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.2)
    return found


def get(stack, path):
    reply = requests.get(f"{stack.settings.api}{path}", timeout=20)
    reply.raise_for_status()
    return reply.json()


@pytest.mark.parametrize("task", ["train", "promote"])
def test_a_retraining_ends_once_whatever_happens_to_the_scheduler(stack, task):
    before = get(stack, "/health")["champion"]["version"]
    rows = len(get(stack, "/v1/promotions")["items"])
    known = {item["version"] for item in get(stack, "/v1/models")["items"]}
    seed = uuid.uuid4().int % 1000
    body = {"conf": {"trials": 0, "folds": 1, "seed": seed}}
    run_id = requests.post(f"{stack.settings.api}/v1/retrain", json=body, timeout=60).json()["run_id"]

    def now() -> Run:
        return Run.model_validate(get(stack, f"/v1/runs/{RETRAIN_DAG}/{run_id}"))

    wait_until(lambda: any(t.task_id == task and t.state in ("running", "success") for t in now().tasks))
    scheduler = next(child for child in stack.note.children if child.name == "airflow-scheduler")
    os.kill(scheduler.pid, signal.SIGKILL)
    wait_until(lambda: not now().active)
    assert now().state == "success"
    assert {t.state for t in now().tasks} == {"success"}

    # the data is what the champion was trained on: it stays, and the challenger was registered once
    assert get(stack, "/health")["champion"]["version"] == before
    assert len(get(stack, "/v1/promotions")["items"]) == rows
    models = get(stack, "/v1/models")["items"]
    assert len({item["version"] for item in models} - known) == 1
    assert [item["version"] for item in models if "champion" in item["aliases"]] == [before]
