"""Many usual rows column by column: what costs microseconds per row and value elsewhere is done once per column here.

Reading refuses nothing: where anything is not plain (rows with different keys, a null, a value that would be refused),
it says so, and the rows are read one by one by :mod:`api.rows`, whose rules are the ones applied here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeVar

import orjson

from api.loading import Loaded
from api.rows import MAX_ROWS, Form, Refused
from ml.copying import BULK_ROWS, LogRows, begun, day, marks, numbers, origin, text, words
from ml.quick import Columnar
from ml.records import LEVELS
from ml.support import level

T = TypeVar("T", str, bytes)
SERIES = itemgetter(0, 1)
UNITS = ("prediction", *(f"{side}_{share}" for share in LEVELS for side in ("low", "high")))


def read_columns(form: Form, body: bytes) -> Columnar | None:
    """The columns of ``{"instances": [...]}`` under the contract's names; None where the rows must be read singly."""
    rows = _instances(body)
    if rows is None or not isinstance(rows[0], dict):
        return None
    keys = tuple(rows[0])
    if not all(type(row) is dict and tuple(row) == keys for row in rows):
        return None
    try:
        named = form.named(keys)
        values = {key: [row[key] for row in rows] for key in keys}
        if not _each_key_once(body, len(rows), values):
            return None
        return form.completed_columns({named[key]: _column(form, named[key], values[key]) for key in keys}, len(rows))
    except Refused:
        return None


def _instances(body: bytes) -> list[Any] | None:
    try:
        unchecked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    rows = unchecked.get("instances") if isinstance(unchecked, dict) and len(unchecked) == 1 else None
    return rows if isinstance(rows, list) and 0 < len(rows) <= MAX_ROWS else None


def _each_key_once(body: bytes, count: int, values: Columnar) -> bool:
    """Whether no key stands twice in an object, of which a parser would keep the last: there is a pair of quotation
    marks for each key and text, and none more."""
    texts = sum(1 for column in values.values() for value in column if type(value) is str)
    return b"\\" not in body and body.count(b'"') == 2 * (1 + count * len(values) + texts)


def _column(form: Form, name: str, values: list[Any]) -> list[Any]:
    """Values as the rules of single rows give them; raises Refused when one of them would be refused."""
    kinds = set(map(type, values))
    if kinds == {str}:
        read = {value: form.value(name, value) for value in set(values)}
        return list(map(read.__getitem__, values))
    if not kinds <= {int, float}:
        raise Refused(name, "not_plain", "")
    if name == "holiday":
        return [form.value(name, value) for value in values]
    for value in (min(values), max(values)):  # the other rules for numbers are ranges
        form.value(name, value)
    return list(map(float, values))


@dataclass(frozen=True)
class Told:
    """Forecast columns as what is logged and what is sent: for each row what :func:`api.scoring.answer` has."""

    loaded: Loaded
    found: Columnar
    request_id: str
    created_at: dt.datetime

    @cached_property
    def _numbers(self) -> dict[str, list[str]]:
        """Each number as JSON has it, None as null."""
        forecaster = self.loaded.forecaster
        inputs = (name for name in forecaster.inputs if name not in forecaster.columns.text)
        names = (*UNITS, "similar_days", "similar_sibling_days", *inputs)
        return {name: orjson.dumps(self.found[name]).decode()[1:-1].split(",") for name in names}

    def logged(self, source: str) -> LogRows:
        """As :func:`ml.copying.log_rows` has it."""
        unit, first = self.loaded.forecaster.unit, begun(self.created_at)
        fixed = origin(unit, self.loaded.named, self.loaded.data_version, source, self.request_id)
        columns = (
            _each(self.found["date"], day),
            *(_each(self.found[name], text) for name in ("store", "product")),
            [text(one.encode()) for one in self._inputs],
            numbers([self.found[name] for name in UNITS]),
            numbers([self.found["similar_days"]], ">i8"),
            list(map(words, self.found["warnings"])),
        )
        rows = [
            b"".join((first, date, store, product, inputs, units, fixed, similar, warnings))
            for date, store, product, inputs, units, similar, warnings in zip(*columns, strict=True)
        ]
        if len(rows) >= BULK_ROWS:
            rows = [
                row
                for _, _, row in sorted(zip(self.found["store"], self.found["product"], rows, strict=True), key=SERIES)
            ]
        data = b"".join([row + mark for row, mark in zip(rows, marks(len(rows)), strict=True)])
        return LogRows([(self.request_id, self.created_at.isoformat())], len(rows), data)

    def sent(self) -> bytes:
        """As :func:`api.scoring.written` has them."""
        interval = ",".join(f'"{share}":[%s,%s]' for share in LEVELS)
        support = '"similar_days":%s,"level":%s,"similar_sibling_days":%s,"outside":%s'
        fixed = {
            "model": self.loaded.named,
            "data_version": self.loaded.data_version,
            "request_id": self.request_id,
            "created_at": self.created_at,
        }
        form = (
            f'{{"date":%s,"store":%s,"product":%s,"prediction":%s,"unit":{_constant(self.loaded.forecaster.unit)},'
            f'"interval":{{{interval}}},"support":{{{support}}},"inputs":%s,{_constant(fixed)[1:-1]},"warnings":%s}}'
        )
        columns = [
            *(_each(self.found[name], _json) for name in ("date", "store", "product")),
            *(self._numbers[name] for name in UNITS),
            *self._support(),
            self._inputs,
            list(map(_words, self.found["warnings"])),
        ]
        rows = ",".join([form % row for row in zip(*columns, strict=True)])
        return f'{{"predictions":[{rows}]}}'.encode()

    def _support(self) -> list[list[str]]:
        similar, siblings = self.found["similar_days"], self.found["similar_sibling_days"]
        levels = {pair: _json(level(*pair)) for pair in set(zip(similar, siblings, strict=True))}
        return [
            self._numbers["similar_days"],
            [levels[pair] for pair in zip(similar, siblings, strict=True)],
            self._numbers["similar_sibling_days"],
            list(map(_words, self.found["outside"])),
        ]

    @cached_property
    def _inputs(self) -> list[str]:
        names, texts = self.loaded.forecaster.inputs, self.loaded.forecaster.columns.text
        form = "{" + ",".join(f"{_constant(name)}:%s" for name in names) + "}"
        columns = [_each(self.found[name], _json) if name in texts else self._numbers[name] for name in names]
        return [form % row for row in zip(*columns, strict=True)] if names else ["{}"] * len(self.found["date"])


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()


def _words(values: Sequence[str]) -> str:
    """Mostly there are none."""
    return _json(values) if values else "[]"


def _constant(value: Any) -> str:
    """JSON within a form."""
    return _json(value).replace("%", "%%")


def _each(values: Sequence[Any], written: Callable[[Any], T]) -> list[T]:
    """Each value written; of equal ones the first."""
    found = {value: written(value) for value in set(values)}
    return [found[value] for value in values]
