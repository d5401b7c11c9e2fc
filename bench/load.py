"""Requests over kept-alive connections, as many as are answered: ``python -m bench.load < job.json``.

A process of its own on bare sockets: an HTTP library would cost more than some of the servers that are measured.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PIECE = 1 << 18


@dataclass(frozen=True)
class Job:
    """``mark``: start of the request ids that are sent; the bodies are sent in turn."""

    port: int
    path: str
    bodies: list[str]
    connections: int
    seconds: float
    mark: str


@dataclass
class Told:
    """``acknowledged``: ids of the requests that were answered with 200; ``milliseconds`` of each of them."""

    seconds: float
    failed: int
    acknowledged: list[str]
    milliseconds: list[float]


class Connection:
    """One request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.id, self.began, self._got = "", 0.0, b""

    def send(self, request_id: str, head: bytes, body: bytes) -> None:
        self.id, self._got, self.began = request_id, b"", time.perf_counter()
        self.socket.sendall(head % (request_id.encode(), len(body)) + body)

    def status(self) -> int | None:
        """The status of the answer once it is whole."""
        piece = self.socket.recv(PIECE)
        if not piece:
            raise ConnectionError("the server has closed the connection")
        self._got += piece
        end = self._got.find(b"\r\n\r\n")
        found = LENGTH.search(self._got, 0, end) if end > 0 else None
        if found is None or len(self._got) < end + 4 + int(found[1]):
            return None
        return int(self._got[9:12])


def load(job: Job) -> Told:
    """Keep every connection busy for so long."""
    head = f"POST {job.path} HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nContent-Type: application/json\r\n".encode()
    head += b"X-Request-ID: %s\r\nContent-Length: %d\r\n\r\n"
    bodies = [body.encode() for body in job.bodies]
    told, sent, waiting = Told(0.0, 0, [], []), 0, job.connections
    selector = selectors.DefaultSelector()
    begin = time.perf_counter()
    for _ in range(job.connections):
        connection = Connection(job.port)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(f"{job.mark}{sent}", head, bodies[sent % len(bodies)])
        sent += 1
    while waiting:
        for key, _ in selector.select():
            status = key.data.status()
            if status is None:
                continue
            now = time.perf_counter()
            _note(told, key.data, status, now)
            if now - begin > job.seconds:
                waiting -= 1
                continue
            key.data.send(f"{job.mark}{sent}", head, bodies[sent % len(bodies)])
            sent += 1
    told.seconds = time.perf_counter() - begin
    return told


def _note(told: Told, connection: Connection, status: int, now: float) -> None:
    if status == 200:
        told.acknowledged.append(connection.id)
        told.milliseconds.append((now - connection.began) * 1000)
    else:
        told.failed += 1


def run(job: Job) -> Told:
    """The job in a process of its own."""
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, cwd=ROOT, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return Told(**found)


if __name__ == "__main__":
    print(json.dumps(asdict(load(Job(**json.load(sys.stdin))))))
