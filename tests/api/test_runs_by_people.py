"""Runs that people start, cancel and pause: by their role, under their name. Airflow's client is a fake."""

from __future__ import annotations

import pytest

from api.auth import CONSOLE, Caller
from ml.audit import AuditFilter
from ml.records import ETL_DAG, RETRAIN_DAG, Pipeline, Run

TOKEN = "the-console's-own-key"
CONSOLE_KEY = {"X-API-Key": TOKEN}
PASSWORD = "correct horse battery"


class Airflow:
    """Does as it is told, and remembers."""

    def __init__(self):
        self.told = []

    def trigger(self, dag_id, run_id, conf):
        self.told.append(("start", dag_id, conf))
        return Run(dag_id=dag_id, run_id=run_id, state="queued", started_at=None, ended_at=None)

    def cancel(self, dag_id, run_id):
        self.told.append(("cancel", dag_id, run_id))
        return Run(dag_id=dag_id, run_id=run_id, state="failed", started_at=None, ended_at=None)

    def pause(self, dag_id):
        self.told.append(("pause", dag_id))

    def unpause(self, dag_id):
        self.told.append(("unpause", dag_id))

    def pipeline(self, dag_id):
        return Pipeline(dag_id=dag_id, paused=self.told[-1][0] == "pause")


@pytest.fixture(scope="module")
def api(serve, make_settings):
    with serve(make_settings(api_token=TOKEN, promotion_policy="approval")) as made:
        made.services.store.migrate()
        assert made.services.airflow  # made beside the start: it must not come after the fake
        made.services.__dict__["_airflow"] = Airflow()
        for role in ("viewer", "planner", "analyst", "manager"):
            made.services.accounts.create(f"a.{role}", role, "tests", PASSWORD)
        yield made


@pytest.fixture
def person(api):
    def headers(role):
        body = {"name": f"a.{role}", "password": PASSWORD}
        return {"X-API-Key": api.post("/v1/sessions", json=body, headers=CONSOLE_KEY).json()["token"]}

    return headers


def audited(api, action):
    return [(e.actor, e.subject) for e in api.services.audit.page(AuditFilter(action=action)).items]


def test_a_run_is_started_and_cancelled_in_the_persons_name(api, person):
    headers = person("analyst")
    run = api.post("/v1/retrain", json={"conf": {"trials": 1}}, headers=headers).json()
    assert audited(api, "run.started")[0] == ("a.analyst", run["run_id"])
    ended = api.http.delete(f"/v1/runs/{RETRAIN_DAG}/{run['run_id']}", headers=headers)
    assert ended.json()["state"] == "failed"
    assert audited(api, "run.cancelled") == [("a.analyst", run["run_id"])]


def test_asked_again_under_the_same_key_it_is_one_run(api, person):
    headers = person("planner") | {"Idempotency-Key": "console-1"}
    first, again = (api.post("/v1/etl", json={"conf": {"source": "demo"}}, headers=headers).json() for _ in range(2))
    assert first["run_id"] == again["run_id"]
    assert api.services.airflow.told.count(("start", ETL_DAG, {"source": "demo"})) == 1


def test_each_pipeline_is_paused_by_who_may_start_it(api, person):
    planner, analyst = person("planner"), person("analyst")
    for dag_id, headers, status in ((ETL_DAG, planner, 200), (RETRAIN_DAG, planner, 403), (RETRAIN_DAG, analyst, 200)):
        reply = api.http.put(f"/v1/pipelines/{dag_id}/paused", json={"paused": True}, headers=headers)
        assert reply.status_code == status
    assert audited(api, "pipeline.paused") == [("a.analyst", RETRAIN_DAG), ("a.planner", ETL_DAG)]
    turned = api.http.put(f"/v1/pipelines/{ETL_DAG}/paused", json={"paused": False}, headers=planner)
    assert turned.json()["paused"] is False


def test_nobody_below_a_manager_goes_round_the_approval(api, person):
    by_itself, as_set = {"conf": {"policy": "auto"}}, {"conf": {"policy": None}}
    analyst, manager = person("analyst"), person("manager")
    refused = api.post("/v1/retrain", json=by_itself, headers=analyst)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert api.post("/v1/retrain", json=as_set, headers=analyst).status_code == 202
    assert api.post("/v1/retrain", json=by_itself, headers=manager).status_code == 202


def test_who_stands_in_the_audit_of_the_champion():
    person = Caller("ana", "manager", None, "a1", "s1")
    key = Caller("ERP", "manager", "k1")
    assert [who.named("the boss") for who in (person, key, CONSOLE)] == ["ana", "the boss (key ERP)", "the boss"]
    assert [who.named(None) for who in (person, key, CONSOLE)] == ["ana", "ERP", "console"]
