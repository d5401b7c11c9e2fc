"""One trace from whoever asks to everything that is asked for it, on real servers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from control_room.clients.api import ApiClient
from ml import tracing
from ml.webhooks import Webhooks

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
CSV = b"date,store,product,sales\n2026-01-01,S,P,1\n2026-01-02,S,P,2\n"


class Upstream:
    """Takes every call, keeps what it was sent, and answers as Airflow does where that is asked for."""

    def __init__(self):
        self.seen = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                said = json.dumps(outer.reply(self.command, self.path, body)).encode()
                self.send_response(201 if self.path == "/auth/token" else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reply(self, method, path, body):
        if path == "/auth/token":
            return {"access_token": "t"}
        if path.endswith("/dagRuns") and method == "POST":
            asked = json.loads(body)
            return {**RUN, "dag_run_id": asked["dag_run_id"], "conf": asked["conf"]}
        if "/dagRuns" in path:
            return {"dag_runs": [], "total_entries": 0}
        return DAG if path.startswith("/api/v2/dags/") else {}

    def of(self, part):
        return [(headers, body) for path, headers, body in self.seen if part in path]


RUN = {
    "dag_id": "process_etl_sales_data", "state": "queued", "run_type": "manual", "dag_versions": [],
    "run_after": "2026-01-01T00:00:00Z", "dag_display_name": "x", "triggered_by": "rest_api",
    "logical_date": None, "queued_at": None, "start_date": None, "end_date": None, "duration": None,
    "data_interval_start": None, "data_interval_end": None, "last_scheduling_decision": None,
    "triggering_user_name": None, "note": None, "bundle_version": None, "partition_key": None,
}  # fmt: skip
DAG = {
    "dag_id": "process_etl_sales_data", "dag_display_name": "x", "is_paused": False, "is_stale": False,
    "fileloc": "x", "file_token": "x", "owners": [], "tags": [], "max_active_tasks": 1, "max_active_runs": 1,
    "max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False, "has_import_errors": False,
    "is_backfillable": True, "timetable_partitioned": False, "timetable_periodic": False, "allowed_run_types": None,
    "bundle_name": None, "bundle_version": None, "relative_fileloc": None, "last_parsed_time": None,
    "last_parse_duration": None, "last_expired": None, "description": None, "timetable_summary": None,
    "timetable_description": None, "next_dagrun_logical_date": None, "next_dagrun_data_interval_start": None,
    "next_dagrun_data_interval_end": None, "next_dagrun_run_after": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def upstream():
    made = Upstream()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def api(serve, make_settings, upstream):
    with serve(make_settings(mlflow_url=upstream.url, airflow_url=upstream.url)) as made:
        made.wait_for(lambda: made.services.store.revision() is not None)
        made.services.teller.stop()
        yield made


def trace_of(reply):
    version, trace_id, span_id, flags = reply.headers["traceresponse"].split("-")
    assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "01")
    return trace_id


@pytest.mark.parametrize("path", ["/livez", "/v1/uploads", "/v1/nowhere"])
def test_a_valid_parent_is_continued_and_an_invalid_one_is_not(api, path):
    assert trace_of(api.get(path, headers=PARENT)) == TRACE
    assert api.get(path, headers=PARENT).headers["traceresponse"] != PARENT["traceparent"]
    fresh = {
        trace_of(api.get(path, headers={"traceparent": bad})) for bad in ("", "junk", PARENT["traceparent"] + "-x")
    }
    assert len(fresh) == 3
    assert TRACE not in fresh


def test_two_parents_are_none(api):
    twice = [("traceparent", PARENT["traceparent"])] * 2
    assert trace_of(api.get("/livez", headers=twice)) != TRACE


def test_without_ids_the_trace_and_the_request_have_one(api):
    reply = api.get("/livez")
    assert trace_of(reply) == reply.headers["x-request-id"]


def test_requests_of_one_trace_keep_ids_of_their_own(api):
    """What is logged under a request id is found again as one request: a trace may hold many."""
    ids = {api.get("/livez", headers=PARENT).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_mlflow_is_asked_under_the_same_trace(api, upstream):
    upstream.seen.clear()
    api.get("/v1/models", headers=PARENT)
    mine = [headers for headers, _ in upstream.of("/mlflow/") if headers.get("traceparent", "")[3:35] == TRACE]
    assert mine
    assert all(headers["tracestate"] == "vendor=1" for headers in mine)


def test_airflow_is_asked_under_the_same_trace_and_the_run_is_told(api, upstream):
    upstream.seen.clear()
    reply = api.post("/v1/etl", json={"conf": {"source": "demo", "traceparent": "junk"}}, headers=PARENT)
    assert reply.status_code == 202, reply.text
    started = [(headers, json.loads(body)) for headers, body in upstream.of("/dagRuns") if body]
    ((headers, body),) = started
    assert headers["traceparent"][3:35] == TRACE
    assert body["conf"]["traceparent"][3:35] == TRACE
    assert body["conf"]["request_id"] == reply.headers["x-request-id"]
    assert body["conf"]["source"] == "demo"


def test_one_id_runs_from_the_console_to_the_conf(api, upstream):
    upstream.seen.clear()
    ApiClient(api.url).etl({"source": "demo"})
    ((_, body),) = [found for found in upstream.of("/dagRuns") if found[1]]
    conf = json.loads(body)["conf"]
    assert conf["traceparent"][3:35] == conf["request_id"]


def test_a_webhook_is_told_under_the_trace_of_what_it_is_told_of(api, upstream):
    hooks = Webhooks(api.services.store)
    hooks.create(f"{upstream.url}/hook", ["data.accepted"], "me")
    upload = api.post("/v1/uploads?filename=a.csv", content=CSV).json()
    assert api.post(f"/v1/uploads/{upload['upload_id']}/accept", headers=PARENT).status_code == 200
    upstream.seen.clear()
    api.services.teller.look()
    ((headers, _),) = upstream.of("/hook")
    assert headers["traceparent"][3:35] == TRACE


def test_a_promotion_and_what_nobody_asked_for(api):
    store = api.services.store
    tracing.begin(tracing.continued([PARENT["traceparent"]], request_id="r1"))
    try:
        made = store.promote("1", expected_previous=None, actor="me", reason="test")
    finally:
        tracing.begin(None)
    cause = store.cause(f"promotion-{made.promotion_id}")
    assert (cause.trace_id, cause.request_id) == (TRACE, "r1")
    assert store.cause("promotion-0").trace_id != TRACE
