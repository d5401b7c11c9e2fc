"""The peers of :mod:`bench.accuracy`, run by their own Python: AutoETS (statsforecast), LightGBM with mlforecast.

``PEERS_PYTHON bench/peer_models.py auto_ets|mlforecast_lightgbm JOB_FOLDER`` reads what :mod:`bench.job` wrote and
imports nothing of this project: the peers cannot share its environment (bench/peers.in says why).

Both get the same past, cut and future inputs as every other method. Unknown sales are filled with those of the season
before, since neither takes gaps. A closed period is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("NIXTLA_ID_AS_COL", "1")

import polars as pl

KEY = ["store", "product", "date"]
SERIES = ["store", "product"]
LEVELS = (80, 95)
CORES = 2
# AutoETS takes about as long as its series are many and long: above this many the window is cut, and says so.
ETS_ROWS, ETS_PERIODS = 2_000_000, 112
ML_ROWS = 3_500_000  # the newest rows that LightGBM learns from, as many as ours takes
ML_WINDOWS, ML_WINDOWS_LARGE = 5, 2  # of its conformal intervals; the fewest it takes are 2
LIGHTGBM = {
    "n_estimators": 500,
    "learning_rate": 0.05,
    "num_leaves": 64,
    "min_child_samples": 50,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.7,
    "random_state": 7,
    "n_jobs": CORES,
    "verbosity": -1,
}
Job = dict[str, Any]


def read(folder: Path) -> tuple[Job, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The job, the past and the future of the series that are sold at the cut-off, and their numbers."""
    job = json.loads((folder / "job.json").read_text())
    past, future = pl.read_parquet(folder / "past.parquet"), pl.read_parquet(folder / "future.parquet")
    alive = past.group_by(SERIES).agg(last=pl.col("date").max(), known=pl.col("sales").count())
    alive = alive.filter(pl.col("last") == past["date"].max(), pl.col("known") > 0).sort(SERIES)
    series = alive.select(*SERIES).with_row_index("unique_id").with_columns(pl.col("unique_id").cast(pl.Int64))
    past, future = (t.join(series, on=SERIES, maintain_order="left").rename({"date": "ds"}) for t in (past, future))
    return job, _filled(past, job["frequency"]).sort("unique_id", "ds"), future.sort("unique_id", "ds"), series


def _filled(past: pl.DataFrame, frequency: str) -> pl.DataFrame:
    over = ["unique_id", pl.col("ds").dt.weekday()] if frequency == "D" else ["unique_id"]
    y = pl.col("sales").cast(pl.Float64)
    return past.with_columns(y=y.forward_fill().over(over).fill_null(0.0)).drop("sales")


