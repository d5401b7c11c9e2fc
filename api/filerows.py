"""Rows to predict from a CSV, XLSX or Parquet body, through the same contract as an upload."""

from __future__ import annotations

from collections.abc import Iterator

from api.errors import RowsRefused
from api.loading import Loaded
from api.openapi import PARQUET, XLSX
from api.rows import Form, Input, refuse_many
from ml.contract import Checked, check_file
from ml.records import Mapping, RowError

SUFFIXES = {"text/csv": "csv", XLSX: "xlsx", PARQUET: "parquet", "application/x-parquet": "parquet"}
FIRST_ROW = 2  # the header is row 1


def read_file(loaded: Loaded, body: bytes, suffix: str) -> list[Input | RowError]:
    """Good rows and errors in the order of the file; raises RowsRefused when the file as a whole can't be used."""
    checked = _checked(loaded, body, f"body.{suffix}")
    _refuse_rejected(checked)
    errors = _errors(checked)
    refuse_many(checked.frame.height + len(errors))
    form = Form.of(loaded)
    # The contract names a store "all" that the file does not name: here the model's only one is meant.
    unsaid = {role for role in ("store", "product") if role not in checked.preflight.mapping.roles}
    used = [name for name in form.names if name in checked.frame.columns and name not in unsaid]
    return list(_merged(checked.frame.select(used).to_dicts(), errors, form))


def _checked(loaded: Loaded, body: bytes, name: str) -> Checked:
    """The file read once, and again when it holds columns that only the model says are known in advance."""
    checked = check_file(body, name, purpose="predict")
    mapping = checked.preflight.mapping
    present = {column.source for column in checked.preflight.columns} - set(mapping.roles.values())
    wanted = tuple(name for name in loaded.forecaster.manifest.regressors if name in present)
    if not wanted or set(wanted) <= set(mapping.regressors):
        return checked
    return check_file(body, name, mapping=Mapping(roles=mapping.roles, regressors=wanted), purpose="predict")


def _refuse_rejected(checked: Checked) -> None:
    refused = [finding for finding in checked.preflight.findings if finding.severity == "reject"]
    if refused or checked.preflight.verdict == "REJECT":
        errors = [RowError(row=f.row or 1, field=f.column, code=f.code, message=f.message) for f in refused]
        raise RowsRefused(f"The file can't be used: {refused[0].message if refused else 'no row is usable'}", errors)


def _errors(checked: Checked) -> dict[int, RowError]:
    """The first reason of every row that was left out."""
    found: dict[int, RowError] = {}
    for row, column, code, reason in checked.rejected.select("row", "column", "code", "reason").iter_rows():
        found.setdefault(row, RowError(row=row, field=column, code=code, message=reason))
    return dict(sorted(found.items()))


def _merged(good: list[Input], errors: dict[int, RowError], form: Form) -> Iterator[Input | RowError]:
    """Both in the order of the file."""
    following = iter(good)
    for row in range(FIRST_ROW, FIRST_ROW + len(good) + len(errors)):
        if row in errors:
            yield errors.pop(row)
        elif (values := next(following, None)) is not None:
            yield form.complete(row, values)
    yield from errors.values()
