"""Support: counted again row by row, and fast on many rows."""

from __future__ import annotations

import datetime as dt
import time

import numpy as np
import polars as pl
import pytest

from ml.features import Columns
from ml.support import SIMILAR_PRICE, SupportTable, level, words_of

COLUMNS = Columns(price=True, promotion=True, regressors=("temperature",), text=("weather",))


def holed(values: np.ndarray, holes: np.ndarray) -> pl.Series:
    return pl.Series(np.where(holes, np.nan, values)).fill_nan(None)


def made_state(rng: np.random.Generator, stores=3, products=4, days=60) -> pl.DataFrame:
    first = dt.date(2026, 1, 1)
    dates = [first + dt.timedelta(days=d) for d in range(days)]
    keys = [(f"s{i}", f"p{j}", date) for i in range(stores) for j in range(products) for date in dates]
    n = len(keys)
    price = rng.choice([1.0, 1.1, 1.25, 2.0, 9.0], n)
    return pl.DataFrame(keys, schema=["store", "product", "date"], orient="row").with_columns(
        sales=holed(np.full(n, 3.0), rng.random(n) < 0.1),
        price=holed(price, rng.random(n) < 0.05),
        promotion=pl.Series((rng.random(n) < 0.2) * 0.3),
        temperature=pl.Series(rng.integers(5, 25, n).astype(float)),
        weather=pl.Series(rng.choice(["sun", "rain"], n)),
    )


def asked_rows(rng: np.random.Generator, n: int, stores=4, products=5) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "store": [f"s{i}" for i in rng.integers(0, stores, n)],
            "product": [f"p{i}" for i in rng.integers(0, products, n)],
            "price": holed(rng.choice([1.0, 1.05, 2.1, 9.5, 40.0], n), rng.random(n) < 0.1),
            "promotion": rng.choice([0.0, 0.3, 1.0], n),
            "temperature": rng.choice([4.0, 12.0, 40.0], n),
            "weather": rng.choice(["sun", "snow"], n),
        }
    )


def near(price, past) -> bool:
    return price is None or past is None or abs(price / past - 1) <= SIMILAR_PRICE


def counted(row: dict, state: pl.DataFrame) -> tuple[int, int]:
    """By hand: the series; the product elsewhere, else the rest of the store at a like share of the usual price."""
    past = state.filter(pl.col("sales").is_not_null()).to_dicts()
    past = [p for p in past if (p["promotion"] > 0) == (row["promotion"] > 0)]
    mine = [p for p in past if (p["store"], p["product"]) == (row["store"], row["product"])]
    elsewhere = [p for p in past if p["product"] == row["product"] and p["store"] != row["store"]]
    usual = state.filter(pl.col("sales").is_not_null()).group_by("store", "product").agg(pl.col("price").median())
    usual = {(s, p): v for s, p, v in usual.iter_rows()}
    own = usual.get((row["store"], row["product"]))
    share = None if own is None or row["price"] is None else row["price"] / own

    def relative(p):
        return None if p["price"] is None else p["price"] / usual[p["store"], p["product"]]

    others = [p for p in past if p["store"] == row["store"] and p["product"] != row["product"]]
    found = sum(near(row["price"], p["price"]) for p in elsewhere)
    return sum(near(row["price"], p["price"]) for p in mine), found or sum(near(share, relative(p)) for p in others)


def test_counts_are_those_of_a_loop():
    rng = np.random.default_rng(5)
    state, rows = made_state(rng), asked_rows(rng, 300)
    found = SupportTable(state, COLUMNS).similar(rows)
    wanted = [counted(row, state) for row in rows.iter_rows(named=True)]
    assert found["similar_days"].to_list() == [own for own, _ in wanted]
    assert found["similar_sibling_days"].to_list() == [siblings for _, siblings in wanted]
    assert len({own for own, _ in wanted}) > 10


