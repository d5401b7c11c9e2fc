"""bench.engine on a small generated panel: every row is measured, and the peers do the same work as the product."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bench import engine, engine_parts, plain
from bench.engine_parts import Scratch
from ml.training import Data, Rows, build_table

WHATS = [
    "features of a block",
    "training",
    "features and training, of both",
    "features and training, beside training alone",
    "scoring with features",
    "scoring again with bounds and support, beside predict alone",
    "complete run",
]


@pytest.fixture(scope="module")
def data() -> Data:
    return engine.generated(6_000)


@pytest.fixture(scope="module")
def scratch(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    return Scratch.write(tmp_path_factory.mktemp("engine"), data, trees=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A whole run through the command line's door."""
    out = tmp_path_factory.mktemp("out") / "engine.json"
    empty = tmp_path_factory.mktemp("no_data")
    engine.main(["--data", str(empty), "--rows", "6000", "--rounds", "1", "--trees", "5", "--json", str(out)])
    return json.loads(out.read_text())


def test_every_row_is_measured(written):
    assert [row["what"] for row in written["rows"]] == WHATS
    for row in written["rows"]:
        assert row["data"] == "generated 6,000"
        assert row["ours"] > 0
        assert row["rows"] > 0
        assert row["peak_gb"] > 0.05  # no Python process with polars and XGBoost holds less


def test_ratios_are_of_what_was_measured(written):
    rows, runs = {row["what"]: row for row in written["rows"]}, written["runs"]

    def median(name: str, key: str = "seconds") -> float:
        return statistics.median(run[key] for run in runs[name])

    assert rows["training"]["ratio"] == median("train_ours") / median("train_raw")
    cpu = median("train_ours", "cpu_seconds") / median("train_raw", "cpu_seconds")
    assert rows["training"]["cpu_ratio"] == cpu
    both = median("features_ours") + median("train_ours")
    assert rows["features and training, of both"]["ratio"] == both / (median("features_plain") + median("train_raw"))
    assert rows["features and training, beside training alone"]["ratio"] == both / median("train_raw")
    assert rows[WHATS[5]]["ours"] == median("score_ours", "later")
    for row in rows.values():
        assert row["ratio"] == (row["ours"] / row["peer"] if row["peer"] else None)


def test_the_peers_forecast_the_same(written):
    runs = written["runs"]
    assert runs["train_ours"][0]["check"] == pytest.approx(runs["train_raw"][0]["check"], rel=1e-5)
    assert runs["score_ours"][0]["check"] == pytest.approx(runs["score_plain"][0]["check"], rel=1e-4)
    assert runs["check"][0]["difference"] <= engine.SAME
    assert 0 < runs["whole"][0]["wape"] < 1.5


def test_parts_alone_make_what_they_start_from(tmp_path, data):
    scratch = Scratch.write(tmp_path, data, trees=3)
    runs = engine.measured(scratch, 1, ["train"])
    assert set(runs) == {"check", "train_ours", "train_raw"}


def test_without_m5_it_says_so(tmp_path, capsys):
    name, _ = engine._data(tmp_path, 3_000)
    assert name == "generated 3,000"
    assert "NOT MEASURED: M5" in capsys.readouterr().err


@pytest.mark.parametrize("offset", [7, 28])
def test_plain_features_equal_the_products(data, offset):
    ours = build_table(data, offset)
    x, level, y = plain.matrix(data.panel, offset, data.names, data.country, wanted=Rows().wanted)
    assert len(y) > 5_000
    np.testing.assert_array_equal(y, ours.y)
    np.testing.assert_allclose(level, ours.rows.level, rtol=1e-5)
    np.testing.assert_allclose(x, ours.rows.x, rtol=1e-5, atol=1e-5)


def test_plain_features_know_groups_codes_and_regressors(data):
    """The columns that the demo has none of: attributes, text and numbers known in advance, as M5 has them."""
    product, day = pl.col("product"), pl.col("date")
    products = data.panel["product"].unique().sort().to_list()
    kind = pl.when(product < products[len(products) // 2]).then(pl.lit("a")).otherwise(pl.lit("b"))
    panel = data.panel.with_columns(
        kind.alias("product.kind"),
        pl.when(day.dt.day() < 4).then(pl.lit("pay")).otherwise(pl.lit("none")).alias("event"),
        (day.dt.day() % 5).cast(pl.Float64).alias("snap"),
    )
    columns = dataclasses.replace(data.columns, regressors=("snap",), text=("event",), static_text=("product.kind",))
    assert panel["product.kind"].n_unique() == 2
    words = {name: tuple(panel[name].unique().sort()) for name in ("event", "product.kind")}
    encoding = data.encoding.model_copy(update={"categories": data.encoding.categories | words})
    changed = dataclasses.replace(data, panel=panel, columns=columns, encoding=encoding)
    ours = build_table(changed, 28)
    x, _, _ = plain.matrix(panel, 28, changed.names, changed.country, wanted=Rows().wanted)
    assert {"snap", "event_code", "product.kind_code", "r_store_product.kind_trend"} <= set(changed.names)
    np.testing.assert_allclose(x, ours.rows.x, rtol=1e-5, atol=1e-5)


def test_work_that_differs_is_not_compared(written):
    runs = json.loads(json.dumps(written["runs"]))
    runs["train_raw"][0]["check"] *= 1.01
    with pytest.raises(SystemExit, match="do not do the same work"):
        engine.table(runs, "generated")
    runs = json.loads(json.dumps(written["runs"]))
    runs["check"][0]["difference"] = 1e-3
    with pytest.raises(SystemExit, match="features differ"):
        engine.table(runs, "generated")


def test_goals(written):
    met = {row.what: row.met for row in engine.table(written["runs"], "M5")}
    assert met["complete run"] is True
    assert met[WHATS[5]] is None
    row = engine.Row("x", "y", 1, 130.0, 100.0, 1.3, 1.2, 1.3, 7.0, 9.0, goal_gb=6.0)
    assert row.met is False
    assert dataclasses.replace(row, goal_gb=7.0).met is True
    assert dataclasses.replace(row, ratio=1.31, goal_gb=None).met is False
    assert "NO" in engine.told([row])


def test_a_failing_part_shows_its_error(tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)part features_ours ended with 1.*data\.json|panel\.parquet"):
        engine.part("features_ours", Scratch(Path(tmp_path)))


def test_a_scratch_reads_back_what_it_was_given(data, scratch):
    back = scratch.data(scratch.panel())
    assert back.panel.equals(data.panel)
    assert (back.columns, back.encoding, back.frequency, back.country) == (
        data.columns,
        data.encoding,
        data.frequency,
        data.country,
    )
    assert scratch.origin == data.panel["date"].max() - dt.timedelta(days=28)
    assert scratch.recipe(10).params["rounds"] == 5


def test_peak_is_of_this_process():
    before = engine_parts.peak_gb()
    kept = np.ones(int(before * 1e9 / 8))  # as much again, beside whatever else is held
    assert engine_parts.peak_gb() > before
    assert kept[-1] == 1
