"""The pages that sign people in and out: plain HTML of our own, outside Streamlit.

The password goes from the form to the API and nowhere else; what comes back is set as a cookie that no script can
read, which Streamlit could not do.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from string import Template
from urllib.parse import quote, urlsplit

from babel import negotiate_locale
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from control_room import i18n, problems
from control_room.clients.api import ApiClient
from control_room.cookies import SHAPE, cookie_name, secure
from control_room.i18n import gettext
from ml.errors import ControlRoomError, ServiceDown, SignInFailed, TooManySignIns
from ml.records import NewSession
from ml.settings import Settings

HERE = Path(__file__).parent
LARGEST = 8192  # bytes of a form
FIRST_ACCOUNT = {
    "local": ".venv/bin/python -m api.accounts create-admin ana",
    "server": "docker compose exec api python -m api.accounts create-admin ana",
}
log = logging.getLogger("console")


class SigningIn:
    """The form and what it does. ``connect`` makes a client of the API with a token."""

    def __init__(self, settings: Settings, connect: Callable[[Settings, str], ApiClient]) -> None:
        self.settings = settings
        self._connect = connect
        self._console = connect(settings, settings.api_token)
        self._anybody = False  # once there is an account there always is one

    def routes(self) -> list[Route]:
        return [
            Route("/sign-in", self.form, methods=["GET"]),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["GET"]),
        ]

    async def form(self, request: Request) -> Response:
        """Says at once when nobody can sign in now, or when there is nobody yet."""
        with i18n.speaking(_reader(request)):
            said = await run_in_threadpool(self._beforehand)
            if "out" in request.query_params and not said:
                said = _box("good", gettext("You are signed out."))
            return _page(request, said)

    async def sign_in(self, request: Request) -> Response:
        if not _own_page(request):
            return PlainTextResponse("This form must come from the console itself.", 403)
        if int(request.headers.get("content-length", LARGEST + 1)) > LARGEST:
            return PlainTextResponse("Too large.", 413)
        async with request.form(max_files=0, max_fields=10) as form:
            name, password = (str(form.get(field, ""))[:256] for field in ("name", "password"))
        with i18n.speaking(_reader(request)):
            if not name.strip() or not password:
                return _page(request, _box("bad", gettext("Enter your name and your password.")), name, 422)
            try:
                address = request.client.host[:64] if request.client else ""
                opened = await run_in_threadpool(self._console.sign_in, name.strip(), password, address)
            except ControlRoomError as error:
                return _page(request, _problem(error), name, error.status)
        return self._let_in(request, opened)

    async def sign_out(self, request: Request) -> Response:
        """A link does it: the cookie is not sent along from pages of others, and browsers say where a click was."""
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Only the console itself signs out.", 403)
        name = cookie_name(self.settings)
        token = request.cookies.get(name, "")
        if SHAPE.fullmatch(token):
            await run_in_threadpool(self._end, token)
        answer = RedirectResponse("/sign-in?out=1" + _language(request, "&"), 303, {"Cache-Control": "no-store"})
        answer.delete_cookie(name, secure=secure(self.settings), httponly=True, samesite="lax")
        return answer

    def _let_in(self, request: Request, opened: NewSession) -> Response:
        answer = RedirectResponse(_inside(request.query_params.get("next", "")), 303, {"Cache-Control": "no-store"})
        answer.set_cookie(
            cookie_name(self.settings),
            opened.token,
            max_age=round(self.settings.session_hours * 3600),
            secure=secure(self.settings),
            httponly=True,
            samesite="lax",
        )
        return answer

    def _end(self, token: str) -> None:
        try:
            self._connect(self.settings, token).sign_out()
        except ServiceDown as error:
            log.warning("a session could not be ended (%s); it ends by itself", error)
        except ControlRoomError:
            pass  # it had ended before

    def _beforehand(self) -> str:
        try:
            self._anybody = self._anybody or bool(self._console.accounts())
        except ControlRoomError as error:
            return _problem(error)
        if self._anybody:
            return ""
        text = gettext("There is no account yet. Make the first one, an administrator, on the server:")
        return _box("plain", text, FIRST_ACCOUNT[self.settings.environment])


def _problem(error: ControlRoomError) -> str:
    if isinstance(error, SignInFailed | TooManySignIns):
        said = problems.explain(error)
        return _box("bad", f"{said.title} {said.advice}")
    later = gettext("Nobody can sign in now. Try again in a moment.")
    return _box("attention", f"{problems.explain(error).title} {later}")


def _box(tone: str, text: str, code: str = "") -> str:
    command = f"<code>{html.escape(code)}</code>" if code else ""
    return f'<div class="box {tone}" role="alert">{html.escape(text)}{command}</div>'


def _page(request: Request, said: str, name: str = "", status: int = 200) -> Response:
    nonce = secrets.token_urlsafe(16)
    language = i18n.reader().language
    wanted = quote(_inside(request.query_params.get("next", "")), safe="")
    words = {
        "language": language,
        "title": gettext("Sign in"),
        "name_label": gettext("Name or e-mail"),
        "password_label": gettext("Password"),
        "button": gettext("Sign in"),
        "forgotten": gettext("Forgotten? An administrator can give you a new password."),
        "product": "Sales control room",
        "about": gettext("What sells next, what if, and why."),
    }
    content = Template((HERE / "sign_in.html").read_text(encoding="utf-8")).substitute(
        {key: html.escape(text) for key, text in words.items()},
        nonce=nonce,
        icon=(HERE / "icon.svg").read_text(encoding="utf-8"),
        said=said,
        name=html.escape(name, quote=True),
        focus_name="" if name else "autofocus",
        focus_password="autofocus" if name else "",
        action=f"/sign-in?next={wanted}&amp;lang={language}",
        languages=" · ".join(_switch(code, text, language, wanted) for code, text in i18n.LANGUAGES.items()),
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return HTMLResponse(content, status, {"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def _switch(code: str, text: str, language: str, wanted: str) -> str:
    if code == language:
        return f'<b lang="{code}">{text}</b>'
    return f'<a lang="{code}" href="/sign-in?next={wanted}&amp;lang={code}">{text}</a>'


def _reader(request: Request) -> i18n.Reader:
    asked = request.query_params.get("lang") or _language_within(request.query_params.get("next", ""))
    spoken = [part.partition(";")[0].strip() for part in request.headers.get("accept-language", "").split(",")]
    return i18n.choose(negotiate_locale(spoken, list(i18n.LANGUAGES), sep="-"), asked)


def _language_within(wanted: str) -> str:
    """The language of the page that was asked for."""
    pairs = (part.partition("=") for part in urlsplit(wanted).query.split("&"))
    return next((value for key, _, value in pairs if key == "lang"), "")


def _language(request: Request, before: str) -> str:
    asked = request.query_params.get("lang", "")
    return f"{before}lang={asked}" if asked in i18n.LANGUAGES else ""


def _inside(wanted: str) -> str:
    """A page of ours to go on to; anything that could lead elsewhere is the first page."""
    plain = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted and wanted.isprintable()
    return wanted if plain and not urlsplit(wanted).netloc and not wanted.startswith("/sign-") else "/"


def _own_page(request: Request) -> bool:
    """Whether a form was sent from a page of this console; browsers always say so."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")
