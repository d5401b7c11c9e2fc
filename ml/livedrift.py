"""How far what is predicted has moved: predictions of the last weeks beside those for the same weeks a year before.

Each prediction is taken beside its series' level before the window, as :mod:`ml.drift` takes sales. Without predictions
of a year before, those of the half year before the window are the reference; then a season may look like drift, and
``Drift.reference`` says which it was.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import polars as pl
import sqlalchemy as sa

from ml.accuracy import Judged, judged_where, last_predictions
from ml.cleaning import step
from ml.drift import LEAST, LEAST_ROWS, LEVEL, RECENT, YEAR, compared
from ml.records import Drift, Frequency
from ml.store import Store

MOST_ROWS = 100_000  # of a window; more would tell nothing more
PATIENCE = "5s"
_SQL = """
WITH {last}, level AS (
  SELECT store, product, avg(sales) AS level
  FROM actuals WHERE date BETWEEN :level_from AND :level_to
  GROUP BY store, product
)
SELECT p.date, p.store, p.product, p.prediction, l.level
FROM last JOIN predictions p USING (prediction_id) JOIN level l ON l.store = p.store AND l.product = p.product
"""
SCHEMA = {"date": pl.Date, "store": pl.String, "product": pl.String, "prediction": pl.Float64, "level": pl.Float64}


def prediction_drift(store: Store, newest: dt.date, frequency: Frequency) -> Drift:
    """Compare the last predictions for the newest known periods with those of their reference.

    Returns
    -------
    A ``Drift`` with the one feature ``prediction``; without it, and with a note, where there is too little to compare.
    Raises ServiceDown when the database takes long.
    """
    one, span = step(frequency), LEVEL[frequency]
    first = newest - one * (span - 1)
    new = _window(store, first, newest, frequency)
    if new.height < LEAST_ROWS or new["date"].n_unique() < LEAST[frequency]:
        return Drift(note=f"{new.height} predictions of {new['date'].n_unique()} periods; they are too few to compare.")
    kind, since, until = _reference(store, first, newest, new.height, frequency)
    old = _window(store, since, until, frequency)
    found = compared("prediction", old, new) if old.height >= LEAST_ROWS else None
    if found is None:
        return Drift(note=f"{old.height} earlier predictions; at least {LEAST_ROWS} are needed.")
    return Drift(
        reference=kind, reference_from=since, reference_to=until, date_from=first, date_to=newest,
        rows_reference=old.height, rows=new.height, features=(found,),
    )  # fmt: skip


def _reference(
    store: Store, first: dt.date, newest: dt.date, rows: int, frequency: Frequency
) -> tuple[Literal["year_before", "recent"], dt.date, dt.date]:
    """The same weeks a year before if the log has at least half as many, else the half year before the window."""
    if 2 * _window(store, first - YEAR, newest - YEAR, frequency).height >= rows:
        return "year_before", first - YEAR, newest - YEAR
    last = first - step(frequency)
    return "recent", last - RECENT, last


def _window(store: Store, first: dt.date, last: dt.date, frequency: Frequency) -> pl.DataFrame:
    """Predictions for these days beside the level that their series had a level's length before the first of them."""
    one, span = step(frequency), LEVEL[frequency]
    where, values = judged_where(Judged(from_date=first, to_date=last))
    level: dict[str, Any] = {"level_from": first - one * 2 * span, "level_to": first - one * (span + 1)}
    query = sa.text(_SQL.format(last=last_predictions(where, " LIMIT :most")))
    with store.reading_log() as connection:
        connection.execute(sa.text(f"SET LOCAL statement_timeout = '{PATIENCE}'"))
        found = connection.execute(query, {**values, **level, "most": MOST_ROWS}).all()
    rows = pl.DataFrame([tuple(row) for row in found], schema=SCHEMA, orient="row")
    week = pl.col("date").dt.truncate("1w")
    return rows.with_columns(
        prediction=pl.col("prediction").clip(0).log1p() - pl.col("level").log1p(), _cluster=pl.struct("store", week)
    )
