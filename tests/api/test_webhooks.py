"""Events reach those who asked for them: signed, once each where all is well, and again where it was not."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from api.telling import Teller, accepted_uploads, drifted_data, finished_jobs, finished_runs, promotions
from control_room.clients.api import ApiClient
from ml import webhooks as module
from ml.errors import NotFound, ServiceDown
from ml.records import Drift, Event, FeatureDrift, Job, ModelRef, Run
from ml.webhooks import Webhooks, deliveries

KINDS = ["model.promoted", "run.finished", "job.finished", "drift.detected", "data.accepted"]


class Receiver:
    """A server that keeps what it is sent, and answers as it is told."""

    def __init__(self):
        self.seen, self.status = [], 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.seen.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(outer.status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, event_id):
        return [(headers, body) for headers, body in self.seen if headers["webhook-id"] == event_id]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def apart(serve, make_settings):
    """An API whose own teller rests: the tests look and send."""
    with serve(make_settings()) as api:
        api.wait_for(lambda: api.services.store.revision() is not None)
        api.services.teller.stop()
        yield api


@pytest.fixture
def hooks(apart):
    found = Webhooks(apart.services.store)
    yield found
    for hook in found.all():
        found.remove(hook.webhook_id)


def event(name, kind="run.finished", at=None):
    return Event(event_id=name, kind=kind, at=at or dt.datetime.now(dt.UTC), data={"state": "success"})


def teller(apart, *found):
    return Teller(apart.services, {"run.finished": lambda services, since: found})


def hurry(apart):
    """Everything that waits is due now."""
    with apart.services.store.begin() as connection:
        connection.execute(deliveries.update().values(due_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)))


def test_an_event_is_posted_once_and_its_signature_proves_it(apart, hooks, receiver):
    secret = hooks.create(receiver.url, ["run.finished"], "me").secret
    told = teller(apart, event("once"), event("once"), event("not-asked-for", "drift.detected"))
    for _ in range(3):
        told.look()
    ((headers, body),) = receiver.seen
    assert json.loads(body)["type"] == "run.finished"
    assert json.loads(body)["id"] == headers["webhook-id"] == "once"
    signed = f"once.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def test_what_does_not_arrive_is_sent_again_later_until_it_does(apart, hooks, receiver):
    hook = hooks.create(receiver.url, ["run.finished"], "me").webhook
    told = teller(apart, event("again"))
    receiver.status = 500
    told.look()
    told.look()  # not due yet
    assert len(receiver.of("again")) == 1
    receiver.status = 302  # nobody is led elsewhere
    hurry(apart)
    told.look()
    (waiting,) = hooks.deliveries(hook.webhook_id)
    assert (waiting.state, waiting.attempts, waiting.answer) == ("waiting", 2, "HTTP 302")
    assert waiting.due_at - dt.datetime.now(dt.UTC) > dt.timedelta(seconds=15)
    receiver.status = 200
    hurry(apart)
    told.look()
    (arrived,) = hooks.deliveries(hook.webhook_id)
    assert (arrived.state, arrived.attempts) == ("delivered", 3)
    assert len({body for _, body in receiver.of("again")}) == 1


def test_it_is_given_up_in_the_end_and_sent_again_when_asked(apart, hooks, receiver, monkeypatch):
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 2)
    hook = hooks.create("http://127.0.0.1:9/nobody", ["run.finished"], "me").webhook
    told = teller(apart, event("lost"))
    for _ in range(4):
        told.look()
        hurry(apart)
    (lost,) = hooks.deliveries(hook.webhook_id)
    assert (lost.state, lost.attempts, lost.answer) == ("given up", 2, "ConnectionError")
    asked = apart.post(f"/v1/webhooks/{hook.webhook_id}/deliveries/lost")
    assert asked.status_code == 202
    assert asked.json()["items"][0]["state"] == "waiting"
    with pytest.raises(NotFound):
        hooks.again(hook.webhook_id, "never was")


def test_two_processes_do_not_send_the_same(apart, hooks, receiver):
    hooks.create(receiver.url, ["run.finished"], "me")
    tellers = [teller(apart, *(event(f"shared-{k}") for k in range(20))) for _ in range(4)]
    threads = [threading.Thread(target=one.look) for one in tellers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tellers[0].look()
    names = [headers["webhook-id"] for headers, _ in receiver.seen]
    assert sorted(names) == sorted(f"shared-{k}" for k in range(20))


def test_a_delivery_that_was_taken_up_by_a_killed_process_is_due_again(apart, hooks, receiver):
    hooks.create(receiver.url, ["run.finished"], "me")
    hooks.emit([event("taken")])
    assert [due.event.event_id for due in hooks.due()] == ["taken"]
    assert hooks.due() == []
    hurry(apart)
    assert [(due.event.event_id, due.attempts) for due in hooks.due()] == [("taken", 2)]


def test_of_what_was_before_nobody_is_told(apart, hooks, receiver):
    hooks.create(receiver.url, ["run.finished"], "me")
    teller(apart, event("old", at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))).look()
    assert receiver.seen == []


def test_a_removed_webhook_is_told_no_more(apart, hooks, receiver):
    hook = hooks.create(receiver.url, ["run.finished"], "me").webhook
    hooks.emit([event("too late")])
    assert apart.http.delete(f"/v1/webhooks/{hook.webhook_id}").status_code == 204
    teller(apart, event("later")).look()
    assert receiver.seen == []
    assert hooks.deliveries(hook.webhook_id)[0].state == "dropped"
    assert apart.http.delete(f"/v1/webhooks/{hook.webhook_id}").status_code == 404


def test_a_source_that_is_away_keeps_no_other_from_being_told(apart, hooks, receiver):
    def away(services, since):
        raise ServiceDown("airflow")

    hooks.create(receiver.url, ["drift.detected", "run.finished"], "me")
    told = {"drift.detected": away, "run.finished": lambda services, since: [event("told all the same")]}
    Teller(apart.services, told).look()
    assert len(receiver.seen) == 1


def test_through_the_api_the_secret_is_shown_once(apart, hooks, receiver):
    made = apart.post("/v1/webhooks", json={"url": receiver.url, "events": KINDS})
    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    listed = apart.get("/v1/webhooks")
    assert listed.json()["items"] == [made.json()["webhook"]]
    assert made.json()["secret"] not in listed.text


def test_the_client_does_the_same(apart, hooks, receiver):
    client = ApiClient(apart.url)
    made = client.make_webhook(receiver.url, ["run.finished"])
    assert client.webhooks() == (made.webhook,)
    teller(apart, event("for the client")).look()
    (delivery,) = client.deliveries(made.webhook.webhook_id)
    assert delivery.state == "delivered"
    with pytest.raises(NotFound):
        client.deliver_again(made.webhook.webhook_id, "other")
    client.remove_webhook(made.webhook.webhook_id)
    assert client.webhooks() == ()


@pytest.mark.parametrize(
    "body",
    [
        {"url": "ftp://example.org/x", "events": KINDS},
        {"url": "https://user:word@example.org/x", "events": KINDS},
        {"url": "example.org", "events": KINDS},
        {"url": "https://example.org/x", "events": []},
        {"url": "https://example.org/x", "events": ["everything"]},
        {"url": "https://example.org/x\n", "events": KINDS},
    ],
)
def test_what_is_no_address_or_no_event_is_refused(apart, body):
    assert apart.post("/v1/webhooks", json=body).status_code == 422


# ---------------------------------------------------------------- where events come from

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def test_accepted_uploads_are_events(apart):
    sold = "date,store,product,sales\n" + "".join(f"2026-01-{d:02d},S,P,{d}\n" for d in range(1, 29))
    upload = apart.post("/v1/uploads", params={"filename": "told.csv"}, content=sold.encode()).json()
    assert list(accepted_uploads(apart.services, LONG_AGO)) == []
    apart.post(f"/v1/uploads/{upload['upload_id']}/accept")
    (told,) = accepted_uploads(apart.services, LONG_AGO)
    assert told.event_id == f"upload-{upload['upload_id']}"
    assert (told.kind, told.data["filename"], told.data["rows_used"]) == ("data.accepted", "told.csv", 28)


def test_moves_of_the_champion_are_events(served):
    moves = list(promotions(served.services, LONG_AGO))
    assert {move.kind for move in moves} == {"model.promoted"}
    assert moves[-1].data["version"] == "1"
    assert list(promotions(served.services, dt.datetime.now(dt.UTC))) == []


def test_jobs_are_events_once_they_have_ended(apart, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    ref = ModelRef(name="sales", version="1", alias="champion", run_id="r")
    facts = {"filename": "f.csv", "bytes": 1, "sha256": "0", "model": ref, "data_version": "d", "created_at": now,
             "created_by": "me"}  # fmt: skip
    jobs = [
        Job(job_id="ended", state="failed", ended_at=now, error="no", **facts),
        Job(job_id="runs", state="running", **facts),
    ]
    monkeypatch.setattr(type(apart.services.board), "jobs", lambda self, limit: jobs)
    (told,) = finished_jobs(apart.services, LONG_AGO)
    assert (told.event_id, told.kind, told.data["state"]) == ("job-ended", "job.finished", "failed")


def test_ended_runs_are_events_and_running_ones_are_not(served, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    runs = [
        Run(dag_id="x", run_id="ended", state="failed", started_at=now, ended_at=now),
        Run(dag_id="x", run_id="runs", state="running", started_at=now, ended_at=None),
    ]
    monkeypatch.setattr(type(served.services.airflow), "runs", lambda self, dag_id: runs)
    found = list(finished_runs(served.services, LONG_AGO))
    assert {(e.event_id, e.data["state"]) for e in found} == {("run-ended", "failed")}


@pytest.mark.parametrize(("level", "told"), [("strong", ["drift.detected"]), ("none", [])])
def test_drift_is_an_event_only_where_there_is_some(served, level, told):
    snapshot = served.services.published.current.snapshot
    one = FeatureDrift(feature="price", kind="numeric", psi=0.4, distance=0.2, noise=0.1, level=level)
    drift = Drift(version="1", features=(one,))
    data = SimpleNamespace(snapshot=snapshot.model_copy(update={"drift": drift}))
    services = SimpleNamespace(published=SimpleNamespace(current=data))
    found = list(drifted_data(services, LONG_AGO))
    assert [e.kind for e in found] == told
    assert [e.data["features"][0]["feature"] for e in found] == ["price"] * len(told)
