"""Four hundred connections that send slowly, or read nothing, neither stay nor keep others waiting."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import httpx
import pytest

from api import reading
from api.deadlines import DeadlineProtocol
from api.main import create_app
from tests.uvicorns import running

SOCKETS = 400
SECONDS = 2.0


class Impatient(DeadlineProtocol):
    header_seconds = reader_seconds = SECONDS


@pytest.fixture(scope="module")
def port(served):
    """The API of the other tests behind a server that waits two seconds where the deployed one waits longer."""
    app = create_app(served.services.settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "STALLED_SECONDS", SECONDS)
        patch.setattr(reading, "GRACE_SECONDS", SECONDS)
        with running(app, http=Impatient, timeout_keep_alive=2) as port:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                until = time.monotonic() + 60
                while client.get("/readyz").status_code != 200:
                    assert time.monotonic() < until
                    time.sleep(0.1)
            yield port


HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
KINDS = {
    "nothing at all": (b"", b""),
    "headers that do not end": (HEAD, b"X-A: b\r\n"),
    "a body that stops": (HEAD + b"Content-Length: 1000\r\n\r\n{", b""),
    "a body that trickles": (HEAD + b"Content-Length: 1000000\r\n\r\n{", b" "),
}


@pytest.mark.parametrize("kind", KINDS)
def test_slow_senders_are_let_go_and_keep_nobody_waiting(port, kind):
    first, more = KINDS[kind]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(SOCKETS)]
        for one in opened:
            one.sendall(first)
        ended, until = 0, time.monotonic() + 60
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while opened and time.monotonic() < until:
                assert client.get("/livez").status_code == 200
                still = [one for one in opened if not _ended(one, more)]
                ended, opened = ended + len(opened) - len(still), still
                time.sleep(0.3)
    assert ended == SOCKETS


def _ended(one, more):
    """Send some more; whether the other side has ended the connection (with or without an answer)."""
    try:
        one.sendall(more)
        one.settimeout(0.001)
        while one.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_a_reader_that_reads_nothing_is_let_go(port):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        one.sendall(ask * 100)  # some ten megabytes, which the buffers do not hold
        time.sleep(3 * SECONDS)
        got = 0
        with contextlib.suppress(OSError):
            one.settimeout(5)
            while piece := one.recv(1 << 20):
                got += len(piece)
    size = len(httpx.get(f"http://127.0.0.1:{port}/openapi.json").content)
    assert got < 100 * size


def test_a_patient_sender_is_heard(port, row):
    body = json.dumps(row).encode()
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode())
        for byte in (body[:10], body[10:]):
            time.sleep(SECONDS / 4)
            one.sendall(byte)
        assert b" 200 " in one.recv(100)
