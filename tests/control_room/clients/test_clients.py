"""The clients against a real HTTP server: what goes out, what comes back, time-outs and broken answers as types."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from airflow_client.client import DAGResponse

from control_room.clients.airflow import AirflowClient
from control_room.clients.api import ApiClient, prediction_body
from control_room.clients.mlflow import MlflowClient
from ml.errors import Conflict, InputError, NotFound, ServiceDown, TooLarge
from ml.orchestration import _pipeline
from ml.records import Mapping, PredictionInput, ReadOptions, RowError

NOW = "2026-01-04T10:42:11Z"
ANSWER = {
    "date": "2026-01-05", "store": "S01", "product": "P001", "prediction": 21.7, "unit": "units/day",
    "interval": {"80": [16.0, 27.9]}, "support": {"similar_days": 28, "level": "ok"}, "inputs": {},
    "model": {"name": "sales", "version": "8", "alias": "champion", "run_id": "r"}, "data_version": "d",
    "request_id": "q", "created_at": NOW, "warnings": [],
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Answers every request with ``answer`` = (status, body, seconds to wait) and keeps what it was asked."""

    answer: tuple[int, Any, float] = (200, {}, 0.0)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, reply, wait = self.server.answer
        time.sleep(wait)
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        with contextlib.suppress(BrokenPipeError):  # the client did not wait
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = _any

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def api(server: Server) -> ApiClient:
    return ApiClient(server.url, "secret", read_seconds=0.3)


def problem(code: str, status: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "x",
        "title": "t",
        "status": status,
        "detail": "what, where",
        "code": code,
        "request_id": "req-9",
        **more,
    }


def test_predictions_and_row_errors_in_order(server, api):
    error = {"row": 2, "field": "price", "code": "price", "message": "must be above 0"}
    server.answer = (200, {"predictions": [ANSWER, {"error": error}]}, 0)
    row = PredictionInput(date=dt.date(2026, 1, 5), store="S01", regressors={"campaign": 1.0})
    good, bad = api.predict([row, row])
    assert good.prediction == 21.7
    assert bad == RowError(**error)
    _, path, headers, body = server.asked[0]
    assert path == "/predict?model=champion&source=console"
    assert headers["X-API-Key"] == "secret"
    assert json.loads(body)["instances"][0] == {"date": "2026-01-05", "store": "S01", "campaign": 1.0}


def test_only_what_is_known_is_sent():
    assert prediction_body(PredictionInput(date=dt.date(2026, 1, 5))) == {"date": "2026-01-05"}


def test_filters_that_are_not_set_do_not_travel(server, api):
    server.answer = (200, {"items": [], "next_cursor": None}, 0)
    api.history({"store": "S 1&x", "has_actual": True, "version": None, "from": dt.date(2026, 1, 1)}, limit=50)
    assert server.asked[0][1] == "/historical-predictions?store=S+1%26x&has_actual=true&from=2026-01-01&limit=50"


def test_ids_cannot_leave_their_place_in_the_path(server, api):
    server.answer = (404, problem("not_found", 404), 0)
    with pytest.raises(NotFound):
        api.upload("../models?x=1")
    assert server.asked[0][1] == "/v1/uploads/..%2Fmodels%3Fx%3D1"


def test_a_file_goes_out_byte_for_byte(server, api):
    server.answer = (409, problem("conflict", 409), 0)
    with pytest.raises(Conflict):
        api.send("mes 1.csv", b"\xff\x00a,b", "training")
    method, path, headers, body = server.asked[0]
    assert (method, path, body) == ("POST", "/v1/uploads?filename=mes+1.csv&purpose=training", b"\xff\x00a,b")
    assert headers["Content-Type"] == "application/octet-stream"


