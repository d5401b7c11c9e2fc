"""``python -m bench.forecast`` in a child process, on small made-up files in the contract's form."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["date", "store", "product", "prediction", "low_80", "high_80", "low_95", "high_95", "cold_start"]
START = dt.date(2024, 1, 1)


def rows(periods: int, stores: int, products: int, days: int = 1) -> pl.DataFrame:
    """Sales that double under promotion, with a regressor whose name says nothing."""
    random, found = np.random.default_rng(5), []
    for store, product in np.ndindex(stores, products):
        k = np.arange(periods)
        promotion = ((k + product) % 9 == 0).astype(float)
        found.append(
            pl.DataFrame({
                "date": [START + dt.timedelta(days=int(i) * days) for i in k],
                "store": f"s{store}", "product": f"p{product}",
                "sales": random.poisson((8 + 4 * product) * (1 + promotion)).astype(float), "price": 2.5 + product,
                "promotion": promotion, "zeta": (k % 5).astype(float),
            })
        )  # fmt: skip
    return pl.concat(found)


def run(sales: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.forecast", str(sales), "--out", str(out), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def ordered(found: pl.DataFrame) -> bool:
    pairs = [("low_95", "low_80"), ("low_80", "prediction"), ("prediction", "high_80"), ("high_80", "high_95")]
    return all((found[low] <= found[high]).all() for low, high in pairs) and bool((found["low_95"] >= 0).all())


def test_daily_with_attributes_and_a_future_that_brings_a_new_product(tmp_path: Path) -> None:
    known = rows(200, 2, 2)
    ahead = rows(214, 2, 3).filter(pl.col("date") > known["date"].max()).drop("sales")
    known.write_parquet(tmp_path / "in.parquet")
    ahead.write_parquet(tmp_path / "future.parquet")
    (tmp_path / "products.csv").write_text("product,kind\np0,bread\np1,milk\np2,milk\n")
    done = run(
        tmp_path / "in.parquet", tmp_path / "out.parquet", "--horizon", "7", "--regressors", "zeta", "--country", "US",
        "--future", str(tmp_path / "future.parquet"), "--attributes", str(tmp_path / "products.csv"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.columns == COLUMNS
    assert found.group_by("store", "product").len()["len"].to_list() == [7] * 6
    assert found["date"].min() == known["date"].max() + dt.timedelta(days=1)
    assert found.filter("cold_start")["product"].unique().to_list() == ["p2"]
    assert found["prediction"].is_finite().all()
    assert ordered(found)
    means = found.filter(~pl.col("cold_start")).join(ahead, on=["date", "store", "product"])
    means = means.group_by("promotion").agg(pl.col("prediction").mean()).sort("promotion")["prediction"]
    assert means[1] > 1.3 * means[0]  # the future's promotions were used
    assert "rows outside" in done.stderr


def test_weekly_csv(tmp_path: Path) -> None:
    known = rows(70, 1, 2, days=7)
    known.write_csv(tmp_path / "in.csv")
    done = run(tmp_path / "in.csv", tmp_path / "out.csv", "--horizon", "4")
    assert done.returncode == 0, done.stderr
    found = pl.read_csv(tmp_path / "out.csv", try_parse_dates=True)
    assert found.height == 8
    assert found["date"].unique().sort().to_list() == [START + dt.timedelta(weeks=69 + k) for k in range(1, 5)]
    assert ordered(found)


def test_two_weeks_of_one_series(tmp_path: Path) -> None:
    rows(14, 1, 1).select("date", "sales").write_parquet(tmp_path / "in.parquet")
    done = run(tmp_path / "in.parquet", tmp_path / "out.parquet", "--horizon", "28")
    assert done.returncode == 0, done.stderr
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.height == 28
    assert ordered(found)
    assert found["prediction"].is_between(3, 20).all()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    rows(30, 1, 1).select("date", "price").write_csv(tmp_path / "in.csv")
    done = run(tmp_path / "in.csv", tmp_path / "out.csv", "--horizon", "7")
    assert done.returncode == 2
    assert "error: in.csv" in done.stderr
    assert "sales" in done.stderr
    assert "Traceback" not in done.stderr
    rows(8, 1, 1).write_csv(tmp_path / "in.csv")
    done = run(tmp_path / "in.csv", tmp_path / "out.csv", "--horizon", "7")
    assert done.returncode == 2
    assert "14 are needed" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_regressor_is_named(tmp_path: Path) -> None:
    rows(30, 1, 1).write_csv(tmp_path / "in.csv")
    done = run(tmp_path / "in.csv", tmp_path / "out.csv", "--horizon", "7", "--regressors", "zita")
    assert done.returncode == 2
    assert "no column 'zita'; it has" in done.stderr
