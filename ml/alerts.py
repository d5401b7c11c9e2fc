"""What is out of the ordinary today, each with the units at stake. Of the last days only: nothing grows with the log.

Bounds are such that chance alone seldom reaches them: of seven days three outside a 95 % interval happen to 4 in 1,000
series, ten errors of one sign to 2 in 1,000.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from ml.accuracy import Judged, judged_where, last_predictions
from ml.cleaning import step
from ml.records import Alert, Frequency, SeriesInfo
from ml.store import Store

LATELY = 7  # newest known periods that are looked at
OUTSIDE = 3  # of these beyond the 95 % interval
RUN = 10  # newest known periods that all err to one side
NET = 0.2  # and by at least this share of what sold
BACK = {"D": 21, "W": 26}  # periods in which the newest known ones are looked for
JUMP = 1.5  # times as much as lately, or as little
SILENT = (3, 14)  # periods without a known sale; after more it is taken for given up
MOST_OF_A_KIND = 200
PATIENCE = "4s"  # of the database; Home goes on without this
_LIVE = """
WITH {last}, judged AS (
  SELECT p.store, p.product, p.date, a.sales, p.prediction - a.sales AS error,
    coalesce(a.sales NOT BETWEEN p.low_95 AND p.high_95, false) AS outside,
    row_number() OVER (PARTITION BY p.store, p.product ORDER BY p.date DESC) AS back
  FROM last
  JOIN predictions p USING (prediction_id)
  JOIN actuals a ON a.date = p.date AND a.store = p.store AND a.product = p.product
), lately AS (
  SELECT 'outside_band' AS kind, store, product, min(date) AS date_from, max(date) AS date_to, count(*) AS days,
    count(*) FILTER (WHERE outside) AS outside, sum(abs(error)) FILTER (WHERE outside) AS units, sum(error) AS net
  FROM judged WHERE back <= {lately} GROUP BY store, product HAVING count(*) FILTER (WHERE outside) >= {outside}
), runs AS (
  SELECT 'bias' AS kind, store, product, min(date) AS date_from, max(date) AS date_to, count(*) AS days,
    0 AS outside, abs(sum(error)) AS units, sum(error) AS net
  FROM judged WHERE back <= {run} GROUP BY store, product
  HAVING count(*) = {run} AND (min(error) > 0 OR max(error) < 0) AND abs(sum(error)) >= {net} * sum(sales)
)
(SELECT * FROM lately ORDER BY units DESC LIMIT :most) UNION ALL (SELECT * FROM runs ORDER BY units DESC LIMIT :most)
"""


def live(store: Store, newest: dt.date, frequency: Frequency) -> list[Alert]:
    """Series whose newest known sales lie outside the interval, or all to one side of the forecast.

    Judged by the last prediction for each day, as the accuracy is; raises ServiceDown when the database takes long.
    """
    where, values = judged_where(Judged(from_date=newest - step(frequency) * BACK[frequency]))
    query = _LIVE.format(last=last_predictions(where), lately=LATELY, outside=OUTSIDE, run=RUN, net=NET)
    with store.reading_log() as connection:
        connection.execute(sa.text(f"SET LOCAL statement_timeout = '{PATIENCE}'"))
        found = connection.execute(sa.text(query), {**values, "most": MOST_OF_A_KIND}).mappings().all()
    return [_of_row(row) for row in found]


def _of_row(row: sa.RowMapping) -> Alert:
    facts: dict[str, Any] = {"days": row["days"], "net": row["net"]}
    if row["kind"] == "outside_band":
        facts["outside"] = row["outside"]
    names = ("kind", "store", "product", "date_from", "date_to", "units")
    return Alert(**{name: row[name] for name in names}, facts=facts)


def jumps(expected: pl.DataFrame, lately: pl.DataFrame) -> list[Alert]:
    """Series of which much more or less is expected than sold lately.

    Parameters
    ----------
    expected
        Totals of the periods to come: ``store, product, date_from, date_to, prediction, low_80, high_80``.
    lately
        ``store, product, sold`` over as many periods before.
    """
    rows = expected.join(lately, on=["store", "product"], how="inner")
    far = (pl.col("prediction") >= JUMP * pl.col("sold")) | (pl.col("prediction") * JUMP <= pl.col("sold"))
    beyond = (pl.col("sold") < pl.col("low_80")) | (pl.col("sold") > pl.col("high_80"))
    rows = rows.filter(far & beyond).with_columns(units=(pl.col("prediction") - pl.col("sold")).abs())
    return [
        Alert(
            kind="jump", store=row["store"], product=row["product"], date_from=row["date_from"],
            date_to=row["date_to"], units=row["units"],
            facts={"expected": row["prediction"], "sold": row["sold"]},
        )
        for row in rows.sort("units", descending=True).head(MOST_OF_A_KIND).iter_rows(named=True)
    ]  # fmt: skip


def silent(series: Iterable[SeriesInfo], newest: dt.date, frequency: Frequency) -> list[Alert]:
    """Series whose newest days are not known although they sold until shortly before."""
    one = step(frequency)
    found = []
    for item in series:
        periods = (newest - item.date_to) // one
        if SILENT[0] <= periods <= SILENT[1]:
            found.append(
                Alert(
                    kind="missing",
                    store=item.store,
                    product=item.product,
                    date_from=item.date_to + one,
                    date_to=newest,
                    units=item.mean_sales * periods,
                    facts={"days": periods},
                )
            )
    return _most(found, MOST_OF_A_KIND)


def unseen(
    series: Iterable[SeriesInfo], learned: dict[str, tuple[str, ...]], newest: dt.date, frequency: Frequency
) -> list[Alert]:
    """Series of stores or products that the champion has not learned; at stake is what they sell in a week (four)."""
    known = {name: set(values) for name, values in learned.items()}
    periods = LATELY if frequency == "D" else 4
    found = [
        Alert(
            kind="unseen", store=item.store, product=item.product, date_from=item.date_from, date_to=newest,
            units=item.mean_sales * periods, facts={"days": item.rows},
        )
        for item in series
        if any(name in known and getattr(item, name) not in known[name] for name in ("store", "product"))
    ]  # fmt: skip
    return _most(found, MOST_OF_A_KIND)


def _most(found: Sequence[Alert], count: int) -> list[Alert]:
    return sorted(found, key=lambda item: (-item.units, item.kind, item.store, item.product))[:count]


def first(found: Sequence[Alert], count: int) -> tuple[Alert, ...]:
    """Those with the most units at stake."""
    return tuple(_most(found, count))
