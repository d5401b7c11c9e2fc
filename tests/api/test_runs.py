"""Runs through the API of the whole product, with the real Airflow behind it."""

import json
import time

import httpx
import pytest

from ml.jobs import STEPS
from ml.records import ETL_DAG, Run

pytestmark = pytest.mark.e2e


@pytest.fixture
def api(stack):
    with httpx.Client(base_url=stack.settings.api, timeout=60) as client:
        yield client


def test_a_run_is_started_once_and_can_be_followed(api):
    started = api.post("/v1/etl", json={"conf": {"source": "demo"}})
    assert started.status_code == 202, started.text
    run = Run.model_validate(started.json())
    assert run.dag_id == ETL_DAG
    assert started.headers["Location"] == f"/v1/runs/{ETL_DAG}/{run.run_id}"
    second = api.post("/v1/etl", json={"conf": {"source": "demo"}})
    assert (second.status_code, second.json()["code"]) == (409, "conflict")
    assert run.run_id in second.json()["detail"]
    done = finished(api, started.headers["Location"])
    assert done.state == "success"
    assert [task.task_id for task in done.tasks] == list(STEPS[ETL_DAG])
    assert run.run_id in [item["run_id"] for item in api.get(f"/v1/runs/{ETL_DAG}").json()["items"]]


def test_the_steps_belong_to_the_request_that_started_them(api, stack):
    """From the header of the request to the lines that the tasks write."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    head = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Request-ID": "asked-for-the-demo"}
    started = api.post("/v1/etl", json={"conf": {"source": "demo"}}, headers=head)
    assert started.status_code == 202, started.text
    done = finished(api, started.headers["Location"])
    assert done.state == "success"
    assert done.conf["request_id"] == "asked-for-the-demo"
    assert done.conf["traceparent"][3:35] == trace
    folder = stack.settings.data_dir / "airflow" / "logs"
    written = [path.read_text() for path in folder.rglob("*.log") if done.run_id in str(path)]
    lines = [json.loads(line) for text in written for line in text.splitlines()]
    ours = [line for line in lines if line.get("logger") == "ml.jobs"]
    assert len(ours) >= len(STEPS[ETL_DAG])
    assert {(line["request_id"], line["trace_id"]) for line in ours} == {("asked-for-the-demo", trace)}


def test_a_run_that_is_not_there(api):
    assert api.get(f"/v1/runs/{ETL_DAG}/manual__never").status_code == 404


def test_every_part_is_well(api):
    health = api.get("/health").json()
    assert (health["status"], health["parity"]) == ("ok", pytest.approx(0, abs=1e-3)), health["parts"]


def finished(api, path, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run = Run.model_validate(api.get(path).json())
        if not run.active:
            return run
        time.sleep(1)
    pytest.fail(f"{run.run_id} is {run.state} after {seconds} s")
