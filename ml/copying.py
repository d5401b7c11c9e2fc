"""Answers as PostgreSQL's COPY takes them: in its binary format, which it reads in half the time of text.

Format: https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format"): a header, for each row the number of
fields and each field with its length, a trailer. Frames are written by pgpq, where there is a package of it (not for
Linux on ARM); a few rows sooner by what is below.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import polars as pl

from ml.records import LEVELS, Answer

try:
    import pgpq
except ImportError:
    pgpq = None  # type: ignore[assignment]

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension
TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"
# From so many rows on they are written sorted by series, into a part of the log that has no index on each row. The
# last of them is marked: it has the highest identity, and for one version of a model few are looked through.
BULK_ROWS: Final = 256
ALONE, ONE_OF_MANY, LAST = 0, 1, 2
# The log's columns in the order in which they are written.
TYPES: Final[Mapping[str, Any]] = {
    "created_at": pl.Datetime("us", "UTC"), "date": pl.Date, "store": pl.String, "product": pl.String,
    "inputs": pl.String, "prediction": pl.Float64, "low_80": pl.Float64, "high_80": pl.Float64,
    "low_95": pl.Float64, "high_95": pl.Float64, "unit": pl.String, "model_version": pl.String,
    "model_alias": pl.String, "run_id": pl.String, "data_version": pl.String, "source": pl.String,
    "request_id": pl.String, "similar_days": pl.Int64, "warnings": pl.List(pl.String),
    "batch": pl.Int16,
}  # fmt: skip
_FIELDS = struct.pack(">h", len(TYPES))
_LENGTH, _WHOLE, _DOUBLE, _DAY, _SMALL = (struct.Struct(form) for form in (">i", ">iq", ">id", ">ii", ">ih"))
_ARRAY = struct.Struct(">iiiii")  # dimensions, nulls, type of the elements, how many, number of the first
_TEXT_TYPE = 25
_FIRST_DAY, _FIRST_MOMENT = dt.date(2000, 1, 1).toordinal(), dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class LogRows(NamedTuple):
    """Answers as COPY takes them, without its header and trailer.

    ``keys``: request and moment (ISO 8601) of what was answered together, as it is found again in the log; ``rows``:
    how many there are.
    """

    keys: Sequence[tuple[str, str]]
    rows: int
    data: bytes


class Logged(NamedTuple):
    """One answer as it goes into the log, with who asked (``api``, ``forecast``, ``console`` …).

    ``answer``: or what :meth:`Answer.model_dump` would give, which is made in a tenth of the time.
    """

    answer: Answer | dict[str, Any]
    source: str

    @property
    def parts(self) -> dict[str, Any]:
        return self.answer if isinstance(self.answer, dict) else self.answer.model_dump()


class Layout(NamedTuple):
    """What the data of some rows consists of: kept beside rows that may be written by another version of this program.

    ``binary``: or text, as before the binary format was written.
    """

    columns: Sequence[str]
    binary: bool = True

    @property
    def statement(self) -> str:
        form = "binary" if self.binary else "text"
        return f"COPY predictions ({', '.join(self.columns)}) FROM STDIN (FORMAT {form})"

    def stream(self, batches: Iterable[LogRows]) -> bytes:
        """Rows as a COPY of their own."""
        data = b"".join([batch.data for batch in batches])
        return HEADER + data + TRAILER if self.binary else data


WRITTEN: Final = Layout(tuple(TYPES))


def frame_rows(frame: pl.DataFrame) -> bytes:
    """A frame with the columns of ``TYPES`` (``inputs`` is JSON text) as a whole COPY."""
    frame = frame.select(pl.col(name).cast(kind) for name, kind in TYPES.items())
    if pgpq is None:
        columns = (map(_WRITTEN[kind], frame[name].to_list()) for name, kind in TYPES.items())
        return b"".join([HEADER, *(_FIELDS + b"".join(row) for row in zip(*columns, strict=True)), TRAILER])
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    batches = (encoder.write_batch(batch) for batch in table.to_batches())
    return b"".join([encoder.write_header(), *batches, encoder.finish()])


def log_rows(rows: Sequence[Logged]) -> LogRows:
    """Answers as they go into the log."""
    told = [(row.parts, row.source) for row in rows]
    keys = dict.fromkeys((part["request_id"], part["created_at"].isoformat()) for part, _ in told)
    if len(told) >= BULK_ROWS:
        told.sort(key=lambda one: (one[0]["store"], one[0]["product"]))
    data = [_row(part, source) + mark for (part, source), mark in zip(told, marks(len(told)), strict=True)]
    return LogRows(list(keys), len(rows), b"".join(data))


def marks(count: int) -> list[bytes]:
    """The last field of each of so many rows that are written at once."""
    if count < BULK_ROWS:
        return [_SMALL.pack(2, ALONE)] * count
    return [*[_SMALL.pack(2, ONE_OF_MANY)] * (count - 1), _SMALL.pack(2, LAST)]


def batch(count: int) -> pl.Expr:
    """As :func:`marks`, for a frame of so many rows."""
    if count < BULK_ROWS:
        return pl.lit(ALONE, pl.Int16).alias("batch")
    last = pl.int_range(pl.len()) == count - 1
    return pl.when(last).then(pl.lit(LAST, pl.Int16)).otherwise(pl.lit(ONE_OF_MANY, pl.Int16)).alias("batch")


def _row(answer: dict[str, Any], source: str) -> bytes:
    interval, none = answer["interval"], (None, None)
    units = [answer["prediction"], *(value for share in LEVELS for value in interval.get(str(share), none))]
    return b"".join(
        [
            begun(answer["created_at"]),
            day(answer["date"]),
            _repeated(answer["store"]),
            _repeated(answer["product"]),
            text(orjson.dumps(answer["inputs"], default=str)),
            *map(double, units),
            origin(answer["unit"], answer["model"], answer["data_version"], source, answer["request_id"]),
            _WHOLE.pack(8, answer["support"]["similar_days"]),
            words(answer["warnings"]),
        ]
    )


# ---------------------------------------------------------------- fields


def begun(created_at: dt.datetime) -> bytes:
    """The beginning of a row: how many fields, and the first of them."""
    return _FIELDS + _moment(created_at)


def _moment(value: dt.datetime) -> bytes:
    return _WHOLE.pack(8, (value - _FIRST_MOMENT) // _MICROSECOND)


def day(value: dt.date) -> bytes:
    """
    Examples
    --------
    >>> day(dt.date(2000, 1, 2)).hex()
    '0000000400000001'
    """
    return _DAY.pack(4, value.toordinal() - _FIRST_DAY)


def text(value: str | bytes | None) -> bytes:
    """
    Examples
    --------
    >>> text("é"), text(None)
    (b'\\x00\\x00\\x00\\x02\\xc3\\xa9', b'\\xff\\xff\\xff\\xff')
    """
    if value is None:
        return NULL
    data = value if isinstance(value, bytes) else value.encode()
    return _LENGTH.pack(len(data)) + data


_repeated = lru_cache(maxsize=1 << 14)(text)  # of names that stand in many rows


def origin(unit: str, model: Mapping[str, Any], data_version: str, source: str, request_id: str) -> bytes:
    """What the rows of one request have in common: ``unit … request_id``; ``model`` as :class:`ml.records.ModelRef`."""
    names = (unit, model["version"], model["alias"], model["run_id"], data_version, source)
    return b"".join([*map(_repeated, names), text(request_id)])


def double(value: float | None) -> bytes:
    return NULL if value is None else _DOUBLE.pack(8, value)


def words(values: Sequence[str]) -> bytes:
    """An array of text; null where there are none."""
    if not values:
        return NULL
    return text(_ARRAY.pack(1, 0, _TEXT_TYPE, len(values), 1) + b"".join(map(text, values)))


# Of each type of a column; no column of a day, a moment or a mark holds nulls.
_WRITTEN: Final[Mapping[Any, Callable[[Any], bytes]]] = {
    pl.Datetime("us", "UTC"): _moment,
    pl.Date: day,
    pl.String: text,
    pl.Float64: double,
    pl.Int64: lambda value: NULL if value is None else _WHOLE.pack(8, value),
    pl.List(pl.String): words,
    pl.Int16: lambda value: _SMALL.pack(2, value),
}


def fields(columns: Sequence[Sequence[float]], kind: str = ">f8") -> np.ndarray:
    """Columns of numbers, none of them null, as rows × bytes: ``>f8`` is double precision, ``>i8`` bigint.

    Examples
    --------
    >>> [bytes(row) for row in fields([[1.0, 2.0], [3.0, 4.0]])] == [
    ...     double(1.0) + double(3.0), double(2.0) + double(4.0)]
    True
    """
    made = np.empty((len(columns[0]), len(columns)), dtype=[("length", ">i4"), ("value", kind)])
    made["length"] = 8
    made["value"] = np.array(columns).T
    return made.view(np.uint8)


def beside(*parts: np.ndarray | bytes) -> list[bytes]:
    """For each row these parts of it: rows × bytes, or the same bytes in every row.

    Examples
    --------
    >>> beside(np.array([[1], [2]], np.uint8), b"x")
    [b'\\x01x', b'\\x02x']
    """
    rows = next(len(part) for part in parts if isinstance(part, np.ndarray))
    same = (np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part for part in parts)
    table = np.hstack([np.broadcast_to(part, (rows, part.shape[-1])) for part in same])
    data, width = table.tobytes(), table.shape[1]
    return [data[start : start + width] for start in range(0, len(data), width)]


def lengths(values: Sequence[bytes]) -> list[bytes]:
    """What stands before each of these values."""
    data = np.fromiter(map(len, values), ">i4", len(values)).tobytes()
    return [data[start : start + 4] for start in range(0, len(data), 4)]
