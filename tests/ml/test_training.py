from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ml.cleaning import make_panel
from ml.records import Recipe
from ml.splits import rolling_origins
from ml.training import Data, Rows, Tables, backtest, build_table, recency_weight


def test_every_day_of_every_fold_is_forecast_once(chain, judged):
    keys = judged.select("store", "product", "date")
    assert keys.n_unique() == keys.height
    first, last = chain.splits[0].origin, chain.splits[-1].end
    inside = pl.col("date").is_between(first, last, closed="right")
    asked = chain.panel.frame.filter(inside, pl.col("sales").is_not_null())
    assert judged.height == asked.height
    assert judged.filter(pl.col("ahead") <= 7)["block"].unique().to_list() == [7]
    assert judged.filter(pl.col("ahead") > 7)["block"].unique().to_list() == [28]
    assert (judged["date"] > judged["origin"]).all()


def test_sales_after_the_origin_change_no_forecast(chain):
    """The whole way: shuffle what was sold after the cut-off, train and forecast again, compare bit for bit."""
    split = chain.splits[-1]
    noise = pl.Series(np.random.default_rng(1).permutation(chain.panel.frame["sales"].to_numpy()))
    later = (pl.col("date") > split.origin) & pl.col("sales").is_not_null()
    changed = chain.panel.frame.with_columns(sales=pl.when(later).then(noise.fill_null(0) + 1).otherwise("sales"))
    found = []
    for panel in (chain.panel.frame, changed):
        data = Data(panel, "D", chain.data.columns, chain.data.encoding, "ES")
        rows = backtest({"m": chain.recipe}, data, Tables(data, chain.recipe.blocks), [split])
        found.append(rows.sort("store", "product", "date"))
    assert not found[0]["y"].equals(found[1]["y"])
    assert found[0].height > 300
    assert found[0]["m"].equals(found[1]["m"])


def test_recency_halves():
    dates = np.array(["2026-01-01", "2025-01-01"], dtype="datetime64[D]")
    assert recency_weight(dates, dt.date(2026, 1, 1), 365.0) == pytest.approx([1.0, 0.5])
    assert recency_weight(dates, dt.date(2026, 1, 1), 0).tolist() == [1.0, 1.0]


def test_seasonal_naive_is_the_same_weekday_of_the_last_known_week(chain, judged):
    """By hand on the panel: what the baseline column says for 3 and 17 days ahead."""
    sales = {(r["store"], r["product"], r["date"]): r["sales"] for r in chain.panel.frame.iter_rows(named=True)}
    checked = 0
    for ahead, back in ((3, 7), (17, 28)):
        for row in judged.filter(pl.col("ahead") == ahead).iter_rows(named=True):
            known = sales.get((row["store"], row["product"], row["date"] - dt.timedelta(days=back)))
            if known is not None:
                assert row["seasonal_naive"] == known
                checked += 1
    assert checked > 30


def test_weekly_data_goes_the_same_way(to_data):
    weeks = [dt.date(2023, 1, 4) + dt.timedelta(days=7 * i) for i in range(150)]
    rng = np.random.default_rng(2)
    season = 20 + 8 * np.sin(np.arange(150) * 2 * np.pi / 52)
    frames = [
        pl.DataFrame({"date": weeks, "sales": rng.poisson(season).astype(float)}).with_columns(
            store=pl.lit("s"), product=pl.lit(f"p{i}")
        )
        for i in range(4)
    ]
    data = to_data(make_panel(pl.concat(frames), country="US"))
    assert data.frequency == "W"
    splits = rolling_origins(weeks[0], weeks[-1], 8, 2, "W")
    recipes = {kind: Recipe(kind=kind, blocks=(2, 8)) for kind in ("linear", "seasonal_naive")}
    rows = backtest(recipes, data, Tables(data, (2, 8)), splits)
    assert rows.height == 2 * 8 * 4
    assert sorted(rows["ahead"].unique()) == list(range(1, 9))
    error = {n: (rows[n] - rows["y"]).abs().sum() for n in recipes}
    assert error["linear"] < error["seasonal_naive"]


def test_of_many_rows_as_many_as_a_model_takes_are_learned_from(chain, monkeypatch):
    """A share by chance up to the origin, the same whatever part of the panel is looked at; what is judged is whole."""
    origin, panel = chain.splits[0].origin, chain.panel.frame
    assert Rows.learnable(panel, origin) == Rows()
    monkeypatch.setattr("ml.training.MAX_ROWS", 1500)
    rows = Rows.learnable(panel, origin)
    before = panel.filter(pl.col("date") <= origin)
    assert rows == Rows(None, origin, 1500 / before.height)
    table = build_table(chain.data, 7, rows)
    assert table.keys.filter(pl.col("date") <= origin).height == pytest.approx(1500, abs=120)

    whole = build_table(chain.data, 7)
    kept = whole.keys.join(table.keys, on=["store", "product", "date"], how="semi", maintain_order="left")
    assert kept.equals(table.keys)
    late = pl.col("date") > origin
    assert table.keys.filter(late).equals(whole.keys.filter(late))
    mask = whole.keys.with_row_index().join(table.keys, on=["store", "product", "date"], how="semi")["index"].to_numpy()
    np.testing.assert_array_equal(table.rows.x, whole.rows.x[np.sort(mask)])
    for part in panel.partition_by("store"):
        assert part.filter(rows.wanted).equals(panel.filter(rows.wanted, pl.col("store") == part["store"][0]))
    dated = Rows.learnable(panel, origin, origin - dt.timedelta(days=9))
    assert dated == Rows(origin - dt.timedelta(days=9))
