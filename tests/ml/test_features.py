"""Features: an independent oracle in SQL, no leakage, online equals batch."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sqlite3

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml.bundle import load_bundle
from ml.features import KEY, feature_names, history_features, known_features
from ml.forecasting import Forecaster
from ml.models import OWN_PRICE, OWN_PROMOTION
from ml.training import Rows, build_table

ORACLE = """
SELECT a.store, a.product, a.date,
  (SELECT avg(sales) FROM panel b WHERE b.store = a.store AND b.product = a.product
     AND b.day BETWEEN a.day - :h - 27 AND a.day - :h) AS level,
  (SELECT avg(sales) FROM panel b WHERE b.store = a.store AND b.product = a.product
     AND b.day BETWEEN a.day - :h - 6 AND a.day - :h) AS mean_7,
  (SELECT avg(sales) FROM panel b WHERE b.store = a.store AND b.product = a.product AND b.promotion > 0
     AND b.day BETWEEN a.day - :h - 111 AND a.day - :h) AS mean_promoted,
  (SELECT avg(sales) FROM panel b WHERE b.store = a.store AND b.product = a.product
     AND (a.day - b.day) % 7 = 0 AND a.day - b.day >= :h AND a.day - b.day < :h + 28) AS weekday_4,
  (SELECT avg(sales) FROM panel b WHERE b.store = a.store AND b.product = a.product AND b.promotion > 0
     AND (a.day - b.day) % 7 = 0 AND a.day - b.day >= :h AND a.day - b.day < :h + 182) AS weekday_promoted,
  (SELECT sales FROM panel b WHERE b.store = a.store AND b.product = a.product AND b.day = a.day - :h) AS lag,
  (SELECT avg(price) FROM panel b WHERE b.store = a.store AND b.product = a.product
     AND b.day BETWEEN a.day - :h - 111 AND a.day - :h) AS price_mean,
  (SELECT price FROM panel b WHERE b.store = a.store AND b.product = a.product AND b.day = a.day - :h) AS price_last
FROM panel a WHERE a.day >= :from_day
"""


@pytest.mark.parametrize("offset", [7, 28])
def test_windows_equal_sql(chain, offset):
    panel = chain.panel.frame
    day = (pl.col("date") - dt.date(2020, 1, 1)).dt.total_days()
    connection = sqlite3.connect(":memory:")
    rows = panel.with_columns(day=day, date=pl.col("date").cast(pl.String))
    columns = ["store", "product", "date", "day", "sales", "price", "promotion"]
    connection.execute(f"CREATE TABLE panel ({', '.join(columns)})")
    connection.executemany("INSERT INTO panel VALUES (?,?,?,?,?,?,?)", rows.select(columns).iter_rows())
    connection.execute("CREATE INDEX i ON panel (store, product, day)")
    first = int(rows["day"].max()) - 40
    found = connection.execute(ORACLE, {"h": offset, "from_day": first}).fetchall()
    names = ["store", "product", "date", "level", "mean_7", "mean_promoted", "weekday_4", "weekday_promoted"]
    names += ["lag", "price_mean", "price_last"]
    wanted = pl.DataFrame(found, schema=names, orient="row", infer_schema_length=None)
    wanted = wanted.with_columns(pl.col("date").str.to_date(), pl.col("level").clip(lower_bound=0.01)).sort(KEY)
    ours = history_features(panel, offset, "D", chain.data.columns).join(wanted.select(KEY), on=KEY, how="semi")
    shares = ["mean_7", "mean_promoted", "weekday_4", "weekday_promoted", "lag"]
    ours = ours.with_columns((pl.col(f"r_{n}") * pl.col("level")).alias(n) for n in shares)
    assert wanted.height > 400
    # Features are float32: SQL's doubles agree to its last digits.
    assert_frame_equal(ours.sort(KEY).select(names), wanted.cast(dict.fromkeys(names[3:], pl.Float32)), rel_tol=1e-6)


@pytest.mark.parametrize("offset", [7, 28])
def test_sales_of_groups_are_means_over_their_members(chain, offset):
    """Product, store, everything and a store's departments, against plain loops over days."""
    some = chain.panel.frame["product"].unique().sort().to_list()[:3]
    kind = pl.when(pl.col("product").is_in(some)).then(pl.lit("a")).otherwise(pl.lit("b"))
    panel = chain.panel.frame.with_columns(kind.alias("product.kind"))
    columns = dataclasses.replace(chain.data.columns, static_text=("product.kind",))
    ours = history_features(panel, offset, "D", columns).tail(1).row(0, named=True)
    row = panel.tail(1).row(0, named=True)
    members = {
        "product": pl.col("product") == row["product"],
        "store": pl.col("store") == row["store"],
        "all": pl.lit(True),
        "store_product.kind": (pl.col("store") == row["store"]) & (pl.col("product.kind") == row["product.kind"]),
    }
    for name, mine in members.items():
        daily = panel.filter(mine).group_by("date").agg(pl.col("sales").mean()).sort("date")

        def mean(days: int, daily: pl.DataFrame = daily) -> float:
            newest = row["date"] - dt.timedelta(days=offset)
            inside = pl.col("date").is_between(newest - dt.timedelta(days=days - 1), newest)
            return daily.filter(inside)["sales"].mean()

        same = daily.filter(pl.col("date") <= row["date"] - dt.timedelta(days=offset))
        same = same.filter(pl.col("date").dt.weekday() == row["date"].isoweekday()).tail(8)["sales"].mean()
        assert ours[f"r_{name}_trend"] == pytest.approx(mean(7) / mean(28), rel=1e-5)
        assert ours[f"r_{name}_long"] == pytest.approx(mean(112) / mean(28), rel=1e-5)
        ago = row["date"] - dt.timedelta(days=364)
        newest = ago - dt.timedelta(days=offset)
        before = daily.filter(pl.col("date").is_between(newest - dt.timedelta(days=27), newest))["sales"].mean()
        then = daily.filter(pl.col("date") == ago)["sales"].item()
        assert ours[f"r_{name}_last_year"] == pytest.approx(then / before, rel=1e-5)
        assert ours[f"r_{name}_weekday"] == pytest.approx(same / mean(28), rel=1e-5)


