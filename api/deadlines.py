"""Connections that send or take nothing do not stay: uvicorn waits for headers, and for readers, for ever."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.corked import Corked

HEADER_SECONDS = 15.0  # from the connection, or the first byte of a further request, to the end of the headers
READER_SECONDS = 60.0  # a full buffer that its reader does not empty
LINGER_SECONDS = 2.0  # so long a sender whose body nobody wants has to read the answer before the connection ends
BEGUN = "control_room.begun"  # in a scope: the tasks of all requests that have begun and are not answered
CONNECTIONS = 1000  # more at once are answered 503


class DeadlineProtocol(HttpToolsProtocol):
    """Bodies have deadlines of their own (:mod:`api.reading`), and idle connections uvicorn's keep-alive."""

    header_seconds, reader_seconds = HEADER_SECONDS, READER_SECONDS
    _headers_due: asyncio.TimerHandle | None = None
    _reader_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast("asyncio.Transport", Corked(transport, self.loop)))
        self._headers_due = self.loop.call_later(self.header_seconds, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        _cancelled(self._headers_due, self._reader_due)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        _cancelled(self._headers_due)
        self._headers_due = self.loop.call_later(self.header_seconds, self.transport.abort)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        _cancelled(self._headers_due)
        self.scope[BEGUN] = self.tasks  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        if self.cycle.more_body:  # answered before the body was there: what is left of it is not waited for
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        super().on_response_complete()

    def pause_writing(self) -> None:
        _cancelled(self._reader_due)
        self._reader_due = self.loop.call_later(self.reader_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        _cancelled(self._reader_due)
        super().resume_writing()


def _cancelled(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
