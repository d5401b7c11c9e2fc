"""The benchmark's command line, as a person runs it, on small made-up data in the form of the public sets."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench.accuracy import arguments, scored, table
from bench.job import FUTURE, PAST, past_of, read_job, write_job
from bench.naive import seasonal_naive
from bench.peers import PeersMissing, interpreter
from bench.sets import CASES, prepare

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"set", "method", "metric", "value", "coverage80", "coverage95", "seconds", "peak_gb"}
CASE = CASES["store_item"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ``store_item``: 4 series, 600 days up to the end of the judged ones."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "store_item").mkdir()
    random, last = np.random.default_rng(3), CASE.origin + dt.timedelta(days=CASE.horizon)
    dates = pl.date_range(last - dt.timedelta(days=599), last, eager=True)
    weekday = dates.dt.weekday().to_numpy()
    parts = [
        pl.DataFrame(
            {"date": dates, "store": s, "product": p, "sales": random.poisson((10 + 5 * p) * (1 + weekday / 7))}
        )
        for s in (1, 2)
        for p in (1, 2)
    ]
    pl.concat(parts).write_parquet(folder / "store_item" / "sales.parquet")
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.accuracy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_one_row_per_method_and_what_cannot_be_run_is_skipped_loudly(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(
        "--data", str(data), "--sets", "m5,store_item", "--json", str(out),
        "--peers", str(tmp_path / "none"), "--no-install", "--set", "rounds=20", "--blocks", "28,90",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert [(row["set"], row["method"]) for row in rows] == [("store_item", "seasonal_naive"), ("store_item", "ours")]
    assert all(set(row) >= KEYS for row in rows)
    for row in rows:
        assert row["metric"] == "wape"
        assert 0 < row["value"] < 1
        assert 0 < row["coverage80"] <= row["coverage95"] <= 1
        assert row["seconds"] > 0
        assert row["peak_gb"] > 0.05
        assert row["judged_rows"] == 4 * CASE.horizon
        assert row["unanswered_rows"] == 0
    ours = rows[1]
    assert ours["recipe"]["blocks"] == [28, 90]
    assert set(ours["race"]) == {"seasonal_naive", "moving_average", "linear", "xgboost"}
    assert "SKIPPED, NOT MEASURED: m5" in done.stderr
    for peer in ("auto_ets", "mlforecast_lightgbm"):
        assert f"SKIPPED, NOT MEASURED: store_item, {peer}" in done.stderr
    assert done.stdout.splitlines()[0].split()[:4] == ["set", "method", "metric", "value"]


def test_an_unknown_set_is_refused(data: Path) -> None:
    done = run("--data", str(data), "--sets", "walmart")
    assert done.returncode == 2
    assert "'walmart' is none of m5, rossmann" in done.stderr


def test_what_a_method_is_given_holds_no_sales_after_the_cut(data: Path, tmp_path: Path) -> None:
    judged = write_job(tmp_path, "store_item", CASE, prepare(CASE, data / "store_item"))
    past, future = pl.read_parquet(tmp_path / PAST), pl.read_parquet(tmp_path / FUTURE)
    assert past["date"].max() == CASE.origin
    assert "sales" not in future.columns
    assert future["date"].min() == CASE.origin + dt.timedelta(days=1)
    assert judged.height == future.height == 4 * CASE.horizon
    job = read_job(tmp_path)
    assert past_of(tmp_path, job).panel["date"].max() == CASE.origin


def test_seasonal_naive_repeats_the_last_open_weekday(tmp_path: Path, data: Path) -> None:
    write_job(tmp_path, "store_item", CASE, prepare(CASE, data / "store_item"))
    job, past, future = read_job(tmp_path), pl.read_parquet(tmp_path / PAST), pl.read_parquet(tmp_path / FUTURE)
    shut = CASE.origin - dt.timedelta(days=2)
    past = past.with_columns(closed=pl.col("date") == shut)
    future = future.with_columns(closed=pl.col("date") == CASE.origin + dt.timedelta(days=1))
    found = seasonal_naive(job, past, future).filter(store="1", product="1").sort("date")
    known = dict(past.filter(store="1", product="1").select("date", "sales").iter_rows())
    assert found["prediction"][0] == 0
    for ahead in (2, 9, 30):
        day = CASE.origin + dt.timedelta(days=ahead)
        back = day - dt.timedelta(days=(ahead + 6) // 7 * 7)
        back = back - dt.timedelta(days=7) if back == shut else back
        assert found["prediction"][ahead - 1] == known[back]
    assert (found["low_95"] <= found["low_80"]).all()
    width = found["high_80"] - found["prediction"]
    assert width[30] > width[2]


def test_a_row_without_an_answer_counts_as_zero(data: Path) -> None:
    day = CASE.origin + dt.timedelta(days=1)
    judged = pl.DataFrame({"store": ["1", "1"], "product": ["1", "2"], "date": [day, day], "y": [6.0, 4.0]})
    answer = {"prediction": 5.0, "low_80": 4.0, "high_80": 5.5, "low_95": 1.0, "high_95": 9.0}
    forecast = judged.head(1).drop("y").with_columns(pl.lit(value).alias(name) for name, value in answer.items())
    found = scored("store_item", data, judged, forecast)
    assert found["value"] == pytest.approx((1 + 4) / 10)
    assert found["unanswered_rows"] == 1
    assert (found["coverage80"], found["coverage95"]) == (0.0, 0.5)


def test_recipe_changes_are_numbers_where_they_are_numbers() -> None:
    asked = arguments(["--set", "eta=0.05", "--set", "objective=squared+tweedie", "--data", "."])
    assert dict(asked.set) == {"eta": 0.05, "objective": "squared+tweedie"}


def test_the_table_names_what_others_reached() -> None:
    row = {
        "set": "frat", "method": "ours", "metric": "wape", "value": 0.3, "bias": -0.01, "coverage80": 0.8,
        "coverage95": 0.95, "seconds": 12.0, "peak_gb": 1.5, "note": "trees", "references": {"last value": 0.498},
    }  # fmt: skip
    lines = table([row]).splitlines()
    assert "0.3000" in lines[1]
    assert lines[2] == "frat, elsewhere on the same rows: last value 0.498"


def test_an_environment_of_another_lock_is_not_taken_for_the_peers(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("")
    (tmp_path / "lock.sha256").write_text("of another lock")
    with pytest.raises(PeersMissing, match=r"bench\.peers"):
        interpreter(tmp_path, install=False)
