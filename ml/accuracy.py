"""How right the logged predictions were, added up by the database: rows never leave it.

Of several predictions for one store, product and date the last counts (within one week ahead, where it is asked by
weeks ahead); none that was made for a day whose sales were known already, none that was only tried out. The naive
forecast of a row is the backtest's: what the same series sold on the same weekday of the last week that was known when
it was asked, for weekly data a year before. It comes from the actuals, so no model has to answer again. Numbers that
people put in the place of forecasts are judged beside these; one that was given after its day is not.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from ml.records import WHAT_IF, Accuracy, AccuracyRow, VersionWeek
from ml.store import Store

By = Literal["date", "horizon", "store", "product", "promotion"]
BYS: tuple[By, ...] = get_args(By)
MOST_KEYS = 2000  # dates, stores or products of one answer
WORK_MEMORY = "64MB"  # a million ids and keys are hashed and not written to disk

# Weeks ahead of the day of asking. Sales are known up to the day before it at best, so its own day is in the first one.
_AHEAD = "greatest(1, (p.date - p.created_at::date + 7) / 7)"
# What one row counts for, by key.
_KEYS: dict[By, str] = {
    "date": "p.date::text",
    "horizon": f"{_AHEAD}::text",
    "store": "p.store",
    "product": "p.product",
    "promotion": "CASE WHEN (p.inputs ->> 'promotion')::float > 0 THEN 'yes' "
    "WHEN p.inputs ->> 'promotion' IS NULL THEN 'unknown' ELSE 'no' END",
}
_SQL = """
WITH {last}, overridden AS (
  SELECT DISTINCT ON (store, product, date) store, product, date, units
  FROM overrides o
  WHERE o.made_at::date <= o.date
  ORDER BY store, product, date, override_id DESC
), judged AS (
  SELECT {key} AS key, a.sales, o.units AS override,
    p.prediction, p.low_80, p.high_80, p.low_95, p.high_95, p.similar_days,
    (p.inputs ->> 'promotion')::float > 0 AS promoted, (p.inputs ->> 'holiday')::float > 0 AS holiday, n.sales AS naive
  FROM last
  JOIN predictions p USING (prediction_id)
  JOIN actuals a ON a.date = p.date AND a.store = p.store AND a.product = p.product
  LEFT JOIN overridden o ON o.store = p.store AND o.product = p.product AND o.date = p.date
  LEFT JOIN actuals n ON n.store = p.store AND n.product = p.product
    AND n.date = p.date - CASE WHEN p.unit = 'units/week' THEN 364 ELSE 7 * {weeks} END
)
SELECT key, GROUPING(key) AS whole, count(*) AS rows, sum(sales) AS sold,
  sum(abs(prediction - sales)) AS error, sum(prediction - sales) AS over, sum((prediction - sales) ^ 2) AS squares,
  avg((sales BETWEEN low_80 AND high_80)::int) AS inside_80, avg((sales BETWEEN low_95 AND high_95)::int) AS inside_95,
  count(naive) AS naive_rows, sum(abs(naive - sales)) AS naive_error,
  sum(abs(prediction - sales)) FILTER (WHERE naive IS NOT NULL) AS error_beside,
  sum(sales) FILTER (WHERE naive IS NOT NULL) AS sold_beside,
  count(override) AS override_rows, sum(abs(override - sales)) AS override_error,
  sum(abs(prediction - sales)) FILTER (WHERE override IS NOT NULL) AS error_overridden,
  sum(sales) FILTER (WHERE override IS NOT NULL) AS sold_overridden,
  count(*) FILTER (WHERE promoted) AS promoted, count(*) FILTER (WHERE holiday) AS holidays,
  count(*) FILTER (WHERE similar_days = 0) AS unsupported
FROM judged
GROUP BY GROUPING SETS ((key), ())
ORDER BY whole DESC, rows DESC, key
LIMIT :most
"""

_WEEKS = """
WITH {last}
SELECT p.model_version AS version, date_trunc('week', p.date)::date AS week, count(*) AS rows,
  sum(a.sales) AS sold, sum(abs(p.prediction - a.sales)) AS error