def test_what_lies_outside_is_named():
    state = made_state(np.random.default_rng(6)).with_columns(
        promotion=pl.when(pl.col("store") == "s0").then(0.0).otherwise("promotion")
    )
    base = {"store": "s0", "product": "p1", "price": 1.1, "promotion": 0.0, "temperature": 12.0, "weather": "sun"}
    asked = [
        base,
        base | {"price": 40.0},
        base | {"price": 0.1},
        base | {"price": None, "weather": None, "temperature": None},
        base | {"promotion": 0.3},
        base | {"store": "s1", "promotion": 0.3},
        base | {"temperature": 99.0, "weather": "snow"},
        base | {"store": "new", "price": 40.0, "promotion": 0.3},
        base | {"product": "new", "price": 40.0, "promotion": 0.3},
    ]
    found = SupportTable(state, COLUMNS).outside(pl.DataFrame(asked, schema_overrides={"price": pl.Float64}))
    assert found.to_list() == [
        [],
        ["price"],
        ["price"],
        [],
        ["promotion"],
        [],
        ["temperature", "weather"],
        ["price"],
        [],
    ]


def test_a_price_at_the_edge_of_the_range_is_inside():
    state = made_state(np.random.default_rng(7))
    edge = float(np.float32(1.1))  # a little above 1.1
    state = state.with_columns(pl.col("price").clip(upper_bound=1.1))
    row = {"store": "s0", "product": "p1", "price": edge, "promotion": 0.0, "temperature": 12.0, "weather": "sun"}
    assert SupportTable(state, COLUMNS).outside(pl.DataFrame([row])).to_list() == [[]]


def test_data_without_price_and_promotion_counts_all_days():
    columns = Columns(price=False, promotion=False, regressors=(), text=())
    state = made_state(np.random.default_rng(8)).select("store", "product", "date", "sales")
    rows = pl.DataFrame({"store": ["s0", "new"], "product": ["p0", "p0"]})
    table = SupportTable(state, columns)
    sold = state.filter(pl.col("sales").is_not_null())
    own = sold.filter((pl.col("store") == "s0") & (pl.col("product") == "p0")).height
    everywhere = sold.filter(pl.col("product") == "p0").height
    assert table.similar(rows)["similar_days"].to_list() == [own, 0]
    assert table.similar(rows)["similar_sibling_days"].to_list() == [everywhere - own, everywhere]
    assert table.outside(rows).to_list() == [[], []]


def test_closed_days_do_not_count():
    columns = Columns(price=False, promotion=False, regressors=("open",), text=(), closed_when=(("open", 0.0),))
    state = made_state(np.random.default_rng(9)).select("store", "product", "date", sales=pl.lit(1.0))
    state = state.with_columns(open=(pl.col("date").dt.weekday() < 7).cast(pl.Float64))
    rows = pl.DataFrame({"store": ["s0"], "product": ["p0"], "open": [1.0]})
    assert SupportTable(state, columns).similar(rows)["similar_days"].to_list() == [51]
    shut = rows.with_columns(open=pl.lit(0.0))
    assert SupportTable(state, columns).outside(shut).to_list() == [[]]  # closed days were seen


def test_no_history_supports_nothing():
    empty = made_state(np.random.default_rng(1)).clear()
    rows = asked_rows(np.random.default_rng(2), 5)
    table = SupportTable(empty, COLUMNS)
    assert table.similar(rows).sum().row(0) == (0, 0)
    assert table.outside(rows).list.contains("price").sum() == 0


def test_a_hundred_thousand_rows_take_about_a_second():
    """As many as a chain asks for at once; the join of rows and past would hold 40 million pairs."""
    rng = np.random.default_rng(3)
    state = made_state(rng, stores=20, products=20, days=400)
    rows = asked_rows(rng, 100_000, stores=20, products=20)
    table = SupportTable(state, COLUMNS)
    start = time.perf_counter()
    found = table.similar(rows)
    table.outside(rows)
    assert time.perf_counter() - start < 10  # takes 0.2 s on a quiet core
    assert found["similar_days"].max() > 50


@pytest.mark.parametrize(
    ("own", "siblings", "wanted"), [(14, 0, "ok"), (13, 0, "thin"), (0, 14, "thin"), (0, 13, "none"), (0, 0, "none")]
)
def test_levels(own, siblings, wanted):
    assert level(own, siblings) == wanted


def test_words_of_more_flags_than_a_number_has_bits():
    flags = pl.DataFrame({f"f{k}": [k % 7 == 0, k == 129, None] for k in range(130)})
    wanted = [[f"f{k}" for k in range(130) if k % 7 == 0], ["f129"], []]
    assert words_of(flags).to_list() == wanted
