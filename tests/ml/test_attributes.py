from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml.attributes import attach, level_of, lookup, merge_tables
from ml.sidetable import check_upload

IDS = pl.DataFrame(
    {
        "store": ["a", "a", "b", "b"],
        "product": ["p", "q", "p", "q"],
        "dept": ["food", "toys", "food", "toys"],
        "state": ["N", "N", "S", "S"],
        "shelf": [1.0, 2.0, 3.0, 4.0],
    }
)


def panel(*series: tuple[str, str]) -> pl.DataFrame:
    dates = pl.DataFrame({"date": [dt.date(2026, 1, 1) + dt.timedelta(days=i) for i in range(3)]})
    rows = pl.DataFrame(sorted(series), schema=["store", "product"], orient="row")
    return rows.join(dates, how="cross", maintain_order="left_right").with_columns(sales=pl.lit(1.0))


def test_an_attribute_belongs_to_the_widest_level_that_decides_it():
    side, notes = merge_tables([IDS], ["ids"])
    assert side.columns == ["store", "product", "store.state", "product.dept", "series.shelf"]
    assert lookup(side).of("c", "p") == {"product.dept": "food"}
    assert lookup(side).of("b", "new") == {"store.state": "S"}
    assert lookup(side).of("b", "q") == {"store.state": "S", "product.dept": "toys", "series.shelf": 4.0}
    assert notes == []


def test_the_later_table_wins_and_its_empty_cells_do_not():
    old = pl.DataFrame({"store": ["a", "b"], "size": [1.0, 2.0], "kind": ["x", "y"]})
    new = pl.DataFrame({"store": ["b", "c"], "size": [9.0, 3.0], "kind": [None, "z"]}, schema_overrides={"kind": str})
    side, _ = merge_tables([old, new], ["old", "new"])
    assert side.select("store", "store.size", "store.kind").rows() == [
        ("a", 1.0, "x"), ("b", 9.0, "y"), ("c", 3.0, "z")
    ]  # fmt: skip
    assert merge_tables([new, old], ["new", "old"])[0]["store.size"].to_list() == [1.0, 2.0, 3.0]


def test_a_column_that_is_text_in_one_table_is_text_in_all():
    tables = [pl.DataFrame({"store": ["a"], "class": [1.0]}), pl.DataFrame({"store": ["b"], "class": ["1b"]})]
    side, notes = merge_tables(tables, ["first", "second"])
    assert side["store.class"].to_list() == ["1", "1b"]
    assert notes == ["store.class is text in second: its numbers in first are read as text too"]


def test_a_panel_gets_columns_that_are_constant_per_key():
    rows = panel(("a", "p"), ("a", "q"), ("b", "p"), ("c", "p"))
    found = attach(rows, merge_tables([IDS], ["ids"])[0])
    assert found.static == ("store.state", "product.dept", "series.shelf")
    assert_frame_equal(found.frame.select(rows.columns), rows)
    assert found.frame.schema["product.dept"] == pl.Enum(["food", "toys"])
    assert found.frame.schema["series.shelf"] == pl.Float32
    once = found.frame.unique(["store", "product"], maintain_order=True)
    assert once.select(found.static).rows() == [
        ("N", "food", 1.0), ("N", "toys", 2.0), ("S", "food", 3.0), (None, "food", None)
    ]  # fmt: skip
    assert found.notes == (
        "1 of 3 store keys have no attributes",
        "attributes of 1 series keys that no sales have (yet)",
        "1 of 4 series keys have no attributes",
    )


def test_what_could_teach_nothing_is_left_out_and_said():
    table = pl.DataFrame({"store": ["a", "b", "z"], "chain": ["x", "x", "y"], "size": [1.0, 2.0, 3.0]})
    side, _ = merge_tables([table], ["t"])
    found = attach(panel(("a", "p"), ("b", "p")), side)
    assert found.static == ("store.size",)
    assert found.notes[0] == "store.chain is not used: it has the same value, or none, wherever there are sales"
    alone = attach(panel(("k", "p"), ("l", "p")), side)
    assert alone.static == ()
    assert alone.frame.columns == panel(("k", "p")).columns


def test_no_tables_change_nothing():
    rows = panel(("a", "p"))
    found = attach(rows, merge_tables([], [])[0])
    assert found.frame is rows
    assert (found.static, found.notes) == ((), ())


def test_names_cannot_clash_with_sales_columns_or_each_other():
    stores = pl.DataFrame({"store": ["a", "b"], "type": ["x", "y"], "level": [1.0, 2.0], "m[2]<": [3.0, 4.0]})
    products = pl.DataFrame({"product": ["p", "q"], "type": ["k", "l"]})
    found = attach(panel(("a", "p"), ("b", "q")), merge_tables([stores, products], ["s", "p"])[0])
    assert found.static == ("store.type", "store.level", "store.m(2)‹", "product.type")
    assert [level_of(name) for name in (*found.static, "type", "shop.type")] == ["store"] * 3 + ["product", None, None]


def test_a_lookup_believes_the_first_source_that_knows():
    side, _ = merge_tables([pl.DataFrame({"store": ["a", "new"], "size": [5.0, 7.0]})], ["t"])
    state = attach(
        panel(("a", "p"), ("b", "p")), merge_tables([pl.DataFrame({"store": ["a", "b"], "size": [1.0, 2.0]})], ["o"])[0]
    )
    both = lookup(side, state.frame, names=("store.size",))
    assert [both.of(store, "p").get("store.size") for store in ("a", "b", "new", "none")] == [5.0, 2.0, 7.0, None]
    assert lookup(None, state.frame, names=()).names == ()


def test_filling_keeps_rows_and_their_order():
    rng = np.random.default_rng(1)
    rows = pl.DataFrame({"store": rng.choice(["a", "b", "x"], 500), "product": rng.choice(["p", "q", "y"], 500)})
    rows = rows.with_row_index("n")
    filled = lookup(merge_tables([IDS], ["ids"])[0]).fill(rows)
    assert_frame_equal(filled.select(rows.columns), rows)
    known = {(s, p): shelf for s, p, shelf in IDS.select("store", "product", "shelf").rows()}
    wanted = [known.get(pair) for pair in rows.select("store", "product").rows()]
    assert filled["series.shelf"].to_list() == wanted
    assert lookup(merge_tables([IDS], ["ids"])[0]).fill(filled).equals(filled)


BENCH = os.environ.get("CONTROL_ROOM_BENCH_DATA", "")


@pytest.mark.skipif(not BENCH, reason="NO DATA: set CONTROL_ROOM_BENCH_DATA to the folder of public retail data sets")
def test_the_departments_of_m5_are_of_products_and_its_states_of_stores():
    ids = check_upload((Path(BENCH) / "m5" / "ids.parquet").read_bytes(), "ids.parquet").frame
    side, _ = merge_tables([ids], ["ids"])
    assert side.height == 10 + 3049
    assert [name for name in side.columns if level_of(name)] == ["store.state", "product.dept", "product.cat"]
