"""The console behind its door, as it is deployed, on a real server."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from deploy import probes
from deploy.ports import free_ports
from ml.settings import variable

ROOT = Path(__file__).resolve().parents[2]
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Its address and its log; every service is away."""
    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import clean_environment, running

    sys.path.pop(0)
    folder = tmp_path_factory.mktemp("console")
    (port,) = free_ports(1)
    given = {"data_dir": folder, "allowed_hosts": "sales.example,.shop.example", "log_format": "json"}
    env = {**clean_environment(), **{variable(name): str(value) for name, value in given.items()}}
    command = [str(Path(sys.executable).parent / "streamlit"), "run", "control_room/server.py"]
    command += [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
    url = f"http://127.0.0.1:{port}"
    with running(command, env, probes.answers(f"{url}/_stcore/health"), folder / "log", cwd=ROOT):
        yield url, folder / "log"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "sales.example.evil", "shop.example", "["])
@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/static/none.js"])
def test_a_foreign_name_is_turned_away(served, host, path):
    assert httpx.get(served[0] + path, headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost", "[::1]", "SALES.example:443", "one.shop.example"])
def test_our_own_names(served, host):
    assert httpx.get(served[0] + "/", headers={"Host": host}).status_code == 200


def test_a_page_of_a_rebound_name_gets_no_session(served):
    """Streamlit compares Origin with Host, which a rebound name passes."""
    evil = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert httpx.get(f"{served[0]}/_stcore/stream", headers={**UPGRADE, **evil}).status_code == 403
    with connect(served[0].replace("http", "ws") + "/_stcore/stream") as session:
        session.ping()


def test_two_names_are_none(served):
    assert asked_as(served[0], "localhost", "evil.example") == 403
    assert asked_as(served[0], "localhost") == 200


def asked_as(url, *hosts):
    """The status of a request with these Host headers, which no client sends."""
    with closing(HTTPConnection(url.removeprefix("http://"))) as connection:
        connection.putrequest("GET", "/", skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        return connection.getresponse().status


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/nowhere"])
def test_headers_of_every_answer(served, path):
    reply = httpx.get(served[0] + path)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["Referrer-Policy"] == "same-origin"


def test_what_it_logs_is_json(served):
    found = [json.loads(line) for line in served[1].read_text().splitlines() if line.startswith("{")]
    assert {"time", "level", "logger", "message"} <= found[0].keys()
