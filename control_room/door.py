"""Before anything else of the console: names that are ours, headers of every answer, one log.

Streamlit itself compares Origin with Host only, so a name that was rebound to this machine would be let in, and it
sends none of the headers that keep a page from being framed or sniffed.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.starlette import App

from ml.hosts import Hosts
from ml.settings import Settings

# Streamlit's own page sets styles and makes code in place, and AgGrid's lives in a frame of the same origin.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
ALWAYS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)
REFUSED = b"This name is not one that the console may be called by: see CONTROL_ROOM_ALLOWED_HOSTS."


class Door:
    """Pure ASGI: turns away what was sent to a foreign name, pages and websockets alike, and marks every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        own = urlsplit(settings.console_url).hostname  # the address that people are told
        self.hosts = Hosts(settings.allowed_hosts, [own] if own else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self.hosts.allow(*Headers(scope=scope).getlist("host")):
            await _refuse(scope, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in ALWAYS if pair[0] not in there)]
            await send(message)

        await self.app(scope, receive, send_marked)


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: answered with 403
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(REFUSED)), *ALWAYS]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSED})


@asynccontextmanager
async def one_log(_: App) -> AsyncIterator[None]:
    """Streamlit gives each of its loggers an output of its own: here they write where ours do."""
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.name.startswith(("streamlit", "uvicorn", "websockets")):
            logger.handlers.clear()
            logger.propagate = True
    yield
