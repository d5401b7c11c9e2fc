"""Unchecked table to static attributes: one row per store, per product, or per product in a store; no date, no sales.

The same reading as for sales (:mod:`ml.contract`): every row is used or listed with its reason. Of the mapping, the
roles are the keys and the regressors the attributes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import polars as pl

from ml.contract import (
    PREVIEW_ROWS,
    Check,
    Checked,
    Source,
    as_mapped,
    check_file,
    checked_mapping,
    conclude,
    guarded,
    listed,
    read_input,
    read_names,
    refuse_file,
    rejected_rows,
    require_header,
    scatter,
)
from ml.errors import FileRefused
from ml.findings import refused, shown
from ml.reading import Table, match_columns, safe_name
from ml.records import ROLES, ColumnMatch, Finding, Mapping, Purpose, ReadOptions
from ml.values import as_text, blank, read_dates
from ml.vocabulary import EXACT, PART, WEAK, Meaning, meaning_of

KEYS = ("store", "product")
SURE = EXACT - 0.1  # a name that leaves no doubt, also with a filler such as "id" in it
ANEW = 0.9  # share of distinct names from which a column is a description rather than a kind
UNIQUE = 0.95  # share of rows with a key of their own from which a table is one row per key
DATES = 0.95  # share of dates from which a column is one of dates


def check_upload(
    data: bytes,
    filename: str,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    mapping: Mapping | None = None,
    purpose: Purpose | None = None,
    known: pl.DataFrame | None = None,
) -> Checked:
    """Read a file of any purpose; without one, sales and tables of attributes are told apart.

    Parameters
    ----------
    purpose
        None: attributes when :func:`holds_attributes` says so, else training. The result's preflight names it.
    known
        ``store, product`` of the sales there are, to say which keys have none; only for attributes.
    """
    if purpose is not None and purpose != "attributes":
        return check_file(data, filename, options=options, mapping=mapping, purpose=purpose)
    today = dt.datetime.now(dt.UTC).date()

    def read(table: Table) -> Checked:
        if purpose == "attributes" or holds_attributes(table):
            return _read(Check(replace(source, purpose="attributes"), table, today), mapping, known)
        return Check(source, table, today).run(mapping)

    source = Source(safe_name(filename), data, purpose or "training", options)
    return guarded(source, read)


def check_attributes(
    data: bytes,
    filename: str,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    mapping: Mapping | None = None,
    known: pl.DataFrame | None = None,
) -> Checked:
    """Read a table of static attributes; bad content never raises.

    Returns
    -------
    Checked
        Its frame has ``store`` and/or ``product`` (String, each key once), then the attributes under the names of the
        file: numbers as Float64 (dates as years, 2026.5), else String.

    Examples
    --------
    >>> checked = check_attributes(b"tienda,m2,tipo\\nA,120,calle\\nB,300,centro\\nC,90,calle\\n", "tiendas.csv")
    >>> checked.preflight.mapping.roles, checked.frame.columns
    ({'store': 'tienda'}, ['store', 'm2', 'tipo'])
    """
    return check_upload(data, filename, options=options, mapping=mapping, purpose="attributes", known=known)


# ---------------------------------------------------------------- what a table is


def holds_attributes(table: Table) -> bool:
    """Whether a table is one of attributes: a store or product column, no sales, and no date or a row per key.

    A name such as ``opening_date`` or ``volume_ml`` makes no sales file: what counts is that no column is plainly
    called sales, and that keys do not repeat from date to date.
    """
    names = table.frame.columns
    meanings = {name: meaning_of(name) for name in names}
    keys = _keys(meanings)
    if not keys or len(names) == len(keys) or any(_sure(m, "sales") for m in meanings.values()):
        return False
    roles = match_columns(table)[1].roles
    if "date" not in roles:
        return True
    if _sure(meanings[roles["date"]], "date"):
        return False
    distinct = table.frame.select(keys.values()).n_unique()
    return table.frame.height > 1 and distinct >= UNIQUE * table.frame.height


def _sure(meaning: Meaning, kind: str) -> bool:
    return meaning.kind == kind and meaning.score >= SURE


def _keys(meanings: dict[str, Meaning]) -> dict[str, str]:
    """Role -> column: the plainest names of store and product; vaguer ones count only when there is no plain one."""
    found: dict[str, str] = {}
    for least in (SURE, PART - 0.1, WEAK):
        for role in KEYS:
            fitting = [name for name, m in meanings.items() if m.kind == role and m.score >= least]
            if fitting:
                found[role] = min(fitting, key=lambda name: meanings[name].rank)
        if found:
            break
    return found


def _proposed(table: Table) -> Mapping:
    """The keys, and every column that says more about them than their names do."""
    meanings = {name: meaning_of(name) for name in table.frame.columns}
    keys = _keys(meanings)
    others = [name for name, m in meanings.items() if name not in keys.values() and not _names_the_key(m)]
    used = [name for name in others if name not in ROLES and _unusable(table.frame[name]) is None]
    return Mapping(roles=keys, regressors=tuple(used))


def _names_the_key(meaning: Meaning) -> bool:
    return meaning.kind == "id" or any(_sure(meaning, role) for role in KEYS)


def _unusable(column: pl.Series) -> str | None:
    """Why no model could learn from a column: the same everywhere, or another name in every row."""
    values = as_text(column).filter(~blank(column))
    distinct = values.n_unique()
    if distinct < 2:
        return "attribute_constant" if column.len() > 1 else None
    named = column.dtype == pl.String and not values.str.contains(r"^[\d.,\s%+-]+$").all()
    own = values.len() > 2 and distinct >= ANEW * values.len() and named and _dates(column) is None
    return "attribute_identifier" if own else None


# ---------------------------------------------------------------- reading it


def _read(check: Check, mapping: Mapping | None, known: pl.DataFrame | None) -> Checked:
    proposed = _proposed(check.table)
    used = proposed
    try:
        if mapping is not None:
            used = checked_mapping(mapping, check.table)
        require_header(check.table.frame.columns)
        _require(check, used)
    except FileRefused as refusal:
        why: Finding = refusal.facts["finding"]  # type: ignore[assignment]
        return refuse_file(check.source, check.table, why, columns=_matches(check, used), mapping=used)
    if mapping is None:
        _say_unused(check, used)
    keys = [role for role in KEYS if role in used.roles]
    for role in keys:
        check.columns[role], check.codes[role] = read_names(check, role, used.roles[role])
    for source in used.regressors:
        check.columns[source] = _attribute(check, source)
    _leave_out_repeats(check, keys)
    if known is not None:
        _compare(check, used, keys, known)
    return _conclude(check, used, keys)


def _require(check: Check, mapping: Mapping) -> None:
    seen = listed(check.table.frame.columns)
    if not set(KEYS) & set(mapping.roles):
        raise refused("columns_missing", needed="store or product", seen=seen)
    if extra := [role for role in mapping.roles if role not in KEYS]:
        raise refused("mapping_invalid", detail=f"{extra[0]} is no key of a table of attributes")
    if not mapping.regressors:
        raise refused("attribute_none", seen=seen)


def _matches(check: Check, mapping: Mapping) -> tuple[ColumnMatch, ...]:
    return as_mapped(match_columns(check.table)[0], mapping)


def _say_unused(check: Check, mapping: Mapping) -> None:
    for column in check.table.frame:
        if column.name in (*mapping.roles.values(), *mapping.regressors):
            continue
        if column.name in ROLES:
            check.say("attribute_reserved", "info", column=column.name)
        elif code := _unusable(column):
            check.say(code, "info", column=column.name)
        elif _names_the_key(meaning_of(column.name)):
            check.say("attribute_identifier", "info", column=column.name)


def _attribute(check: Check, source: str) -> pl.Series:
    years = _dates(check.raw(source))
    return years if years is not None else read_input(check, source)


def _dates(column: pl.Series) -> pl.Series | None:
    """A column of dates as years with fractions; None when it is not one."""
    if column.dtype == pl.String and not column.str.contains(r"\d[-/.]\d").any():
        return None
    if column.dtype != pl.String and not column.dtype.is_temporal():
        return None
    filled, dates = ~blank(column), read_dates(column).values
    if not filled.any() or dates.count() < DATES * int(filled.sum()):
        return None
    return dates.dt.year() + (dates.dt.ordinal_day() - 1) / 365.25


def _leave_out_repeats(check: Check, keys: list[str]) -> None:
    """Of rows for one key that agree the first stays; of rows that do not agree, none."""
    bad = check.bad()
    used = pl.repeat(True, check.table.frame.height, eager=True) if bad is None else ~bad
    frame = pl.DataFrame([column.alias(name) for name, column in check.columns.items()]).filter(used)
    label = frame.select(pl.concat_str(keys, separator=" ")).to_series()
    first = frame.select(pl.struct(pl.all())).to_series().is_first_distinct()
    several = frame.select(pl.struct(keys)).to_series().filter(first).is_duplicated()
    quoted = scatter(label, used)
    check.leave_out(scatter(~first, used), "attribute_repeated", None, values=quoted)
    check.leave_out(scatter(scatter(several, first).fill_null(False), used), "attribute_conflict", None, values=quoted)


def _compare(check: Check, mapping: Mapping, keys: list[str], known: pl.DataFrame) -> None:
    """Say which keys have no sales, and which of the sales have no attributes."""
    given = pl.DataFrame([check.columns[role].alias(role) for role in keys]).with_row_index("_at")
    sold = known.select(keys).unique(maintain_order=True)
    unsold = given.drop_nulls().join(sold, on=keys, how="anti").sort("_at")
    if unsold.height:
        at = int(unsold["_at"][0])
        facts: dict[str, Any] = {"row": int(check.table.rows[at]), "column": mapping.roles[keys[0]]}
        check.say("attribute_unsold", "info", count=unsold.height, value=_label(unsold, keys), **facts)
    lacking = sold.join(given, on=keys, how="anti").sort(keys)
    if lacking.height:
        check.say("attribute_lacking", "info", count=lacking.height, value=_label(lacking, keys))


def _label(rows: pl.DataFrame, keys: list[str]) -> str:
    return shown(" ".join(str(rows[key][0]) for key in keys))


def _conclude(check: Check, mapping: Mapping, keys: list[str]) -> Checked:
    bad = check.bad()
    frame = pl.DataFrame([column.alias(name) for name, column in check.columns.items()])
    frame = frame if bad is None else frame.filter(~bad)
    rejected = rejected_rows(check) if bad is not None else check.table.bad_rows.sort("row")
    return conclude(
        check,
        frame,
        rejected,
        columns=_matches(check, mapping),
        mapping=mapping,
        preview=tuple(frame.head(PREVIEW_ROWS).to_dicts()),
        **{f"{role}s": frame[role].n_unique() for role in keys},
    )
