"""Many usual rows column by column: what costs microseconds per row and value elsewhere is done once per column here.

Reading refuses nothing: where anything is not plain (rows with different keys, a null, a value that would be refused),
it says so, and the rows are read one by one by :mod:`api.rows`, whose rules are the ones applied here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from api.loading import Loaded
from api.rows import MAX_ROWS, Form, Refused
from ml.copying import BULK_ROWS, LogRows, begun, beside, day, fields, lengths, marks, origin, text, words
from ml.quick import Begun, Columnar
from ml.records import LEVELS
from ml.support import level

HOLE = "\0"  # which JSON has only escaped
UNITS = ("prediction", *(f"{side}_{share}" for share in LEVELS for side in ("low", "high")))


def read_columns(form: Form, body: bytes) -> Columnar | None:
    """The columns of ``{"instances": [...]}`` under the contract's names; None where the rows must be read singly."""
    rows = _instances(body)
    values = _values(rows) if rows else None
    if rows is None or values is None:
        return None
    kinds = {key: set(map(type, column)) for key, column in values.items()}
    if not _each_key_once(body, len(rows), kinds):
        return None
    try:
        named = form.named(values)
        columns = {named[key]: _column(form, named[key], column, kinds[key]) for key, column in values.items()}
        return form.completed_columns(columns, len(rows))
    except Refused:
        return None


def _instances(body: bytes) -> list[Any] | None:
    try:
        unchecked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    rows = unchecked.get("instances") if isinstance(unchecked, dict) and len(unchecked) == 1 else None
    return rows if isinstance(rows, list) and 0 < len(rows) <= MAX_ROWS else None


def _values(rows: list[Any]) -> Columnar | None:
    """Columns of rows that all have the same keys, at least two."""
    if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(rows[0])} or len(rows[0]) < 2:
        return None
    keys = tuple(rows[0])
    try:
        columns = list(zip(*map(itemgetter(*keys), rows), strict=True))
    except KeyError:
        return None
    return {key: list(column) for key, column in zip(keys, columns, strict=True)}


def _each_key_once(body: bytes, count: int, kinds: Mapping[str, set[type]]) -> bool:
    """Whether no key stands twice in an object, of which a parser would keep the last: there is a pair of quotation
    marks for each key and text, and none more. Columns of texts and others are not plain."""
    texts = sum(kind == {str} for kind in kinds.values())
    return b"\\" not in body and body.count(b'"') == 2 * (1 + count * (len(kinds) + texts))