def test_a_large_panel_in_parts_is_the_same_table(chain, monkeypatch):
    whole = build_table(chain.data, 7, Rows(dt.date(2026, 1, 1)))
    monkeypatch.setattr("ml.features.CHUNK_ROWS", 100)
    parts = build_table(chain.data, 7, Rows(dt.date(2026, 1, 1)))
    assert_frame_equal(parts.keys, whole.keys)
    np.testing.assert_array_equal(parts.rows.x, whole.rows.x)
    np.testing.assert_array_equal(parts.y, whole.y)
    assert whole.keys["date"].min() >= dt.date(2026, 1, 1)


def test_the_precision_of_a_panel_changes_no_feature(chain):
    """Large panels are in single precision, serving works in double: a price that stays is 1 of its mean in both."""
    single = chain.panel.frame.with_columns(pl.col("sales", "price", "promotion").cast(pl.Float32))
    double = single.with_columns(pl.col("sales", "price", "promotion").cast(pl.Float64))
    a, b = (history_features(panel, 28, "D", chain.data.columns) for panel in (single, double))
    assert_frame_equal(a, b, check_exact=True)


def test_only_the_rows_wanted_are_the_same_rows(chain, monkeypatch):
    panel, cut = chain.panel.frame, dt.date(2026, 1, 20)
    whole = history_features(panel, 28, "D", chain.data.columns).filter(pl.col("date") > cut)
    assert whole.height > 400
    assert_frame_equal(history_features(panel, 28, "D", chain.data.columns, after=cut), whole, check_exact=True)
    monkeypatch.setattr("ml.features.CHUNK_ROWS", 100)
    assert_frame_equal(history_features(panel, 28, "D", chain.data.columns, after=cut), whole, check_exact=True)


def test_nothing_after_the_origin_changes_a_feature(chain):
    """Shuffle every sale after the cut-off: features of rows up to `offset` after it stay the same bits."""
    panel, cut = chain.panel.frame, dt.date(2026, 1, 20)
    later = pl.col("date") > cut
    noise = pl.Series(np.random.default_rng(3).permutation(panel["sales"].to_numpy()))
    changed = panel.with_columns(sales=pl.when(later).then(noise * 7 + 1).otherwise("sales"))
    assert not changed["sales"].equals(panel["sales"])
    for offset in (7, 28):
        seen = pl.col("date") <= cut + dt.timedelta(days=offset)
        before, after = (history_features(p, offset, "D", chain.data.columns).filter(seen) for p in (panel, changed))
        assert_frame_equal(before, after, check_exact=True)


def test_online_equals_batch(chain, bundle_folder):
    """What serving computes from its tail for the next days is what training would compute from all history."""
    forecaster = Forecaster(load_bundle(bundle_folder))
    rows = forecaster.next_days([], [])
    future = rows.with_columns(sales=pl.lit(None, pl.Float64)).select(chain.panel.frame.columns)
    whole = pl.concat([chain.panel.frame, future], how="vertical_relaxed").sort(KEY)
    for block, served in forecaster._prepared.items():
        served = served.filter(
            pl.col("date") <= forecaster.origin + dt.timedelta(days=block)
        )  # what this block answers
        batch = history_features(whole, block, "D", chain.data.columns)
        batch = batch.join(served.select(KEY), on=KEY, how="semi")
        assert batch.height == rows.height * block // 28
        assert_frame_equal(served.sort(KEY), batch.sort(KEY), rel_tol=1e-6, abs_tol=1e-6)


