"""What the processes of the product write down: one JSON object per line, and never a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.ports import free_ports
from ml.settings import Settings, variable

CANARY = "canary-"
GIVEN = {name: f"{CANARY}{name}-7f3a9c" for name in ("api_token", "airflow_password")}
S3 = {"AWS_ACCESS_KEY_ID": f"{CANARY}s3-id", "AWS_SECRET_ACCESS_KEY": f"{CANARY}s3-secret-7f3a9c"}
AWAY = "http://127.0.0.1:9"
KEY = {"X-API-Key": GIVEN["api_token"]}
# what a person may send by mistake, or on purpose: a key in a path, in a query, in a body, as another's
SENT = f"{CANARY}sent-7f3a9c"


@pytest.fixture(scope="module")
def settings(make_settings):
    return make_settings(lake="s3://gone/away", **GIVEN)


@pytest.fixture(scope="module")
def env(settings):
    given = {name: getattr(settings, name) for name in Settings.model_fields}
    values = {variable(name): str(value) for name, value in given.items() if value not in (None, "")}
    away = {"AWS_ENDPOINT_URL_S3": AWAY, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1", **S3}
    return {**os.environ, **values, **away}


@pytest.fixture(scope="module")
def said(env, tmp_path_factory):
    """Answers of an API that is asked everything wrongly, and what it, a worker and a step have written down."""
    folder = tmp_path_factory.mktemp("logs")
    (port,) = free_ports(1)
    files = {name: folder / name for name in ("api", "worker", "step")}
    commands = {
        "api": ["-m", "api", "--port", str(port)],
        "worker": ["-m", "api.worker"],
        "step": ["-m", "ml.jobs", "etl", "collect", "--conf", json.dumps({"source": "demo"})],
    }
    started = {}
    for name, words in commands.items():
        with files[name].open("wb") as file:
            started[name] = subprocess.Popen([sys.executable, *words], env=env, stdout=file, stderr=file)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_up(client)
            answers = list(asked(client))
        started["step"].wait(timeout=60)
    finally:
        for name in ("api", "worker"):
            started[name].terminate()
            started[name].wait(timeout=30)
        started["step"].kill()
    return {"answers": answers, **{name: file.read_text() for name, file in files.items()}}


def wait_until_up(client, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if client.get("/livez").status_code == 200 and client.get("/v1/keys", headers=KEY).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the API did not come up")


def asked(client):
    made = client.post("/v1/keys", json={"name": "Tills", "role": "planner"}, headers=KEY).json()
    told = {"url": f"{AWAY}/hook", "events": ["data.accepted"]}
    hook = client.post("/v1/webhooks", json=told, headers=KEY).json()
    secrets = {"key": made["secret"], "webhook": hook["secret"]}
    assert len(set(secrets.values())) == 2
    yield "secrets", secrets
    mine = {"X-API-Key": made["secret"]}
    for headers in (KEY, mine, {"X-API-Key": SENT}, {"Authorization": f"Bearer {SENT}"}, {}):
        for method, path, body in REQUESTS:
            reply = client.request(method, path, content=body, headers={**headers, "X-Request-ID": "r-1"})
            yield f"{method} {path} {reply.status_code}", reply.text + str(reply.headers)


REQUESTS = [
    ("GET", "/health", None),
    ("GET", "/v1/keys", None),
    ("GET", "/v1/webhooks", None),
    ("GET", "/v1/models", None),
    ("GET", "/metrics", None),
    ("GET", f"/v1/uploads?api_key={SENT}", None),
    ("GET", f"/v1/{SENT}/x", None),
    ("GET", f"/v1/models/{SENT}", None),
    ("GET", f"/historical-predictions?cursor={SENT}", None),
    ("POST", "/predict", json.dumps({"store": SENT, "date": SENT}).encode()),
    ("POST", "/v1/etl", json.dumps({"conf": {"source": "demo"}}).encode()),
    ("POST", "/v1/etl", json.dumps({"conf": SENT}).encode()),
    ("POST", "/v1/uploads?filename=a.csv", b"date,sales\n2026-01-01,1\n"),
    ("POST", "/v1/models/1/promote", json.dumps({"reason": "x", "actor": SENT}).encode()),
    ("PUT", "/v1/actuals", SENT.encode()),
]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_every_line_is_one_object_with_what_a_reader_needs(said, name):
    found = lines(said[name])
    assert found
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in found)
    assert all(line["time"].endswith("Z") for line in found)


def test_every_request_is_one_line_that_says_who_what_and_how_long(said):
    access = [line for line in lines(said["api"]) if line["logger"] == "api.access"]
    of = [line for line in access if line["request_id"] == "r-1"]
    assert len(of) == 5 * len(REQUESTS)
    assert all(len(line["trace_id"]) == 32 and len(line["span_id"]) == 16 for line in access)
    assert all(line["milliseconds"] > 0 for line in access)
    routes = {line["route"] for line in of}
    assert routes >= {"/health", "/v1/models/{version}", "/predict", "unknown", "refused"}
    assert {(line["caller"], line["role"]) for line in of if "role" in line} >= {("console", "admin")}
    assert {line["role"] for line in of if line.get("caller") != "console" and "role" in line} == {"planner", "viewer"}
    refused = [line for line in of if line["status"] == 401]
    assert refused
    assert not any("caller" in line for line in refused)


def test_a_problem_is_in_the_log_under_the_id_of_its_request(said):
    trouble = [line for line in lines(said["api"]) if line["logger"] == "api" and line["level"] == "WARNING"]
    assert any(line.get("request_id") == "r-1" for line in trouble)


def test_no_secret_is_written_down_or_answered(said, settings):
    secrets = {**GIVEN, **S3, "database": urlsplit(settings.database_url).password, "sent": SENT}
    (_, shown), *answers = said["answers"]
    secrets |= shown
    places = [(name, said[name]) for name in ("api", "worker", "step")] + answers
    assert (len(secrets), len(places)) == (8, 3 + 5 * len(REQUESTS))
    assert [(place, name) for place, text in places for name, key in secrets.items() if key in text] == []
