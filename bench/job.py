"""What every method of the benchmark is given: the past, and what is known in advance of the future.

A folder with ``past.parquet`` (rows up to the cut-off), ``future.parquet`` (the rows to forecast, without sales) and
``job.json``. The sales to be forecast are not in it, so no method can see them.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from bench.sets import Case
from bench.tables import as_data
from ml.cleaning import step
from ml.features import KEY, closed_mask
from ml.records import Frequency
from ml.training import Data

JOB, PAST, FUTURE = "job.json", "past.parquet", "future.parquet"
FORECAST, FACTS = "forecast.parquet", "facts.json"


class Job(BaseModel):
    """What the two tables mean; a peer reads the same JSON without our code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    frequency: Frequency
    origin: dt.date
    horizon: int
    country: str
    measure: str
    regressors: tuple[str, ...]
    static: tuple[str, ...]
    closed_when: dict[str, float]

    @property
    def metric(self) -> str:
        """The measure that recipes are chosen by; WRMSSE is no property of single rows."""
        return "rmspe" if self.measure == "rmspe" else "wape"


def write_job(folder: Path, name: str, case: Case, data: Data) -> pl.DataFrame:
    """Cut a panel and write both parts; returns the rows that are judged: ``store, product, date, y, closed``.

    Judged is every period after the cut-off whose sales are known and on which the shop was open.
    """
    end = case.origin + step(data.frequency) * case.horizon
    panel = data.panel.with_columns(closed=closed_mask(data.columns))
    after = panel.filter(pl.col("date").is_between(case.origin, end, closed="right"))
    panel.filter(pl.col("date") <= case.origin).write_parquet(folder / PAST)
    after.drop("sales").write_parquet(folder / FUTURE)
    columns = data.columns
    job = Job(
        name=name,
        frequency=data.frequency,
        origin=case.origin,
        horizon=case.horizon,
        country=case.country,
        measure=case.measure,
        regressors=(*columns.regressors, *columns.text),
        static=(*columns.static, *columns.static_text),
        closed_when=dict(columns.closed_when),
    )
    (folder / JOB).write_text(job.model_dump_json(indent=1))
    return after.filter(pl.col("sales").is_not_null() & ~pl.col("closed")).select(*KEY, pl.col("sales").alias("y"))


def read_job(folder: Path) -> Job:
    return Job.model_validate_json((folder / JOB).read_text())


def past_of(folder: Path, job: Job) -> Data:
    """The past as the product's own tables: its categories are those of the past alone."""
    panel = pl.read_parquet(folder / PAST).drop("closed")
    return as_data(panel, job.frequency, job.country, job.regressors, job.closed_when, job.static)
