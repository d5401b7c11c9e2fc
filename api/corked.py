"""Head and body of an answer in one packet.

Uvicorn hands the two to the socket one after the other: two system calls here, and a reader who is woken twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

_HEAD, _CONTINUE = b"HTTP/1.", b"HTTP/1.1 100 "


class Corked:
    """A transport that keeps the head of an answer until its first piece follows, or the loop comes round.

    Everything else is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._later = transport, loop.call_soon
        self._head = b""
        self._write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            self._write(self._head + data)
            self._head = b""
        elif data.startswith(_HEAD) and not data.startswith(_CONTINUE):
            self._head = data
            self._later(self._uncork)  # a body that takes its time does not keep the head
        else:
            self._write(data)

    def close(self) -> None:
        self._uncork()
        self._transport.close()

    def _uncork(self) -> None:
        if self._head and not self._transport.is_closing():
            self._write(self._head)
        self._head = b""
