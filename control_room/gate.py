"""Who may come to Streamlit: nothing but the sign-in page is open to who has no session's cookie.

Whether a session counts is for the API to say; without a cookie it need not even be asked.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from control_room.cookies import SHAPE, cookie_name
from ml.errors import SettingsError
from ml.settings import Settings, variable

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN_PATHS = frozenset({"/sign-in", "/sign-out", "/_stcore/health"})


def check_address(settings: Settings, address: str | None) -> None:
    """Raises SettingsError where a console without sign-in would listen to others than this machine."""
    if settings.sign_in == "none" and (address or "").lower() not in LOCAL_HOSTS:
        raise SettingsError(
            f"Without sign-in the console listens on 127.0.0.1 only, not on {address or 'every address'}: "
            f"set {variable('sign_in')} to accounts or oidc.",
            key="sign_in",
        )
    if settings.sign_in != "none" and not settings.api_token:
        raise SettingsError(
            f"{variable('api_token')} must be set where {variable('sign_in')} is {settings.sign_in}: without it "
            "the API takes everybody on this machine for an administrator.",
            key="api_token",
        )


class Gate:
    """Pure ASGI, behind the door."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.signs_in = settings.sign_in == "accounts"
        self.cookie = cookie_name(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        connection = HTTPConnection(scope)
        if not self.signs_in or scope["path"] in OPEN_PATHS or SHAPE.fullmatch(connection.cookies.get(self.cookie, "")):
            return None
        return _to_sign_in(scope)


def _to_sign_in(scope: Scope) -> Response:
    """A page that is opened leads to the sign-in and back; anything else is refused."""
    page = scope["type"] == "http" and scope["method"] == "GET"
    if not page or "text/html" not in Headers(scope=scope).get("accept", ""):
        return PlainTextResponse("Sign in first.", 401)
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    return RedirectResponse(f"/sign-in?next={quote(wanted, safe='')}", 303, {"Cache-Control": "no-store"})
