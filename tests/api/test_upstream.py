"""MLflow, Airflow and the object store answer wrongly, or not at all: the last champion goes on, and says the same.

33 cases, each asked one or two ways; ``UPSTREAM_SLOW=1`` also those that wait for time to run out (4 more).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

HTML = b"<html><body>502 Bad Gateway</body></html>"


def http(status, body, kind=b"text/html", length=None):
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, kind, len(body) if length is None else length) + body


SAYS = {
    "error": http(b"500 Internal Server Error", HTML),
    "unavailable": http(b"503 Service Unavailable", b"{}", b"application/json"),
    "page": http(b"200 OK", HTML),
    "noise": b"\x00\xff\x17\x03garbage\r\n\r\n" * 50,
    "other JSON": http(b"200 OK", b'[1, {"a": null}]', b"application/json"),
    "number": http(b"200 OK", b"1e400", b"application/json"),
    "empty": http(b"200 OK", b"", b"application/json"),
    "cut": http(b"200 OK", b'{"registered_model": {"name', b"application/json", 5000),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
}
SLOW = ("silent", "drip") if os.environ.get("UPSTREAM_SLOW") else ()  # minutes of waiting
SERVICES = ("mlflow", "airflow", "object store")
CASES = [
    (service, kind)
    for service in SERVICES
    for kind in (*SAYS, "reset", *(SLOW if service != "object store" else ()))  # boto3 waits for minutes
]


class Upstream:
    """A server on a bare socket that does to each connection what ``kind`` says."""

    def __init__(self):
        self.kind, self.taken = "nothing", 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.taken += 1
                threading.Thread(target=self._serve, args=(connection, self.kind), daemon=True).start()

    def _serve(self, connection, kind):
        with suppress(OSError), connection:
            connection.settimeout(30)
            connection.recv(1 << 16)
            if kind == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif kind == "silent":
                time.sleep(30)
            elif kind == "drip":
                for byte in SAYS["page"]:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.3)
            else:
                connection.sendall(SAYS[kind])


@pytest.fixture(scope="module")
def upstreams():
    made = {name: Upstream() for name in SERVICES}
    yield made
    for server in made.values():
        server.listener.close()


@pytest.fixture(scope="module")
def api(serve, trained, move_champion, upstreams, new_database, tmp_path_factory):
    """The champion of before on this disk; everything it asks for answers as the test says."""
    folder = tmp_path_factory.mktemp("upstream")
    changed = {
        "data_dir": folder,
        "database_url": move_champion(folder, new_database()),
        "mlflow_url": upstreams["mlflow"].url,
        "airflow_url": upstreams["airflow"].url,
        "lake": "s3://control-room/lake",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", upstreams["object store"].url)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        with serve(trained.model_copy(update=changed)) as made:
            yield made.ready()


@pytest.fixture(scope="module")
def said(api, row):
    """What the champion says of a row, before anything goes wrong."""
    return api.post("/predict", json=row).json()["prediction"]


ASKS = {
    "mlflow": (("GET", "/v1/models", None), ("POST", "/v1/models/2/promote", {"reason": "x", "actor": "me"})),
    "airflow": (("GET", "/v1/runs/retrain_sales_model", None), ("POST", "/v1/etl", {"conf": {}})),
    "object store": (("POST", "/v1/uploads?filename=a.csv", "date,sales\n2026-01-01,1\n2026-01-02,2\n"),),
}


@pytest.mark.parametrize(("service", "kind"), CASES)
def test_the_champion_goes_on_and_the_trouble_is_named(api, upstreams, said, row, service, kind):
    upstreams[service].kind = kind
    before = upstreams[service].taken
    for method, path, body in ASKS[service]:
        how = {"content": body} if isinstance(body, str) else {"json": body}
        reply = api.http.request(method, path, **how)
        if (service, kind) == ("mlflow", "empty"):  # MLflow's client takes this for an answer that names nothing
            assert reply.status_code in (200, 404)
        else:
            assert reply.status_code == 503, reply.text
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json()["detail"].startswith(service), reply.text
        answer = api.post("/predict", json=row).json()
        assert (answer["prediction"], answer["model"]["version"]) == (said, "1")
        assert api.get("/livez").status_code == api.get("/readyz").status_code == 200
    assert upstreams[service].taken > before