FROM last
JOIN predictions p USING (prediction_id)
JOIN actuals a ON a.date = p.date AND a.store = p.store AND a.product = p.product
GROUP BY p.model_version, week
ORDER BY week DESC, version
LIMIT :most
"""


@dataclass(frozen=True)
class Judged:
    """Which predictions; None means all. Dates bound the predicted day, both inclusive."""

    from_date: dt.date | None = None
    to_date: dt.date | None = None
    store: str | None = None
    product: str | None = None
    version: str | None = None


def accuracy(store: Store, by: By, wanted: Judged) -> Accuracy:
    """Accuracy per key and over everything; raises ServiceDown when the database is away."""
    where, values = judged_where(wanted)
    ahead = f", {_AHEAD}" if by == "horizon" else ""
    statement = sa.text(_SQL.format(last=last_predictions(where, ahead), key=_KEYS[by], weeks=_AHEAD))
    with store.reading_log() as connection:
        connection.execute(sa.text(f"SET LOCAL work_mem = '{WORK_MEMORY}'"))
        found = connection.execute(statement, {**values, "most": MOST_KEYS + 1}).mappings().all()
    total = next((_row(row) for row in found if row["whole"] and row["rows"]), None)
    items = tuple(sorted((_row(row) for row in found if not row["whole"]), key=_order(by)))
    return Accuracy(by=by, items=items, total=total)


def weeks(store: Store, wanted: Judged) -> tuple[VersionWeek, ...]:
    """Accuracy of each version per week, oldest first: a version is judged by its own last answer for a day, also
    after another one became champion."""
    where, values = judged_where(wanted)
    statement = sa.text(_WEEKS.format(last=last_predictions(where, ", p.model_version")))
    with store.reading_log() as connection:
        connection.execute(sa.text(f"SET LOCAL work_mem = '{WORK_MEMORY}'"))
        found = connection.execute(statement, {**values, "most": MOST_KEYS}).mappings().all()
    return tuple(
        VersionWeek(**row, wape=row["error"] / row["sold"] if row["sold"] > 0 else None) for row in reversed(found)
    )


def last_predictions(where: str, more: str = "") -> str:
    """SQL of ``last``: of several predictions for one store, product and date the last counts.

    ``more`` follows the keys: further ones, or a limit.
    """
    return (
        f"last AS (SELECT max(p.prediction_id) AS prediction_id FROM predictions p WHERE {where}"
        f" GROUP BY p.date, p.store, p.product{more})"
    )


def judged_where(wanted: Judged) -> tuple[str, dict[str, Any]]:
    """Conditions on ``predictions p`` of ours, with the values to bind. Nothing beyond the last actual is read."""
    given = {
        "p.date >= :from_date": wanted.from_date,
        "p.date <= :to_date": wanted.to_date,
        "p.store = :store": wanted.store,
        "p.product = :product": wanted.product,
        "p.model_version = :version": wanted.version,
    }
    conditions = [text for text, value in given.items() if value is not None]
    values = {text.rpartition(":")[2]: value for text, value in given.items() if value is not None}
    fixed = [
        "p.date <= (SELECT max(date) FROM actuals)",
        "p.source <> :what_if",
        "(p.warnings @> '{past_date}') IS NOT TRUE",
    ]
    return " AND ".join([*fixed, *conditions]), {**values, "what_if": WHAT_IF}


def _order(by: By) -> Any:
    return (lambda row: int(row.key)) if by == "horizon" else (lambda row: row.key)


def _row(found: sa.RowMapping) -> AccuracyRow:
    sold, rows, beside = found["sold"] or 0.0, found["rows"], found["sold_beside"] or 0.0
    overridden = found["sold_overridden"] or 0.0
    coverage = {level: found[f"inside_{level}"] for level in ("80", "95")}
    return AccuracyRow(
        key=None if found["whole"] else found["key"],
        rows=rows,
        sold=sold,
        error=found["error"] or 0.0,
        wape=found["error"] / sold if sold > 0 else None,
        bias=found["over"] / sold if sold > 0 else None,
        rmse=(found["squares"] / rows) ** 0.5 if rows else None,
        coverage={level: float(share) for level, share in coverage.items() if share is not None},
        naive_rows=found["naive_rows"],
        naive_wape=found["naive_error"] / beside if beside > 0 else None,
        wape_beside_naive=found["error_beside"] / beside if beside > 0 else None,
        override_rows=found["override_rows"],
        override_wape=found["override_error"] / overridden if overridden > 0 else None,
        wape_beside_override=found["error_overridden"] / overridden if overridden > 0 else None,
        promoted=found["promoted"],
        holidays=found["holidays"],
        unsupported=found["unsupported"],
    )
