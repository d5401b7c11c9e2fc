"""The data sets of the benchmark: how each is read, where it is cut and what it is judged by.

One engine for all: the sets differ in their columns, their cut-off and the measure they are known by, and in nothing
else. Their terms allow no copy in here, so a folder is named from outside; only the demo chain is made on the spot.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from bench.tables import cleaned
from ml.attributes import merge_tables
from ml.demo import generate
from ml.evaluation import rmspe, wape
from ml.training import Data

DEMO_UNTIL = dt.date(2026, 3, 31)  # fixed, so that two runs judge the same days


@dataclass(frozen=True)
class Case:
    """One data set: how to load it, where it is cut, and how it is scored."""

    load: Callable[[Path], tuple[pl.DataFrame, list[pl.DataFrame]]]
    origin: dt.date
    horizon: int
    country: str
    measure: str
    score: Callable[[Path, pl.DataFrame], dict[str, float]]
    references: dict[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ("sales.parquet",)

    def missing(self, folder: Path) -> list[str]:
        """The files that this set needs and the folder does not have."""
        return [name for name in self.files if not (folder / name).is_file()]


# ---------------------------------------------------------------- reading, as a user's columns


def load_m5(folder: Path) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    ids, calendar = pl.read_parquet(folder / "ids.parquet"), pl.read_parquet(folder / "calendar.parquet")
    sales = pl.read_parquet(folder / "sales.parquet").with_columns(pl.col("store", "product").cast(pl.String))
    events = [pl.col("event_name_1").alias("event"), pl.col("event_type_1").alias("event_type")]
    days = calendar.select("date", *(e.fill_null("none").cast(pl.Categorical) for e in events), "^snap_.*$")
    states = days.unpivot(["snap_CA", "snap_TX", "snap_WI"], index="date", variable_name="state", value_name="snap")
    states = states.with_columns(pl.col("state").str.strip_prefix("snap_"), pl.col("snap").cast(pl.Float32))
    stores = ids.select("store", "state").unique()
    by_store = states.join(stores, on="state").join(days.drop("^snap_.*$"), on="date").drop("state")
    frame = sales.with_columns(pl.col("sales").cast(pl.Float32)).join(by_store, on=["store", "date"], how="left")
    return frame, [stores, ids.select(pl.col("item").alias("product"), "dept", "cat").unique()]


def load_rossmann(folder: Path) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    frame = pl.read_parquet(folder / "sales.parquet").drop("customers").rename({"promo": "promotion"})
    frame = frame.with_columns(
        pl.col("store").cast(pl.String), pl.lit("all").alias("product"), pl.col("sales", "promotion").cast(pl.Float64),
        pl.col("open", "school_holiday").cast(pl.Float64),
    )  # fmt: skip
    stores = pl.read_parquet(folder / "store.parquet").with_columns(pl.col("store").cast(pl.String))
    return frame, [stores]


def load_frat(folder: Path) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    raw = pl.read_parquet(folder / "sales.parquet").rename({"week_end_date": "date", "units": "sales"})
    on_promotion = pl.max_horizontal("feature", "display", "tpr_only").cast(pl.Float64)
    frame = raw.select(
        "date", pl.col("store", "product").cast(pl.String), pl.col("sales").cast(pl.Float64),
        pl.col("price").cast(pl.Float64), on_promotion.alias("promotion"),
        pl.col("base_price", "feature", "display", "tpr_only").cast(pl.Float64),
    )  # fmt: skip
    wanted = {"product": ["manufacturer", "category", "sub_category"], "store": ["seg_value_name"]}
    tables = [pl.read_parquet(folder / f"{n}.parquet").select(n, *c).unique(subset=n) for n, c in wanted.items()]
    return frame, [t.with_columns(pl.col(n).cast(pl.String)) for n, t in zip(wanted, tables, strict=True)]


def load_store_item(folder: Path) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    frame = pl.read_parquet(folder / "sales.parquet")
    return frame.with_columns(pl.col("store", "product").cast(pl.String), pl.col("sales").cast(pl.Float64)), []


def load_demo(_: Path) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    return generate(DEMO_UNTIL), []


# ---------------------------------------------------------------- scores


def score_m5(folder: Path, judged: pl.DataFrame) -> dict[str, float]:
    """WRMSSE of the public period, by the competition's own arithmetic; a product not on sale yet counts as 0."""
    spec = importlib.util.spec_from_file_location("score_m5", folder / "score_m5.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} has no score_m5.py")
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    ids, scale, days, actual = official.load(folder, "val")
    forecast = official.matrix(
        judged.select("store", "product", "date", "prediction").to_pandas(), "prediction", ids, days
    )
    levels, overall = official.wrmsse(np.nan_to_num(forecast), actual, ids, scale, "val")
    names = [f"wrmsse {name}" for name, _ in official.LEVELS]
    return {"wrmsse": overall, **score_shares(folder, judged), **dict(zip(names, levels, strict=True))}


def score_shares(_: Path, judged: pl.DataFrame) -> dict[str, float]:
    y, forecast = judged["y"].to_numpy(), judged["prediction"].to_numpy()
    return {"rmspe": rmspe(y, forecast), "wape": wape(y, forecast), "bias": float((forecast - y).sum() / y.sum())}


CASES = {
    "m5": Case(
        load_m5, dt.date(2016, 4, 24), 28, "US", "wrmsse", score_m5,
        {"XGBoost, 46 features, one 28-day model": 0.648},
        ("sales.parquet", "ids.parquet", "calendar.parquet", "scale.parquet", "score_m5.py"),
    ),
    "rossmann": Case(
        load_rossmann, dt.date(2015, 6, 13), 48, "DE", "rmspe", score_shares,
        {"two plain LightGBMs": 0.1135, "geometric mean by store, weekday, promotion": 0.131},
        ("sales.parquet", "store.parquet"),
    ),
    "frat": Case(
        load_frat, dt.date(2011, 11, 9), 8, "US", "wape", score_shares,
        {"median by store, product, promotion": 0.367, "mean of 8 weeks": 0.459, "last value": 0.498},
        ("sales.parquet", "product.parquet", "store.parquet"),
    ),
    "store_item": Case(load_store_item, dt.date(2017, 10, 2), 90, "US", "wape", score_shares),
    "demo": Case(load_demo, DEMO_UNTIL - dt.timedelta(days=28), 28, "ES", "wape", score_shares, files=()),
}  # fmt: skip


def prepare(case: Case, folder: Path) -> Data:
    """The panel of all rows as ETL makes it, with categories of all rows."""
    frame, tables = case.load(folder)
    side, _ = merge_tables(tables, [f"table {k}" for k in range(len(tables))])
    return cleaned(frame, side, case.country)[0]
