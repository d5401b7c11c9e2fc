"""What-if on real data: does demand fall with price and rise with promotion, series by series?

``python -m bench.whatif [--monotone off,price,price_promotion] [--json out.json]`` trains on all but the last 8 weeks
of "Breakfast at the Frat" (``frat/sales.parquet`` in the folder of ``CONTROL_ROOM_BENCH_DATA``) and asks for those
weeks again with the regular price 10 % lower and higher, and at the regular price without and with promotion. A
promotion is a feature ad, a display or a temporary price reduction. Only series with enough history count: a year, and
eight promoted weeks.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from bench.sets import load_frat
from bench.tables import as_data, manifest_of
from ml.bundle import write_bundle
from ml.cleaning import make_panel
from ml.features import SERIES
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.records import Recipe
from ml.training import Data, Tables, train_until
from ml.tuning import KNOWN_GOOD

BLOCKS = (2, 8)
WEEKS = 8
STEP = 0.10
YEAR, PROMOTED = 52, 8
FLAT = 1e-4  # a change of less than 0.01 % of the weeks' sales is none
FLAGS = ("feature", "display", "tpr_only")


@dataclass(frozen=True)
class Shares:
    """Shares of the series whose forecast went the right way, did not move, or went the wrong way."""

    question: str
    series: int
    right: float
    flat: float
    wrong: float
    median_change: float

    @classmethod
    def of(cls, question: str, low: np.ndarray, high: np.ndarray) -> Shares:
        """``high`` is what should be more."""
        change = (high - low) / np.maximum(low, 1e-9)
        right, wrong = float(np.mean(change > FLAT)), float(np.mean(change < -FLAT))
        return cls(question, len(low), right, max(0.0, 1 - right - wrong), wrong, float(np.median(change)))


def load(folder: Path, flags: bool) -> pl.DataFrame:
    """The data in the contract's form; ``flags``: the kinds of promotion stand beside it as regressors."""
    sales, _ = load_frat(folder / "frat")
    return sales if flags else sales.drop(FLAGS)


def prepared(sales: pl.DataFrame) -> tuple[Data, dt.date]:
    panel = make_panel(sales, country="US")
    data = as_data(panel.frame, panel.frequency, "US", panel.regressors, panel.closed_when, ())
    last: dt.date = panel.frame["date"].max()  # type: ignore[assignment]
    return data, last - dt.timedelta(weeks=WEEKS)


def forecaster(data: Data, origin: dt.date, monotone: str, folder: Path) -> Forecaster:
    """A bundle trained on everything up to the origin, as retraining makes it (intervals play no part here)."""
    recipe = Recipe(kind="xgboost", params=KNOWN_GOOD | {"monotone": monotone}, blocks=BLOCKS)
    past = Data(data.panel.filter(pl.col("date") <= origin), data.frequency, data.columns, data.encoding, data.country)
    model = train_until(recipe, past, Tables(past, BLOCKS), origin)
    manifest = manifest_of(past, recipe, WEEKS, origin)
    spread = Intervals.fit(np.ones(1000), np.arange(1000.0), np.repeat(BLOCKS, 500))
    return Forecaster(
        write_bundle(folder, manifest, model, spread, tail_of(past.panel, data.frequency, WEEKS), lambda _: [])
    )


def long_enough(data: Data, origin: dt.date) -> pl.DataFrame:
    past = data.panel.filter(pl.col("date") <= origin, pl.col("sales").is_not_null())
    counted = past.group_by(SERIES, maintain_order=True).agg(
        weeks=pl.len(), promoted=(pl.col("promotion") > 0).sum(), last=pl.col("date").max()
    )
    recent = origin - dt.timedelta(weeks=WEEKS)
    return counted.filter(pl.col("weeks") >= YEAR, pl.col("promoted") >= PROMOTED, pl.col("last") > recent)


def questions(found: Forecaster, series: pl.DataFrame, flags: bool) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """What is asked, with the rows that should sell less and those that should sell more."""
    regular = (
        found.state.filter(pl.col("promotion") == 0).group_by(SERIES).agg(regular=pl.col("price").tail(13).median())
    )
    rows = found.next_days([], [], WEEKS).join(series.select(SERIES), on=SERIES, how="semi")
    rows = rows.join(regular, on=SERIES, how="left", maintain_order="left")
    rows = rows.with_columns(price=pl.coalesce("regular", "price"), base_price=pl.coalesce("regular", "base_price"))
    none = [pl.lit(0.0).alias(name) for name in ("promotion", *(FLAGS if flags else ()))]
    plain = rows.drop("regular").with_columns(none)
    dearer = plain.with_columns(pl.col("price") * (1 + STEP))
    cheaper = plain.with_columns(pl.col("price") * (1 - STEP))
    yield "price +10 % sells less", dearer, plain
    yield "price -10 % sells more", plain, cheaper
    yield "price +10 % against -10 %", dearer, cheaper
    yield "promotion sells more", plain, plain.with_columns(promotion=pl.lit(1.0))
    for name in FLAGS if flags else ():
        both = plain.with_columns(pl.lit(1.0).alias(n) for n in ("promotion", name))
        yield f"promotion with {name} sells more", plain, both


def totals(found: Forecaster, rows: pl.DataFrame) -> np.ndarray:
    """Sales of the weeks per series, in the order of the series."""
    answered = found.forecast(rows)
    return answered.group_by(SERIES, maintain_order=True).agg(pl.col("prediction").sum())["prediction"].to_numpy()


def measured(found: Forecaster, series: pl.DataFrame, flags: bool) -> list[Shares]:
    return [Shares.of(q, totals(found, less), totals(found, more)) for q, less, more in questions(found, series, flags)]


def wape(found: Forecaster, data: Data, origin: dt.date) -> float:
    """Error over the last weeks, with prices and promotions as they were."""
    after = data.panel.filter(pl.col("date") > origin, pl.col("sales").is_not_null())
    error = (found.forecast(after.drop("sales"))["prediction"] - after["sales"]).abs().sum()
    return float(error) / float(after["sales"].sum())


def told(monotone: str, error: float, shares: list[Shares]) -> None:
    print(f"\nmonotone {monotone}: WAPE {error:.4f}, {shares[0].series} series")
    print(f"{'':40}{'right':>8}{'flat':>8}{'wrong':>8}{'median change':>16}")
    for s in shares:
        print(f"{s.question:40}{s.right:8.1%}{s.flat:8.1%}{s.wrong:8.1%}{s.median_change:16.1%}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monotone", default="off,price,price_promotion")
    parser.add_argument("--flags", action="store_true", help="the kinds of promotion as regressors beside it")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    where = os.environ.get("CONTROL_ROOM_BENCH_DATA")
    if not where or not (Path(where) / "frat" / "sales.parquet").is_file():
        print("SKIPPED: CONTROL_ROOM_BENCH_DATA names no folder with frat/sales.parquet", file=sys.stderr)
        return 0
    data, origin = prepared(load(Path(where), asked.flags))
    series, rows = long_enough(data, origin), []
    for monotone in asked.monotone.split(","):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = forecaster(data, origin, monotone, Path(folder) / "bundle")
        error, shares = wape(found, data, origin), measured(found, series, asked.flags)
        told(monotone, error, shares)
        seconds = time.perf_counter() - start
        rows += [{"set": "frat", "monotone": monotone, "wape": error, "seconds": seconds, **asdict(s)} for s in shares]
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
