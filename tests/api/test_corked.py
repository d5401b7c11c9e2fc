"""The head of an answer travels with its body, and does not wait for one that takes its time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from api.corked import Corked
from api.deadlines import DeadlineProtocol
from tests.uvicorns import running

START = {"type": "http.response.start", "status": 200}
SLOW = 0.4


async def app(scope, receive, send):
    """``/whole`` at once, ``/slow`` a body that comes later, in pieces; ``/large`` one that no buffer takes."""
    if scope["type"] != "http":
        return
    await receive()
    if scope["path"] == "/slow":
        await send({**START, "headers": []})
        for piece in (b"one", b"two"):
            await asyncio.sleep(SLOW)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    body = b"x" * (20_000_000 if scope["path"] == "/large" else 5)
    await send({**START, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    with running(app, http=DeadlineProtocol, lifespan="off") as port:
        yield port


@contextlib.contextmanager
def asked(port, path, headers=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, headers))
        yield connection


def test_head_and_body_are_handed_over_in_one_call(port, monkeypatch):
    pieces = []
    taken = Corked.__init__

    def noted(self, transport, loop):
        taken(self, transport, loop)
        self._write = lambda data: (pieces.append(bytes(data)), transport.write(data))

    monkeypatch.setattr(Corked, "__init__", noted)
    with asked(port, b"/whole") as connection:
        assert connection.recv(1 << 16).endswith(b"\r\n\r\nxxxxx")
        connection.sendall(b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n" * 2)  # the second waits for the first
        found = b""
        while found.count(b"xxxxx") < 2:
            found += connection.recv(1 << 16)
    assert len(pieces) == 3
    assert all(piece.startswith(b"HTTP/1.1 200 OK\r\n") and piece.endswith(b"\r\n\r\nxxxxx") for piece in pieces)


def test_a_head_does_not_wait_for_a_body_that_comes_later(port):
    with asked(port, b"/slow") as connection:
        begin = time.perf_counter()
        head = connection.recv(1 << 16)
        assert time.perf_counter() - begin < SLOW
        assert head.endswith(b"\r\n\r\n")
        assert connection.recv(1 << 16) == b"3\r\none\r\n"
        assert connection.recv(1 << 16).startswith(b"3\r\ntwo\r\n")


def test_whoever_asks_whether_to_go_on_is_told_before_the_answer(port):
    with asked(port, b"/whole", b"Expect: 100-continue\r\nContent-Length: 2\r\n") as connection:
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(1 << 16).endswith(b"xxxxx")


def test_what_no_buffer_takes_comes_whole_and_the_connection_is_closed_after_it(port):
    with asked(port, b"/large", b"Connection: close\r\n") as connection:
        found = bytearray()
        while piece := connection.recv(1 << 20):
            found += piece
    head, _, body = bytes(found).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert body == b"x" * 20_000_000