def _column(form: Form, name: str, values: list[Any], kinds: set[type]) -> list[Any]:
    """Values as the rules of single rows give them; raises Refused when one of them would be refused."""
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
    """Forecast columns as what is sent and what is logged: for each row what :func:`api.scoring.answer` has.

    What does not hang on the trees is put together first: they are walked meanwhile.
    """

    loaded: Loaded
    begun: Begun
    request_id: str
    created_at: dt.datetime

    def sent(self) -> bytes:
        """As :func:`api.scoring.written` has them."""
        names, support, warnings = self._sent_names, self._sent_support, _each(self._warnings, _json)
        _ = self._logged_before, self._logged_warnings, self._logged_order
        units = [_numbers(self._units[name]) for name in UNITS]
        interval = ",".join(f'"{share}":[{HOLE},{HOLE}]' for share in LEVELS)
        fixed = {
            "model": self.loaded.named,
            "data_version": self.loaded.data_version,
            "request_id": self.request_id,
            "created_at": self.created_at,
        }
        row = (
            f'{{"date":{HOLE},"store":{HOLE},"product":{HOLE},"prediction":{HOLE},'
            f'"unit":{_text(self.loaded.forecaster.unit)},"interval":{{{interval}}},'
            f'"support":{{"similar_days":{HOLE},"level":{HOLE},"similar_sibling_days":{HOLE},"outside":{HOLE}}},'
            f'"inputs":{HOLE},{_text(fixed)[1:-1]},"warnings":{HOLE}}},'
        )
        pieces = _pieces(row, [*names, *units, *support, self._inputs, warnings])
        return b'{"predictions":[' + b"".join(chain.from_iterable(pieces))[:-1] + b"]}"

    def logged(self, source: str) -> LogRows:
        """As :func:`ml.copying.log_rows` has it."""
        unit = self.loaded.forecaster.unit
        fixed = origin(unit, self.loaded.named, self.loaded.data_version, source, self.request_id)
        units = fields([self._units[name] for name in UNITS])
        same = beside(units, fixed, fields([self.begun.known["similar_days"]], ">i8"))
        rows = list(map(b"".join, zip(*self._logged_before, same, self._logged_warnings, strict=False)))
        *most, last = marks(len(rows))
        data = (most[0] if most else b"").join([rows[place] for place in self._logged_order]) + last
        return LogRows([(self.request_id, self.created_at.isoformat())], len(rows), data)

    @cached_property
    def _units(self) -> Columnar:
        return self.begun.units()

    @cached_property
    def _inputs(self) -> list[bytes]:
        names, texts = self.loaded.forecaster.inputs, self.loaded.forecaster.columns.text
        if not names:
            return [b"{}"] * len(self.begun.known["date"])
        form = "{" + ",".join(f"{_text(name)}:{HOLE}" for name in names) + "}"
        columns = [
            _each(self.begun.known[name], _json) if name in texts else _numbers(self.begun.known[name])
            for name in names
        ]
        return list(map(b"".join, _pieces(form, columns)))

    # -- sent

    @property
    def _sent_names(self) -> list[list[bytes]]:
        return [_each(self.begun.known[name], _json) for name in ("date", "store", "product")]

    @property
    def _sent_support(self) -> list[list[bytes]]:
        known = self.begun.known
        similar, siblings = known["similar_days"], known["similar_sibling_days"]
        outside = _each(list(map(tuple, known["outside"])), _json)
        return [_numbers(similar), list(map(_level, similar, siblings)), _numbers(siblings), outside]

    @cached_property
    def _warnings(self) -> list[tuple[str, ...]]:
        return list(map(tuple, self.begun.known["warnings"]))

    # -- logged

    @cached_property
    def _logged_before(self) -> list[Iterable[bytes]]:
        """What stands before the units."""
        known = self.begun.known
        names = (_each(known[name], text) for name in ("store", "product"))
        return [repeat(begun(self.created_at)), _each(known["date"], day), *names, lengths(self._inputs), self._inputs]

    @cached_property
    def _logged_warnings(self) -> list[bytes]:
        return _each(self._warnings, words)

    @cached_property
    def _logged_order(self) -> Sequence[int]:
        """Places of the rows: of many by series, of others as they came."""
        series = list(zip(self.begun.known["store"], self.begun.known["product"], strict=True))
        if len(series) < BULK_ROWS:
            return range(len(series))
        rank = {one: number for number, one in enumerate(sorted(set(series)))}
        order: list[int] = np.argsort([rank[one] for one in series], kind="stable").tolist()
        return order


@lru_cache(maxsize=1 << 12)
def _level(similar: int, siblings: int) -> bytes:
    return _json(level(similar, siblings))


def _numbers(values: Sequence[float | None]) -> list[bytes]:
    """Each number as JSON has it, None as null."""
    return orjson.dumps(values)[1:-1].split(b",")


def _pieces(form: str, columns: Sequence[Iterable[bytes]]) -> Iterable[tuple[bytes, ...]]:
    """Of each row the pieces that make it up: the form's own, and between them in place of its holes the columns'."""
    *before, end = (repeat(part.encode()) for part in form.split(HOLE))
    return zip(*chain.from_iterable(zip(before, columns, strict=True)), end, strict=False)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def _text(value: Any) -> str:
    """JSON within a form."""
    return _json(value).decode()


def _each(values: Sequence[Any], written: Callable[[Any], bytes]) -> list[bytes]:
    """Each value written; of equal ones the first."""
    found = {value: written(value) for value in set(values)}
    return [found[value] for value in values]
