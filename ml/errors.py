"""Errors that carry their facts.

Each error has a stable ``code`` (a page turns it into a sentence, a test checks that every code has one),
an HTTP ``status`` (used in one place, ``api.errors``) and a message built from its attributes:
what was seen, what is needed, what to do.
"""

from __future__ import annotations


class ControlRoomError(Exception):
    """Base of all errors that a person can act on."""

    code = "internal"
    status = 500
    title = "Something went wrong"

    def __init__(self, message: str = "", **facts: object) -> None:
        self.facts = facts
        super().__init__(message or self.title)


class SettingsError(ControlRoomError):
    """A setting is missing, unknown or unsafe."""

    code, status, title = "settings", 500, "The settings are not usable"


class InputError(ControlRoomError):
    """What a caller sent cannot be used; ``field`` and ``row`` say where."""

    code, status, title = "input", 422, "The input cannot be used"

    def __init__(self, message: str, *, field: str | None = None, row: int | None = None, **facts: object) -> None:
        self.field = field
        self.row = row
        super().__init__(message, **facts)


class FileRefused(InputError):
    """An uploaded file is not a table we can read, or lacks what the contract needs."""

    code, title = "file_refused", "The file cannot be used"


class TooLarge(ControlRoomError):
    code, status, title = "too_large", 413, "The request is too large"


class NotFound(ControlRoomError):
    code, status, title = "not_found", 404, "Not found"


class Conflict(ControlRoomError):
    """The request does not fit the present state (already accepted, another run is active …)."""

    code, status, title = "conflict", 409, "The request conflicts with the present state"


class InProgress(Conflict):
    """The same request, under the same Idempotency-Key, is being worked on."""

    code, title = "in_progress", "The same request is being worked on: ask again in a moment"


class KeyReused(ControlRoomError):
    """An Idempotency-Key stands for one request."""

    code, status, title = "key_reused", 422, "This Idempotency-Key was used for another request"


class NoData(ControlRoomError):
    code, status, title = "no_data", 409, "No sales data has been published yet"

    def __init__(self, message: str = "", **facts: object) -> None:
        super().__init__(
            message or "No sales data has been published yet: upload a file and run process_etl_sales_data.", **facts
        )


class NotEnoughData(ControlRoomError):
    code, status, title = "not_enough_data", 422, "There is not enough history for this"


class NoChampion(ControlRoomError):
    code, status, title = "no_champion", 503, "No verified champion model is loaded"

    def __init__(self, message: str = "", **facts: object) -> None:
        super().__init__(
            message or "No verified champion model is loaded: run retrain_sales_model, then try again.", **facts
        )


class BundleDamaged(ControlRoomError):
    """A model bundle does not match its manifest, or its golden rows do not agree."""

    code, status, title = "bundle_damaged", 503, "The model files do not match their manifest"


class Retired(ControlRoomError):
    """The files of a model or of a version of the data are no longer kept."""

    code, status, title = "retired", 410, "This is no longer kept"


class ServiceDown(ControlRoomError):
    """A service we depend on does not answer."""

    code, status, title = "service_down", 503, "A service does not answer"

    def __init__(self, service: str, reason: str = "") -> None:
        self.service = service
        self.reason = reason
        super().__init__(f"{service} does not answer{': ' + reason if reason else ''}", service=service)


class Unauthorized(ControlRoomError):
    code, status, title = "unauthorized", 401, "A valid API key is needed"


class SignInFailed(ControlRoomError):
    """Whether the account exists is not said."""

    code, status, title = "sign_in_failed", 401, "Name or password is not right"


class TooManySignIns(ControlRoomError):
    """A name or an address has failed too often; ``retry_after`` in seconds."""

    code, status, title = "too_many_sign_ins", 429, "Too many attempts to sign in"

    def __init__(self, message: str = "", retry_after: int = 60) -> None:
        super().__init__(message or f"Too many attempts to sign in: wait {retry_after} s.", retry_after=retry_after)


class Forbidden(ControlRoomError):
    """The caller is known and may not do this."""

    code, status, title = "forbidden", 403, "Not allowed"


class TooMany(ControlRoomError):
    """A key calls more often than it may; ``seconds`` until it may again."""

    code, status, title = "too_many", 429, "Too many requests"


def all_codes() -> dict[str, type[ControlRoomError]]:
    """Every error code with its class, for the tests that check that pages and API cover them all."""
    found: dict[str, type[ControlRoomError]] = {}
    queue: list[type[ControlRoomError]] = [ControlRoomError]
    while queue:
        cls = queue.pop()
        found.setdefault(cls.code, cls)
        queue.extend(cls.__subclasses__())
    return found
