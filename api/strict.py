"""JSON as it is written, not as it is usually forgiven: what the standard parser lets through is found and named.

Python's parser accepts NaN, Infinity and numbers beyond a float, and of a key that stands twice keeps the last. Here
such a value becomes a :class:`Bad` in its place, so that whoever reads the field can say which one it was.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api.reading import read_body
from ml.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
MAX_DIGITS = 15  # integers up to here are exact as float


class Bad:
    """A number that is none; ``why`` says what was seen."""

    def __init__(self, why: str) -> None:
        self.why = why


class Twice(dict[str, Any]):
    """An object in which ``key`` stands more than once."""

    key: str = ""


def parse(body: bytes) -> Any:
    """The JSON value in a body; raises InputError when it is not JSON."""
    if not body.strip():
        raise InputError("The body is empty: send JSON.", field=None)
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"The body is not UTF-8 text (byte {error.start}).") from error
    except json.JSONDecodeError as error:
        raise InputError(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise InputError("The JSON is nested too deeply.") from error


def _number(text: str) -> float | Bad:
    value = float(text)
    return value if math.isfinite(value) else Bad("is too large for a number")


def _integer(text: str) -> int | float | Bad:
    return int(text) if len(text) <= MAX_DIGITS else _number(text)


def _constant(text: str) -> Bad:
    return Bad(f"is {text.lstrip('-')}, which is not a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    marked = Twice(found)
    marked.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return marked


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_int=_integer, parse_constant=_constant
)


def refuse_bad(value: Any, field: str | None = None) -> None:
    """Raises InputError naming the first field that is not a proper value, at any depth."""
    if isinstance(value, Bad):
        raise InputError(f"{field or 'The value'} {value.why}.", field=field)
    if isinstance(value, Twice):
        raise InputError("A key stands twice in one object.", field=named(value.key))
    if isinstance(value, str) and not clean(value):
        raise InputError(f"{field or 'The text'} holds characters that are not text.", field=field)
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_bad(key)
            refuse_bad(item, named(key))
    elif isinstance(value, list):
        for item in value:
            refuse_bad(item, field)


def clean(text: str) -> bool:
    """Whether a text has no control characters and no halves of characters (neither fits into PostgreSQL)."""
    return text.isprintable() or not any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text)


def named(key: str) -> str | None:
    """A key as it may stand in an answer: a plain short name, or nothing (input is not echoed)."""
    plain = key.replace("_", "").replace(" ", "").replace("-", "").replace(".", "")
    return key if plain.isalnum() and len(key) <= 64 else None


def body_of(model: type[Model], empty: Model | None = None) -> Any:
    """The dependency that reads a JSON body as ``model``, strictly: no text for a number, no unknown key.

    ``empty`` is what no body at all means; without it a body is needed.
    """

    async def read(request: Request) -> Model:
        body = await read_body(request)
        if empty is not None and not body.strip():
            return empty
        value = parse(body)
        refuse_bad(value)
        try:
            return model.model_validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error

    return Depends(read)