def test_ten_thousand_rows_online_equal_batch(chain, bundle_folder):
    """Random origins and rows: what the model is given in serving is what the training table holds for that day."""
    rng, bundle = np.random.default_rng(11), load_bundle(bundle_folder)
    panel, blocks = chain.panel.frame, bundle.manifest.recipe.blocks
    batch = {block: build_table(chain.data, block) for block in blocks}
    where = {block: table.keys.select(KEY).with_row_index("_batch") for block, table in batch.items()}
    dates = panel["date"].unique().sort()
    compared = 0
    for origin in rng.choice(dates[120:-28].to_numpy(), 34, replace=False):
        past = panel.filter(pl.col("date") <= origin)
        asked = panel.filter((pl.col("date") > origin) & (pl.col("date") <= origin + np.timedelta64(28, "D")))
        known = past.select("store", "product").unique()
        asked = asked.filter(pl.col("sales").is_not_null()).join(known, on=["store", "product"], how="semi")
        asked = asked.sample(min(300, asked.height), seed=1, shuffle=True)
        seen = dataclasses.replace(bundle, days=chain.data.effects(origin.item()))
        for block, (index, inputs) in Forecaster(seen, past).inputs_of(asked.drop("sales")).items():
            keys = asked[index].select(KEY).with_row_index("_online").join(where[block], on=KEY, how="inner")
            online, rows = (keys[name].to_numpy() for name in ("_online", "_batch"))
            wanted = batch[block].seen_from(origin.item()).take(rows)
            np.testing.assert_allclose(inputs.x[online], wanted.x, rtol=1e-6, atol=1e-6)
            for name in ("level", "seasonal_naive", "moving_average"):
                np.testing.assert_allclose(getattr(inputs, name)[online], getattr(wanted, name), rtol=1e-6)
            compared += len(online)
    assert compared >= 10_000


def test_the_matrix_has_every_named_feature_and_no_infinity(chain):
    table = build_table(chain.data, 7)
    assert table.rows.x.shape == (len(table.y), len(feature_names("D", chain.data.columns)))
    assert table.rows.x.dtype == np.float32
    assert not np.isinf(table.rows.x).any()


def test_price_and_promotion_reach_the_row(chain):
    history = history_features(chain.panel.frame, 7, "D", chain.data.columns)
    rows = history.with_columns(chain.panel.frame.select("price", "promotion", "holiday").get_columns())
    rows = rows.filter(pl.col("r_mean_promoted").is_not_null()).tail(1)
    plain = known_features(rows.with_columns(promotion=pl.lit(0.0)), "D", chain.data.columns, "ES")
    promoted = rows.with_columns(promotion=pl.lit(0.3), price=pl.col("price") / 2)
    promoted = known_features(promoted, "D", chain.data.columns, "ES")
    assert promoted["r_price"][0] == pytest.approx(plain["r_price"][0] / 2)
    assert plain["r_same_promotion"][0] == plain["r_mean_unpromoted"][0]
    assert promoted["r_same_promotion"][0] == max(rows["r_mean_promoted"][0], rows["r_mean_unpromoted"][0])


def test_what_follows_from_the_rows_own_plan_is_what_constraints_are_put_on(chain):
    """A dearer or a promoted row moves the features that a model may constrain, in one direction, and no others."""
    history = history_features(chain.panel.frame, 7, "D", chain.data.columns)
    rows = history.with_columns(chain.panel.frame.select("price", "promotion", "holiday").get_columns())
    rows = rows.filter(pl.col("level").is_not_null()).with_columns(promotion=pl.lit(0.0))
    dearer = rows.with_columns(pl.col("price") * 1.1)
    promoted = rows.with_columns(promotion=pl.lit(1.0))
    plain, dearer, promoted = (known_features(r, "D", chain.data.columns, "ES") for r in (rows, dearer, promoted))
    for other, own in ((dearer, OWN_PRICE), (promoted, OWN_PROMOTION)):
        moved = [n for n in chain.data.names if n in other.columns and not other[n].equals(plain[n])]
        assert set(moved) == set(own)
        for name in moved:
            assert (other[name] >= plain[name]).all()
            assert other[name].null_count() == plain[name].null_count()
