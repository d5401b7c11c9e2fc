"""What holds for every request, before any route: an id, who may call, headers of every answer."""

from __future__ import annotations

import math
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import auth
from api.errors import problem, unhandled
from api.rates import Rates
from ml import logs, tracing
from ml.accounts import session_id_of
from ml.errors import ServiceDown, TooMany, Unauthorized
from ml.hosts import ANY, Hosts
from ml.settings import Settings
from ml.tracing import Trace

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
FOREIGN = "This name is not one that the API may be called by: see CONTROL_ROOM_ALLOWED_HOSTS."
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """Pure ASGI: bodies pass through untouched and unread."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.token = settings.api_token
        self.per_minute = settings.rate_limit
        self.rates = Rates(self.per_minute)
        self.own_host = (urlsplit(settings.api).hostname or "").lower()
        shown = urlsplit(settings.api_shown).hostname or ""
        self.hosts = Hosts(settings.allowed_hosts or ANY, [self.own_host, shown])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        parents, states = headers.getlist(tracing.HEADER), headers.getlist(tracing.STATE_HEADER)
        trace = tracing.continued(parents, states, headers.get("x-request-id", ""))
        tracing.begin(trace)
        request_id = scope["request_id"] = trace.request_id

        began, answered = time.perf_counter(), False
        status = 500  # what breaks without an answer is a fault of ours

        async def send_marked(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                _mark(message, trace)
            await send(message)

        refusal = await self._refusal(scope, headers, request_id)
        try:
            await (refusal or self.app)(scope, receive, send_marked)
        except Exception as error:
            if answered:  # half an answer has gone out
                raise
            await unhandled(Request(scope), error)(scope, receive, send_marked)
        finally:
            route = "refused" if refusal else getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - began
            scope["app"].state.services.metrics.request(method, route, status, seconds)
            logs.note_request(method, route, status, seconds, _who(scope.get("caller")))

    async def _refusal(self, scope: Scope, headers: Headers, request_id: str) -> Response | None:
        """Why this request goes no further; None: it does, and ``scope["caller"]`` says whose it is."""
        if not self.hosts.allow(*headers.getlist("host")):
            return _refused(request_id, status=403, code="forbidden", title="Not allowed from here", detail=FOREIGN)
        if reason := auth.foreign(self.token, self.own_host, scope["method"], headers):
            return _refused(request_id, status=403, code="forbidden", title="Not allowed from here", detail=reason)
        try:
            caller = await self._caller(scope, headers)
        except ServiceDown as error:
            return _refused(request_id, status=503, code=error.code, title=error.title, detail=str(error))
        if caller is None:
            return _refused(
                request_id,
                status=Unauthorized.status,
                code=Unauthorized.code,
                title=Unauthorized.title,
                detail="Send the key as X-API-Key or as Authorization: Bearer.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if caller.key_id and (seconds := self.rates.wait(caller.key_id)):
            return _refused(
                request_id,
                status=TooMany.status,
                code=TooMany.code,
                title=TooMany.title,
                detail=f"This key may send {self.per_minute:,} requests per minute: wait {seconds:.1f} s.",
                headers={"Retry-After": str(math.ceil(seconds))},
            )
        scope["caller"] = caller
        return None

    async def _caller(self, scope: Scope, headers: Headers) -> auth.Caller | None:
        """Deny by default: a key that is sent must be right, even where none is asked for."""
        sent = auth.sent_key(headers)
        if auth.is_token(sent, self.token):
            return auth.CONSOLE
        if scope["path"] in auth.OPEN_PATHS:
            return auth.NOBODY
        if sent:
            services = scope["app"].state.services
            return await (services.sessions if session_id_of(sent) else services.keyring).caller(sent)
        return None if self.token else auth.THIS_MACHINE


def _refused(request_id: str, **parts: Any) -> Response:
    return problem(request_id, "/", **parts)


def _who(caller: auth.Caller | None) -> dict[str, str]:
    """As the log names a caller; empty for one who was refused before it was known who calls."""
    return {} if caller is None else {"caller": caller.key_id or caller.name, "role": caller.role}


def _mark(message: Message, trace: Trace) -> None:
    """On the bare list: this is done for every answer."""
    headers = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
    there = {name for name, _ in headers}
    headers += [pair for pair in ALWAYS if pair[0] not in there]
    ids = ((b"x-request-id", trace.request_id.encode()), (b"traceresponse", trace.traceparent.encode()))
    message["headers"] = [*headers, *ids]
