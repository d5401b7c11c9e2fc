"""``Idempotency-Key``: a request that is sent again, because its answer was lost, is answered again, not done again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import Caller
from api.errors import problem_of
from api.reading import PREDICT_LIMIT, read_body
from ml.errors import ControlRoomError, InputError, ServiceDown
from ml.idempotency import Claim, Idempotency, KeptAnswer

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
BY_CONTENT = frozenset({"/v1/uploads", "/v1/jobs"})  # large bodies: the same content is the same upload or job anyway
# Their answers or questions hold what is kept nowhere, not even as a fast hash.
SECRET = frozenset({"/v1/keys", "/v1/webhooks", "/v1/accounts", "/v1/sessions", "/v1/sessions/identity"})
SHAPE = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')
KEPT_HEADERS = ("content-type", "location", "content-disposition")
CLEANED_EVERY = 3600.0  # seconds

log = logging.getLogger("api")


class IdempotencyKeys:
    """Pure ASGI, inside the guard: who calls is known. Requests without the header pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._cleaned = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if key is None or scope["method"] not in CHANGING or scope["path"] in BY_CONTENT or not _known(scope):
            await self.app(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive, key)
        except ControlRoomError as error:
            answer = problem_of(error, scope["request_id"])
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, key: str) -> Response:
        found = SHAPE.fullmatch(key)
        if found is None:
            raise InputError("Idempotency-Key is a text of 1 to 255 visible characters.", field="Idempotency-Key")
        if holds_secret(scope["path"]):
            raise InputError("This holds a secret and is not kept: send no Idempotency-Key.")
        body = await read_body(Request(scope, receive), PREDICT_LIMIT)
        claim = Claim(_who(scope["caller"]), found[1], _fingerprint(scope, body))
        kept = Idempotency(scope["app"].state.services.store)
        before = await asyncio.to_thread(kept.claim, claim)
        if before is not None:
            return Response(before.body, before.status, {**before.headers, "Idempotency-Replayed": "true"})
        return await self._worked_on(scope, body, kept, claim)

    async def _worked_on(self, scope: Scope, body: bytes, kept: Idempotency, claim: Claim) -> Response:
        """Do it, and keep the answer before it goes out; what failed here may be tried again under the key."""
        answered = False
        try:
            answer = await _done(self.app, scope, body)
            if answer.status < 500:
                await asyncio.to_thread(kept.finish, claim, answer)
                answered = True
            return Response(answer.body, answer.status, dict(answer.headers))
        finally:
            if not answered:
                await asyncio.to_thread(_released, kept, claim)
            self._clean(kept)

    def _clean(self, kept: Idempotency) -> None:
        if time.monotonic() - self._cleaned > CLEANED_EVERY:
            self._cleaned = time.monotonic()
            asyncio.get_running_loop().run_in_executor(None, kept.forget_old)


def holds_secret(path: str) -> bool:
    return path in SECRET or path.endswith("/password")


def _known(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)


def _who(caller: Caller) -> str:
    return caller.key_id or caller.account_id or caller.name


def _fingerprint(scope: Scope, body: bytes) -> str:
    kind = Headers(scope=scope).get("content-type", "")
    parts = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"), kind)
    return hashlib.sha256("\n".join(parts).encode() + b"\n" + body).hexdigest()


def _released(kept: Idempotency, claim: Claim) -> None:
    try:
        kept.release(claim)
    except ServiceDown as error:
        log.warning("%s; an Idempotency-Key stays claimed until its lease ends", error)


async def _done(app: ASGIApp, scope: Scope, body: bytes) -> KeptAnswer:
    """The application's answer to a request whose body has been read."""
    start: Message = {}
    pieces: list[bytes] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await asyncio.Event().wait()  # the caller may have gone; what was begun is brought to its end all the same
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            pieces.append(message.get("body", b""))

    await app(scope, receive, send)
    headers = Headers(raw=start["headers"])
    return KeptAnswer(start["status"], {n: headers[n] for n in KEPT_HEADERS if n in headers}, b"".join(pieces))
