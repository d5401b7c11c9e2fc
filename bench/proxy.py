"""A TCP proxy that sees every durable write of a process pass, and can strike at an exact one of them.

It stands between the product and PostgreSQL, MLflow or the object store. A write is a request that changes something
there: PUT, POST, PATCH and DELETE of HTTP (but for searches), and of PostgreSQL the statements that change rows and the
COMMIT behind them. So a process can be killed just before a write leaves it, or after the write has happened and before
the process hears of it, without a line in the product that knows of tests.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

HTTP_WRITE = re.compile(rb"(PUT|POST|PATCH|DELETE) (\S+) HTTP/1\.[01]\r\n")
SQL_WRITE = re.compile(rb"(INSERT INTO \w+|UPDATE \w+|DELETE FROM \w+|COPY \w+|CREATE \w+ \w+)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
READS = (b"search", b"batch-get", b"get-by", b"/server-info")  # POST requests of MLflow that change nothing
CHUNK = 1 << 16

When = Literal["before", "during", "after"]


@dataclass
class Trap:
    """Counts writes and strikes at one of them.

    ``wanted(name)`` picks the writes that count, ``number`` is the one to strike at (from 0; None: only record),
    ``strike`` is what happens then. ``during``: half of the body of a request has gone out.
    """

    strike: Callable[[], None] = lambda: None
    number: int | None = None
    when: When = "before"
    wanted: Callable[[str], bool] = lambda name: True
    every: bool = False  # strike at all that follow, too
    names: list[str] = field(default_factory=list)
    struck: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sees(self, name: str) -> When | None:
        """Note a write; says whether and when to strike."""
        with self._lock:
            if not self.wanted(name):
                return None
            at = len(self.names)
            self.names.append(name)
            mine = self.number is not None and (at == self.number or (self.every and at > self.number))
            return self.when if mine else None

    def hit(self) -> None:
        self.struck += 1
        self.strike()


class Proxy:
    """Listens on a free port of 127.0.0.1 and hands everything on to ``port``; ``trap`` may be set at any time."""

    def __init__(self, port: int, kind: Literal["http", "sql"], name: str) -> None:
        self.target, self.kind, self.name = port, kind, name
        self.trap: Trap | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"proxy {name}", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            _cut(client)
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        back = threading.Thread(target=link.answers, daemon=True)
        back.start()
        link.requests()
        back.join(timeout=30)


class _Link:
    """One connection: what the client sends is looked at, what the server answers may be withheld."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.withheld: Trap | None = None
        self.dirty = False  # a transaction of PostgreSQL that has changed something

    def requests(self) -> None:
        with suppress(OSError):
            while data := self.client.recv(CHUNK):
                self._sent(data)
        self._end()

    def answers(self) -> None:
        with suppress(OSError):
            while data := self.server.recv(CHUNK):
                if self.withheld is not None and not data.startswith(b"HTTP/1.1 100"):
                    self.withheld.hit()
                    break
                self.client.sendall(data)
        self._end()

    def _sent(self, data: bytes) -> None:
        trap, name = self.proxy.trap, self._write_in(data)
        when = trap.sees(name) if trap and name else None
        if trap is None or when is None:
            self.server.sendall(data)
        elif when == "before":
            trap.hit()
            raise OSError("struck")
        elif when == "during":
            self._half(data, trap)
        else:
            self.withheld = trap
            self.server.sendall(data)

    def _half(self, data: bytes, trap: Trap) -> None:
        """Half of the body goes out, then both ends are torn."""
        found = LENGTH.search(data)
        head = data.find(b"\r\n\r\n") + 4
        wanted = head + (int(found.group(1)) if found else 0) // 2
        self.server.sendall(data[:wanted])
        sent = min(len(data), wanted)
        while sent < wanted and (more := self.client.recv(min(CHUNK, wanted - sent))):
            self.server.sendall(more)
            sent += len(more)
        trap.hit()
        raise OSError("struck")

    def _write_in(self, data: bytes) -> str | None:
        return self._http(data) if self.proxy.kind == "http" else self._sql(data)

    def _http(self, data: bytes) -> str | None:
        found = HTTP_WRITE.match(data)
        if not found or any(word in found.group(2) for word in READS):
            return None
        path = found.group(2).partition(b"?")[0].decode("ascii", "replace")
        return f"{self.proxy.name} {found.group(1).decode()} {path}"

    def _sql(self, data: bytes) -> str | None:
        if not data.startswith(b"Q"):
            return None
        text = data[5:400].lstrip()
        if found := SQL_WRITE.match(text):
            self.dirty = True
            return f"{self.proxy.name} {found.group(1).decode()}"
        if text.startswith(b"COMMIT") and self.dirty:
            self.dirty = False
            return f"{self.proxy.name} COMMIT"
        if text.startswith(b"ROLLBACK"):
            self.dirty = False
        return None

    def _end(self) -> None:
        _cut(self.client)
        _cut(self.server)


def _cut(connection: socket.socket) -> None:
    """Reset, not an orderly end: the other side must not take it for a complete answer."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()
