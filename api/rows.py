"""Rows to predict, from unchecked JSON to typed inputs: what is wrong with a row is named by row and field."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from api.loading import Loaded
from api.strict import Bad, Twice, clean, named
from ml.errors import InputError, TooLarge
from ml.records import RowError
from ml.table import no_bad_rows

MAX_ROWS = 5_000
SPANISH = {
    "fecha": "date",
    "tienda": "store",
    "producto": "product",
    "precio": "price",
    "promocion": "promotion",
    "promociones": "promotion",
    "promoción": "promotion",
    "festivo": "holiday",
}
CONTRACT = ("date", "store", "product", "price", "promotion", "holiday")
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
EARLIEST, LATEST = dt.date(1970, 1, 1), dt.date(2100, 12, 31)
MAX_PRICE = 1e9
MAX_TEXT = 200
MAX_NUMBER = 1e12

Input = dict[str, Any]


class Refused(Exception):
    """A field that cannot be used; becomes the RowError of its row."""

    def __init__(self, field: str | None, code: str, message: str) -> None:
        self.field, self.code, self.message = field, code, message
        super().__init__(message)


class Fault(NamedTuple):
    """What is wrong with the rows of a file where ``mask`` is true."""

    field: str
    code: str
    message: str
    mask: pl.Series


@dataclass(frozen=True)
class Form:
    """What a row may hold, for one loaded model."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    only_store: str | None
    only_product: str | None
    last_date: dt.date

    @classmethod
    def of(cls, loaded: Loaded) -> Form:
        texts = loaded.forecaster.columns.text
        regressors = loaded.forecaster.manifest.regressors
        return cls(
            numbers=tuple(name for name in regressors if name not in texts),
            texts=tuple(texts),
            only_store=next(iter(loaded.stores)) if len(loaded.stores) == 1 else None,
            only_product=next(iter(loaded.products)) if len(loaded.products) == 1 else None,
            last_date=loaded.last_date,
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*CONTRACT, *self.numbers, *self.texts)

    def read(self, row: int, unchecked: Any) -> Input | RowError:
        """One row; ``row`` counts from 1."""
        try:
            return self._read(unchecked)
        except Refused as error:
            return RowError(row=row, field=error.field, code=error.code, message=error.message)

    def _read(self, unchecked: Any) -> Input:
        if not isinstance(unchecked, dict):
            raise Refused(None, "not_an_object", "A row is an object with date, store, product and what is planned.")
        if isinstance(unchecked, Twice):
            raise Refused(named(unchecked.key), "duplicate_key", "This key stands twice in the row.")
        given = self._by_name(unchecked)
        found = {name: self.value(name, value) for name, value in given.items() if value is not None}
        return self._completed(found)

    def complete(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows whose values the contract of files has checked already; regressors may be of another type there.

        ``rows``: ``row`` and what the file names. Returns the rows that can be forecast, and of each of the others
        ``row, column, code, reason``, both in the order of the rows.
        """
        faults: list[Fault] = []
        for name in rows.columns:
            read = _numbers if name in self.numbers else _texts if name in self.texts else None
            if read is not None:
                column, found = read(rows[name])
                rows, faults = rows.with_columns(column), [*faults, *found]
        late = f"date is too far ahead: the history answers dates up to {self.last_date}."
        faults.append(Fault("date", "too_far_ahead", late, rows["date"] > self.last_date))
        for name, only in (("store", self.only_store), ("product", self.only_product)):
            given = rows[name] if name in rows.columns else pl.repeat(None, rows.height, dtype=pl.String, eager=True)
            if only is None:
                faults.append(Fault(name, "missing", f"{name} is needed: the data has several.", given.is_null()))
            else:
                rows = rows.with_columns(given.fill_null(only).alias(name))
        return _sorted_out(rows, faults)

    def named(self, keys: Iterable[str]) -> dict[str, str]:
        """The contract's name of each key of a row; raises Refused as reading the row would."""
        return {key: name for name, key in self._by_name({key: key for key in keys}).items()}

    def value(self, name: str, value: Any) -> Any:
        """One value that is not null, as :meth:`read` has it; raises Refused."""
        if isinstance(value, Bad):
            raise Refused(name, "not_a_number", f"{name} {value.why}.")
        if name in self.texts:
            return _text(name, value)
        return READ.get(name, _regressor)(name, value)

    def completed_columns(self, found: dict[str, list[Any]], rows: int) -> dict[str, list[Any]]:
        """Columns with the store and product that go without saying; raises Refused as one of the rows would."""
        least = self._completed({name: max(values) if name == "date" else values[0] for name, values in found.items()})
        return found | {name: [value] * rows for name, value in least.items() if name not in found}

    def _by_name(self, unchecked: Mapping[str, Any]) -> Input:
        """The values under the contract's names; a regressor wins over an alias of the same name."""
        given: Input = {}
        for key, value in unchecked.items():
            name = key if key in self.numbers or key in self.texts else SPANISH.get(key, key)
            if name not in self.names:
                raise Refused(named(key), "unknown_field", self._unknown(key))
            if name in given:
                raise Refused(name, "duplicate_key", f"{name} is given twice, under two names.")
            given[name] = value
        return given

    def _unknown(self, key: str) -> str:
        near = difflib.get_close_matches(key[:MAX_TEXT], [*self.names, *SPANISH], 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(self.names)}."
        return f"This field is not known: {hint}"

    def _completed(self, found: Input) -> Input:
        if "date" not in found:
            raise Refused("date", "missing", "date is needed, as YYYY-MM-DD.")
        if found["date"] > self.last_date:
            message = f"date is too far ahead: the history answers dates up to {self.last_date}."
            raise Refused("date", "too_far_ahead", message)
        for name, only in (("store", self.only_store), ("product", self.only_product)):
            if name not in found and only is None:
                raise Refused(name, "missing", f"{name} is needed: the data has several.")
            found.setdefault(name, only)
        return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(name, "not_a_text", f"{name} must be a text in quotation marks.")
    if not value.strip() or len(value) > MAX_TEXT or not clean(value):
        raise Refused(name, "not_a_name", f"{name} must be a text of 1 to {MAX_TEXT} ordinary characters.")
    return value.strip()


def _numbers(column: pl.Series) -> tuple[pl.Series, list[Fault]]:
    """A regressor of a file as numbers; a column of words holds none."""
    name = column.name
    if column.dtype == pl.String:
        message = f"{name} must be a number without quotation marks."
        return column.cast(pl.Float64, strict=False), [Fault(name, "not_a_number", message, column.is_not_null())]
    values = column.cast(pl.Float64)
    message = f"{name} must lie between -{MAX_NUMBER:g} and {MAX_NUMBER:g}."
    return values, [Fault(name, "out_of_range", message, values.abs() > MAX_NUMBER)]


def _texts(column: pl.Series) -> tuple[pl.Series, list[Fault]]:
    """A regressor of a file as words; each different one is looked at once."""
    read: dict[Any, str | None] = {}
    message = ""
    for value in column.drop_nulls().unique():
        try:
            read[value] = _text(column.name, f"{value:g}" if isinstance(value, float) else value)
        except Refused as error:
            read[value], message = None, error.message
    values = column.replace_strict(read, return_dtype=pl.String)
    return values, [Fault(column.name, "not_a_name", message, column.is_not_null() & values.is_null())]


def _sorted_out(rows: pl.DataFrame, faults: list[Fault]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows without a fault, and the first fault of each of the others."""
    gone = pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    parts = [no_bad_rows([])]
    for fault in faults:
        mask = fault.mask.fill_null(False) & ~gone
        if mask.any():
            said = {"column": fault.field, "code": fault.code, "reason": fault.message}
            parts.append(rows.filter(mask).select("row", **{name: pl.lit(text) for name, text in said.items()}))
            gone = gone | mask
    return rows.filter(~gone), pl.concat(parts).sort("row")


def _date(name: str, value: Any) -> dt.date:
    if not isinstance(value, str) or not ISO_DATE.fullmatch(value) or not value.isascii():
        raise Refused(name, "not_a_date", "date must be a text as YYYY-MM-DD.")
    try:
        date = dt.date.fromisoformat(value)
    except ValueError as error:
        raise Refused(name, "not_a_date", "date is not a day of the calendar.") from error
    if not EARLIEST <= date <= LATEST:
        raise Refused(name, "out_of_range", f"date must lie between {EARLIEST} and {LATEST}.")
    return date


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(name, "not_a_number", f"{name} must be a number without quotation marks.")
    return float(value)


def _price(name: str, value: Any) -> float:
    number = _number(name, value)
    if not 0 < number <= MAX_PRICE:
        raise Refused(name, "out_of_range", f"price must be above 0 and at most {MAX_PRICE:,.0f}.")
    return number


def _share(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, bool) else _number(name, value)
    if not 0 <= number <= 1:
        raise Refused(name, "out_of_range", "promotion is 0 or 1, or a discount share between them.")
    return number


def _flag(name: str, value: Any) -> int:
    number = float(value) if isinstance(value, bool) else _number(name, value)
    if number not in (0, 1):
        raise Refused(name, "out_of_range", "holiday is 0 or 1.")
    return int(number)


def _regressor(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, bool) else _number(name, value)
    if abs(number) > MAX_NUMBER:
        raise Refused(name, "out_of_range", f"{name} must lie between -{MAX_NUMBER:g} and {MAX_NUMBER:g}.")
    return number


READ: dict[str, Callable[[str, Any], Any]] = {
    "date": _date,
    "store": _text,
    "product": _text,
    "price": _price,
    "promotion": _share,
    "holiday": _flag,
}


def instances(unchecked: Any) -> list[Any] | None:
    """The rows of ``{"instances": [...]}``, or None when the body is one row; raises InputError or TooLarge."""
    if not isinstance(unchecked, dict):
        raise InputError('The body is one row as an object, or {"instances": [...]}.')
    if "instances" not in unchecked:
        return None
    if isinstance(unchecked, Twice):
        raise InputError("A key stands twice in the object.", field=named(unchecked.key))
    extra = next((key for key in unchecked if key != "instances"), None)
    if extra is not None:
        raise InputError("Beside instances nothing else may stand in the body.", field=named(extra))
    rows = unchecked["instances"]
    if not isinstance(rows, list) or not rows:
        raise InputError("instances must be a list of at least one row.", field="instances")
    refuse_many(len(rows))
    return rows


def refuse_many(rows: int) -> None:
    if rows > MAX_ROWS:
        raise TooLarge(
            f"At most {MAX_ROWS:,} rows are answered at once; these are {rows:,}.", rows=rows, limit=MAX_ROWS
        )
