"""Seasonal naive as a method of :mod:`bench.accuracy`: the last open day of the same weekday, the same week last year.

Intervals are those of Hyndman & Athanasopoulos (Forecasting: Principles and Practice, 5.5): the deviation of the
series' own seasonal differences, growing with the root of the seasons ahead.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import polars as pl
from scipy.stats import norm

from bench.job import FACTS, FORECAST, FUTURE, PAST, Job, read_job
from bench.tables import peak_gb
from ml.features import KEY, SERIES
from ml.records import LEVELS

YEAR_WEEKS = 52


def seasonal_naive(job: Job, past: pl.DataFrame, future: pl.DataFrame) -> pl.DataFrame:
    """Forecast the future's rows; a series without any sale to repeat gets null, a closed period 0."""
    known = past.filter(pl.col("sales").is_not_null() & ~pl.col("closed")).select(*KEY, y=pl.col("sales").cast(float))
    point = _repeated_days(known, future) if job.frequency == "D" else _repeated_weeks(known, future)
    seasonal = _differences(known, job.frequency)
    rows = point.join(seasonal, on=SERIES, how="left", maintain_order="left")
    days = (pl.col("date") - pl.lit(job.origin)).dt.total_days()
    seasons = ((days - 1) // (7 if job.frequency == "D" else 7 * YEAR_WEEKS) + 1).sqrt()
    reach = {level: float(norm.ppf((1 + level / 100) / 2)) * pl.col("sigma") * seasons for level in LEVELS}
    bounds = [(pl.col("prediction") - r).clip(lower_bound=0).alias(f"low_{lv}") for lv, r in reach.items()]
    bounds += [(pl.col("prediction") + r).alias(f"high_{lv}") for lv, r in reach.items()]
    return rows.with_columns(bounds).drop("sigma")


def _repeated_days(known: pl.DataFrame, future: pl.DataFrame) -> pl.DataFrame:
    weekday = pl.col("date").dt.weekday().alias("weekday")
    last = known.group_by(*SERIES, weekday).agg(prediction=pl.col("y").sort_by("date").last())
    rows = future.select(*KEY, "closed", weekday)
    return _with_last_value(rows.join(last, on=[*SERIES, "weekday"], how="left", maintain_order="left"), known)


def _repeated_weeks(known: pl.DataFrame, future: pl.DataFrame) -> pl.DataFrame:
    year = known.select(*SERIES, pl.col("date").dt.offset_by(f"{YEAR_WEEKS}w"), prediction="y")
    return _with_last_value(future.select(*KEY, "closed").join(year, on=KEY, how="left", maintain_order="left"), known)


def _with_last_value(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    last = known.group_by(SERIES).agg(_last=pl.col("y").sort_by("date").last())
    rows = rows.join(last, on=SERIES, how="left", maintain_order="left")
    point = pl.when("closed").then(0.0).otherwise(pl.coalesce("prediction", "_last"))
    return rows.select(*KEY, "closed", prediction=point)


def _differences(known: pl.DataFrame, frequency: str) -> pl.DataFrame:
    """Root mean square of the seasonal differences of each series, in units."""
    if frequency == "D":
        change = pl.col("y").diff().over(*SERIES, pl.col("date").dt.weekday(), order_by="date")
    else:
        change = pl.col("y").diff(YEAR_WEEKS).over(*SERIES, order_by="date")
    found = known.with_columns(change=change).group_by(SERIES).agg(sigma=(pl.col("change") ** 2).mean().sqrt())
    return found.with_columns(pl.col("sigma").fill_null(pl.col("sigma").mean()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.naive", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    job, past, future = read_job(folder), pl.read_parquet(folder / PAST), pl.read_parquet(folder / FUTURE)
    began = time.monotonic()
    found = seasonal_naive(job, past, future)
    bounds = [f"{side}_{level}" for level in LEVELS for side in ("low", "high")]
    found.select(*KEY, "prediction", *bounds).write_parquet(folder / FORECAST)
    facts = {
        "seconds": time.monotonic() - began,
        "peak_gb": peak_gb(),
        "note": "last open day of the same weekday" if job.frequency == "D" else "same week last year, else last value",
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
