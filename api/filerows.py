"""Rows to predict from a CSV, XLSX or Parquet file, through the same contract as an upload."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import polars as pl

from api.errors import RowsRefused
from api.loading import Loaded
from api.openapi import PARQUET, XLSX
from api.rows import Form, Input, refuse_many
from ml.contract import Checked, check_file
from ml.records import Mapping, ReadOptions, RowError
from ml.table import raw_name
from ml.values import as_text

SUFFIXES = {"text/csv": "csv", XLSX: "xlsx", PARQUET: "parquet", "application/x-parquet": "parquet"}


@dataclass(frozen=True)
class FileRows:
    """The rows of a file, each in one of both, in the order of the file.

    ``good``: ``row`` (its number in the file) and the inputs. ``refused``: row, column, code, reason, then the raw
    cells as text.
    """

    good: pl.DataFrame
    refused: pl.DataFrame


@dataclass(frozen=True)
class Reading:
    """How a file is to be read; what is left out is detected. ``today``: the day that its dates are held to."""

    options: ReadOptions = field(default_factory=ReadOptions)
    mapping: Mapping | None = None
    today: dt.date | None = None


def read_file(loaded: Loaded, body: bytes, suffix: str) -> list[Input | RowError]:
    """Good rows and errors in the order of the file; raises RowsRefused when the file as a whole can't be used."""
    found = read_rows(loaded, body, f"body.{suffix}")
    refuse_many(found.good.height + found.refused.height)
    both: dict[int, Input | RowError] = {values.pop("row"): values for values in found.good.to_dicts()}
    for row, column, code, reason in found.refused.select("row", "column", "code", "reason").iter_rows():
        both[row] = RowError(row=row, field=column, code=code, message=reason)
    return [both[row] for row in sorted(both)]


def read_rows(loaded: Loaded, body: bytes, name: str, how: Reading = Reading()) -> FileRows:
    """The rows of a file of any size; raises RowsRefused when the file as a whole can't be used."""
    checked = _checked(loaded, body, name, how)
    _refuse_rejected(checked)
    form, mapping = Form.of(loaded), checked.preflight.mapping
    # The contract names a store "all" that the file does not name: here the model's only one is meant.
    unsaid = {role for role in ("store", "product") if role not in mapping.roles}
    used = [name for name in form.names if name in checked.frame.columns and name not in unsaid]
    rows = checked.frame.select(checked.rows.alias("row"), *used)
    good, faulty = form.complete(rows)
    if not faulty.height:
        return FileRows(good, checked.rejected)
    sources = {raw_name(source): role for role, source in mapping.roles.items() if role in used}
    sources |= {raw_name(name): name for name in mapping.regressors if name in used}
    cells = rows.join(faulty.select("row"), on="row", how="semi")
    told = faulty.hstack([as_text(cells[name]).alias(source) for source, name in sources.items()])
    return FileRows(good, pl.concat([checked.rejected, told], how="diagonal").sort("row"))


def _checked(loaded: Loaded, body: bytes, name: str, how: Reading) -> Checked:
    """The file read once, and again when it holds columns that only the model says are known in advance."""

    def read(mapping: Mapping | None) -> Checked:
        return check_file(body, name, options=how.options, mapping=mapping, purpose="predict", today=how.today)

    checked = read(how.mapping)
    mapping = checked.preflight.mapping
    present = {column.source for column in checked.preflight.columns} - set(mapping.roles.values())
    wanted = tuple(name for name in loaded.forecaster.manifest.regressors if name in present)
    if not wanted or set(wanted) <= set(mapping.regressors):
        return checked
    return read(Mapping(roles=mapping.roles, regressors=wanted))


def _refuse_rejected(checked: Checked) -> None:
    refused = [finding for finding in checked.preflight.findings if finding.severity == "reject"]
    if refused or checked.preflight.verdict == "REJECT":
        errors = [RowError(row=f.row or 1, field=f.column, code=f.code, message=f.message) for f in refused]
        raise RowsRefused(f"The file can't be used: {refused[0].message if refused else 'no row is usable'}", errors)
