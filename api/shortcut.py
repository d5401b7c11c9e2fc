"""One usual row, answered before FastAPI: routing, dependencies and their validation take longer than the forecast.

Nothing is decided here that the route would not decide alike. Where anything is not as usual (a query, another type, a
row that is refused, a service that is away), the request goes on to the route with the body that was read, and the
route answers.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.deadlines import BEGUN
from api.loading import Loaded
from api.reading import STALLED_SECONDS
from api.rows import Form
from api.scoring import written
from api.services import Services
from api.strict import parse
from ml.access import allows
from ml.errors import ControlRoomError
from ml.records import RowError, UserRole

PATHS = ("/predict", "/v1/predict")
ROLE: UserRole = "planner"  # this and the source are the route's own; a test compares
SOURCE = "api"
JSON = ("application/json", "text/json", "application/x-www-form-urlencoded")
LARGEST = 1 << 16  # bytes; a row is far below


@dataclass(frozen=True)
class Taken:
    """Which route a request would have had, for the metrics."""

    path: str


class Shortcut:
    """Pure ASGI, behind the guard."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._form: tuple[Loaded | None, Form | None] = (None, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS or not _plain(scope):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                first = await receive()
        except TimeoutError:
            await self.app(scope, _stalled, send)
            return
        body = await self._answered(scope, first)
        if body is None:
            await self.app(scope, _again(first, receive), send)
            return
        scope["route"] = Taken(scope["path"])
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: Scope, first: Message) -> bytes | None:
        """The answer to a body that has come whole and holds one usual row."""
        services: Services = scope["app"].state.services
        loaded = services.champion.current
        if loaded is None or loaded.quick is None or first["type"] != "http.request" or first.get("more_body"):
            return None
        try:
            unchecked = parse(first.get("body", b""))
            if not isinstance(unchecked, dict) or "instances" in unchecked:
                return None
            row = self._form_of(loaded).read(1, unchecked)
            if isinstance(row, RowError) or (places := loaded.quick.places([row])) is None:
                return None
            scorer, alone = services.scorer, len(scope.get(BEGUN, ())) == 1
            score = scorer.score_now if alone else scorer.score_quick
            (answer,) = await score(loaded, [row], places, SOURCE, scope["request_id"])
        except ControlRoomError:
            return None
        return written(answer)

    def _form_of(self, loaded: Loaded) -> Form:
        known, form = self._form
        if form is None or known is not loaded:
            form = Form.of(loaded)
            self._form = loaded, form
        return form


def _plain(scope: Scope) -> bool:
    if scope["method"] != "POST" or scope["query_string"] or not allows(scope["caller"].role, ROLE):
        return False
    headers = Headers(scope=scope)
    kind = headers.get("content-type", JSON[0]).partition(";")[0].strip().lower()
    length = headers.get("content-length", "")
    return kind in JSON and length.isdigit() and int(length) <= LARGEST and "content-encoding" not in headers


def _again(first: Message, receive: Receive) -> Receive:
    """What was received, once more."""
    waiting = [first]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


async def _stalled() -> Message:
    raise TimeoutError