def test_read_again_sends_options_and_mapping(server, api):
    server.answer = (422, problem("input", 422), 0)
    with pytest.raises(InputError):
        api.check("u1", ReadOptions(decimal=","), Mapping(roles={"date": "fecha"}))
    sent = json.loads(server.asked[0][3])
    assert sent["options"]["decimal"] == ","
    assert sent["mapping"]["roles"] == {"date": "fecha"}


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("conflict", 409, Conflict),
        ("too_large", 413, TooLarge),
        ("input", 422, InputError),
        ("not_found", 404, NotFound),
    ],
)
def test_problems_come_back_as_what_they_were(server, api, code, status, kind):
    rows = [{"row": 3, "field": "date", "code": "date", "message": "is not a date"}]
    server.answer = (status, problem(code, status, errors=rows), 0)
    with pytest.raises(kind) as caught:
        api.health()
    assert str(caught.value) == "what, where"
    assert caught.value.facts["request_id"] == "req-9"
    assert caught.value.facts["errors"][0].field == "date"


def test_a_service_behind_the_api_is_named(server, api):
    server.answer = (503, problem("service_down", 503) | {"detail": "airflow does not answer: ConnectionError"}, 0)
    with pytest.raises(ServiceDown) as caught:
        api.etl({})
    assert (caught.value.service, caught.value.reason) == ("airflow", "ConnectionError")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {}, 1.0), "no answer within 0.3 s"),
        ((200, b"<html>", 0), "not JSON"),
        ((200, {"status": "ok"}, 0), "unexpected"),
        ((500, b"boom", 0), "answered 500"),
        ((502, {"detail": "bad gateway"}, 0), "answered 502"),
    ],
)
def test_whatever_else_comes_is_a_service_that_does_not_answer(server, api, answer, reason):
    server.answer = answer
    with pytest.raises(ServiceDown, match=reason) as caught:
        api.snapshot()
    assert caught.value.service == "api"


def test_an_answer_of_another_shape_is_not_a_crash(server, api):
    server.answer = (200, {"models": []}, 0)
    for ask in (api.models, api.promotions, api.uploads, lambda: api.predict([])):
        with pytest.raises(ServiceDown, match="unexpected"):
            ask()


def test_nobody_there():
    with pytest.raises(ServiceDown) as caught:
        ApiClient("http://127.0.0.1:9").health()
    assert caught.value.facts["request_id"]


# ---------------------------------------------------------------- MLflow, Airflow


def test_mlflow_runs_with_params_and_metrics(server):
    run = {
        "info": {"run_id": "abc", "run_name": "retrain", "experiment_id": "1", "status": "FINISHED", "start_time": 1000,
                 "end_time": "61000"},
        "data": {"metrics": [{"key": "wape", "value": 0.18}], "params": [{"key": "depth", "value": "7"}]},
    }  # fmt: skip
    server.answer = (200, {"experiments": [{"experiment_id": "1", "name": "sales"}], "runs": [run]}, 0)
    (found,) = MlflowClient(server.url).runs()
    assert (found.experiment, found.params, found.metrics) == ("sales", {"depth": "7"}, {"wape": 0.18})
    assert (found.ended_at - found.started_at).total_seconds() == 60


def test_mlflow_without_experiments_has_no_runs(server):
    assert MlflowClient(server.url).runs() == ()


@pytest.mark.parametrize("answer", [(500, {}, 0), (200, b"<html>", 0)])
def test_mlflow_that_is_broken_is_down(server, answer):
    server.answer = answer
    with pytest.raises(ServiceDown):
        MlflowClient(server.url).runs()
    assert MlflowClient(server.url).health().state == "down"


def test_airflow_that_is_away_is_down():
    client = AirflowClient("http://127.0.0.1:9", "admin", "x")
    with pytest.raises(ServiceDown):
        client.runs("process_etl_sales_data")
    assert client.health().state == "down"


@pytest.mark.parametrize(("summary", "schedule"), [(None, None), ("30 3 * * *", "30 3 * * *"), ("Asset", "Asset")])
def test_the_schedule_of_a_pipeline_is_airflows(summary, schedule):
    reply = DAGResponse.model_construct(
        dag_id="d", is_paused=True, timetable_summary=summary, next_dagrun_run_after=None
    )
    told = _pipeline(reply)
    assert (told.dag_id, told.paused, told.schedule, told.next_run_at) == ("d", True, schedule, None)
