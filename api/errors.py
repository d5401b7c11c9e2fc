"""The one place where an error becomes an answer: RFC 9457 problem documents that never repeat what was sent."""

from __future__ import annotations

import http
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from api.strict import named
from ml.errors import ControlRoomError, InputError
from ml.records import RowError

PROBLEM = "application/problem+json"
RETRY_AFTER_SECONDS = 5
CODES = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "input"}

log = logging.getLogger("api")


class RowsRefused(InputError):
    """Several rows or fields that cannot be used, all named."""

    def __init__(self, message: str, errors: Sequence[RowError]) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


def problem(
    request_id: str,
    path: str,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Iterable[RowError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document. ``path`` is ours to show only when it is a route of ours: callers pass a clean one."""
    content = {
        "type": f"urn:sales-control-room:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        "code": code,
        "request_id": request_id,
        "errors": [error.model_dump() for error in errors],
    }
    more = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
    return Response(orjson.dumps(content), status, {**more, **(headers or {})}, PROBLEM)


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(ControlRoomError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def request_id_of(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def template_of(request: Request) -> str:
    """The route as it is declared: the path that was asked for is input, and input is not echoed."""
    return getattr(request.scope.get("route"), "path", "") or "/"


def _answer(request: Request, **parts: Any) -> Response:
    return problem(request_id_of(request), template_of(request), **parts)


def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ControlRoomError)
    if error.status >= 500:
        log.warning("%s: %s", error.code, error)
    seconds = error.facts.get("retry_after")
    return _answer(
        request,
        status=error.status,
        code=error.code,
        title=error.title,
        detail=str(error),
        errors=_rows(error),
        headers={"Retry-After": str(seconds)} if seconds else None,
    )


def problem_of(error: ControlRoomError, request_id: str) -> Response:
    """The document of an error that arose outside of every route."""
    return problem(
        request_id, "/", status=error.status, code=error.code, title=error.title, detail=str(error), errors=_rows(error)
    )


def _rows(error: ControlRoomError) -> tuple[RowError, ...]:
    if isinstance(error, RowsRefused):
        return error.errors
    if isinstance(error, InputError) and (error.field is not None or error.row is not None):
        return (RowError(row=error.row or 1, field=error.field, code=error.code, message=str(error)),)
    return ()


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    rows = [_field_error(item) for item in error.errors()]
    detail = "; ".join(f"{row.field or 'body'}: {row.message}" for row in rows[:3])
    return _answer(request, status=422, code="input", title=InputError.title, detail=detail, errors=rows)


def _field_error(item: Mapping[str, Any]) -> RowError:
    names = [part for part in item["loc"] if part not in ("body", "query", "path", "header")]
    positions = [part for part in names if isinstance(part, int)]
    words = [str(part) for part in names if not isinstance(part, int)]
    field = ".".join(words) or None
    return RowError(
        row=positions[0] + 1 if positions else 1,
        field=None if field is None else named(field),
        code=str(item["type"]),
        message=str(item["msg"]),
    )


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase
    code = CODES.get(error.status_code, "http")
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return _answer(request, status=error.status_code, code=code, title=phrase, detail=f"{phrase}.", headers=headers)


def _allowed(request: Request) -> str:
    """The methods of this address. Starlette's own list is that of the first route which has it."""
    path, routes = request.scope["path"], request.app.routes
    mine = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return ", ".join(sorted({method for route in mine for method in route.methods or ()}))


def unhandled(request: Request, error: Exception) -> Response:
    """Of the guard, which every answer passes: as Starlette's own handler it would stand outside and mark nothing."""
    log.error("unhandled", exc_info=error)
    detail = "This is a fault of the API. It is in its log under the request id."
    return _answer(request, status=500, code="internal", title="Something went wrong", detail=detail)