def write(folder: Path, found: pl.DataFrame, series: pl.DataFrame, future: pl.DataFrame, facts: Job) -> None:
    rows = future.select("unique_id", "ds", "closed").join(found, on=["unique_id", "ds"], how="left")
    names = ["prediction", *(f"{side}_{level}" for level in LEVELS for side in ("low", "high"))]
    zero = [pl.when("closed").then(0.0).otherwise(pl.col(n).clip(lower_bound=0)).alias(n) for n in names]
    rows = rows.with_columns(zero).join(series, on="unique_id").rename({"ds": "date"}).select(*KEY, *names)
    rows.write_parquet(folder / "forecast.parquet")
    own, children = (resource.getrusage(w).ru_maxrss / 1e6 for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    (folder / "facts.json").write_text(json.dumps(facts | {"peak_gb": max(own, children)}, indent=1))


# ---------------------------------------------------------------- AutoETS


def auto_ets(job: Job, past: pl.DataFrame, future: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """One model per series; its own intervals."""
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS, SeasonalNaive

    season, every = (7, "1d") if job["frequency"] == "D" else (1, "1w")
    note = f"season {season}, all periods"
    if past.height > ETS_ROWS:
        past, note = past.group_by("unique_id", maintain_order=True).tail(ETS_PERIODS), f"season {season}"
        note += f", newest {ETS_PERIODS} periods of each series (all would take hours)"
    models = [AutoETS(season_length=season, alias="prediction")]
    engine = StatsForecast(models=models, freq=every, n_jobs=CORES, fallback_model=SeasonalNaive(season_length=season))
    found = engine.forecast(h=job["horizon"], df=past.select("unique_id", "ds", "y"), level=list(LEVELS))
    return _named(found, "prediction"), note


def _named(found: pl.DataFrame, model: str) -> pl.DataFrame:
    names = {f"{model}-{short}-{level}": f"{side}_{level}" for short, side in (("lo", "low"), ("hi", "high"))
             for level in LEVELS}  # fmt: skip
    return found.rename({model: "prediction"} | names).with_columns(pl.col("ds").cast(pl.Date))


# ---------------------------------------------------------------- LightGBM with mlforecast


def mlforecast_lightgbm(job: Job, past: pl.DataFrame, future: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """One model of all series with the usual lags; conformal intervals per series."""
    from mlforecast.utils import PredictionIntervals

    windows = ML_WINDOWS_LARGE if past.height > ML_ROWS else ML_WINDOWS
    past, note = _newest(past)
    note += f", {windows} conformal windows"
    past, future, static, dynamic = _with_inputs(job, past, future)
    table = past.select("unique_id", "ds", "y", *static, *dynamic).to_pandas()
    ahead = future.select("unique_id", "ds", *dynamic).to_pandas()
    table["ds"], ahead["ds"] = table["ds"].astype("datetime64[ns]"), ahead["ds"].astype("datetime64[ns]")
    horizon, sizes = job["horizon"], table.groupby("unique_id").size()
    long = set(sizes.index[sizes > windows * horizon + 1])
    enough = table["unique_id"].isin(long)
    engine = _engine(job)
    engine.fit(table[enough], static_features=static, prediction_intervals=PredictionIntervals(windows, horizon))
    parts = [
        engine.predict(horizon, level=list(LEVELS), X_df=ahead[ahead["unique_id"].isin(long)] if dynamic else None)
    ]
    if not enough.all():  # too short for the conformal windows: a point only
        short = ahead[~ahead["unique_id"].isin(long)]
        parts.append(engine.predict(horizon, new_df=table[~enough], X_df=short if dynamic else None))
        note += f"; {len(sizes) - len(long)} short series without intervals"
    found = pl.concat([pl.from_pandas(p) for p in parts], how="diagonal_relaxed").with_columns(
        pl.col("ds").cast(pl.Date)
    )
    return _named(found, "model"), note


def _newest(past: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    if past.height <= ML_ROWS:
        return past, "all rows"
    days = past.group_by("ds").len().sort("ds", descending=True)
    since = days.filter(pl.col("len").cum_sum() <= ML_ROWS)["ds"].min()
    return past.filter(pl.col("ds") >= since), f"rows since {since!s}"


def _with_inputs(job: Job, past: pl.DataFrame, future: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, list, list]:
    """Names become numbers; static: store, product and attributes; dynamic: price, promotion and all regressors."""
    dynamic = [n for n in ("price", "promotion", "holiday", *job["regressors"]) if n in past.columns]
    static = ["store_code", "product_code", *job["static"]]
    tables = [t.with_columns(store_code=pl.col("store"), product_code=pl.col("product")) for t in (past, future)]
    for name in [n for n in (*static, *dynamic) if not tables[0].schema[n].is_numeric()]:
        words = past[name.removesuffix("_code") if name not in past.columns else name].cast(pl.String).unique().sort()
        words = words.drop_nulls()
        coded = (
            pl.col(name).cast(pl.String).replace_strict(words, range(len(words)), default=-1, return_dtype=pl.Float32)
        )
        tables = [t.with_columns(coded.alias(name)) for t in tables]
    tables = [t.with_columns(pl.col(n).cast(pl.Float32).fill_null(-1) for n in (*static, *dynamic)) for t in tables]
    return tables[0], tables[1], static, dynamic


def _engine(job: Job) -> Any:
    import lightgbm
    import numpy as np
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean
    from mlforecast.target_transforms import GlobalSklearnTransformer
    from sklearn.preprocessing import FunctionTransformer

    if job["frequency"] == "D":
        lags, means, dates, every = [7, 14, 28], {1: [7, 28], 7: [7, 28]}, ["dayofweek", "day", "month"], "D"
    else:
        lags, means, dates, every = [1, 2, 4, 8, 13, 52], {1: [4, 13]}, ["week", "month"], "7D"
    log = GlobalSklearnTransformer(FunctionTransformer(func=np.log1p, inverse_func=np.expm1))
    counts = job["measure"] == "wrmsse"  # the loss of M5's best; elsewhere log sales, as shares are judged
    loss = {"objective": "tweedie", "tweedie_variance_power": 1.1} if counts else {}
    return MLForecast(
        models={"model": lightgbm.LGBMRegressor(**LIGHTGBM, **loss)},
        freq=every,
        lags=lags,
        lag_transforms={lag: [RollingMean(n) for n in sizes] for lag, sizes in means.items()},
        date_features=dates,
        target_transforms=None if counts else [log],
        num_threads=CORES,
    )


METHODS = {"auto_ets": auto_ets, "mlforecast_lightgbm": mlforecast_lightgbm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    job, past, future, series = read(asked.folder)
    began = time.monotonic()
    found, note = METHODS[asked.method](job, past, future)
    facts = {"seconds": time.monotonic() - began, "note": note}
    write(asked.folder, found, series, future, facts)


if __name__ == "__main__":
    main()
