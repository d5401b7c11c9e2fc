from __future__ import annotations

import datetime as dt
import subprocess
import sys

import polars as pl
import pytest

from ml.cleaning import detect_frequency, find_closed, make_panel, merge, usual_price
from ml.errors import InputError, NotEnoughData

DAY = dt.timedelta(days=1)


def sales(days: int, *, store="A", product="p", skip=(), start=dt.date(2026, 1, 1), step=1, value=5.0) -> pl.DataFrame:
    dates = [start + DAY * step * i for i in range(days) if i not in skip]
    return pl.DataFrame({"date": dates}).with_columns(
        store=pl.lit(store), product=pl.lit(product), sales=pl.lit(value), holiday=pl.lit(0, pl.Int8)
    )


def test_a_later_upload_wins_and_it_is_said():
    merged, notes = merge([sales(3), sales(2, value=9.0)], ["first", "second"])
    assert merged["sales"].to_list() == [9.0, 9.0, 5.0]
    assert notes == ["2 rows were replaced by later uploads"]


def test_uploads_with_and_without_stores_are_not_added_up():
    with pytest.raises(InputError, match=r"one\.csv has no store column"):
        merge([sales(3, store="all"), sales(3, store="A")], ["one.csv", "two.csv"])


def test_nothing_to_merge_says_what_to_do():
    with pytest.raises(NotEnoughData, match="upload a file"):
        merge([], [])


@pytest.mark.parametrize(("step", "wanted"), [(1, "D"), (7, "W")])
def test_frequency(step, wanted):
    assert detect_frequency(sales(30, step=step)) == wanted


def test_daily_sales_of_an_item_that_sells_once_a_week_stay_daily_in_company():
    frame = pl.concat([sales(60), sales(60, product="q"), sales(9, product="rare", step=7)])
    assert detect_frequency(frame) == "D"


def test_gaps_are_zero_when_the_file_never_says_zero():
    frame = pl.concat([sales(40), sales(40, product="q", skip=(5, 6))])
    panel = make_panel(frame, country="ES")
    assert panel.missing_days == "zero"
    assert panel.rows_filled == 2
    assert panel.frame.filter(pl.col("product") == "q")["sales"].to_list()[4:8] == [5.0, 0.0, 0.0, 5.0]


def test_gaps_are_unknown_when_the_file_says_zero_elsewhere():
    frame = pl.concat([sales(40), sales(40, product="q", skip=(5, 6)), sales(40, product="r", value=0.0)])
    panel = make_panel(frame, country="ES")
    assert panel.missing_days == "unknown"
    assert panel.frame.filter(pl.col("product") == "q")["sales"].to_list()[4:8] == [5.0, None, None, 5.0]


def test_regular_closing_days_sell_nothing():
    sundays = tuple(i for i in range(120) if (dt.date(2026, 1, 1) + DAY * i).weekday() == 6)
    frame = pl.concat([sales(120, skip=sundays), sales(120, store="B", value=0.0), sales(120, store="B", product="q")])
    panel = make_panel(frame, country="ES")
    closed = panel.frame.filter((pl.col("store") == "A") & (pl.col("date").dt.weekday() == 7))
    assert closed.height == len(sundays)
    assert closed["sales"].to_list() == [0.0] * len(sundays)


def test_a_delisted_product_is_not_continued_and_a_slow_one_is():
    frame = pl.concat([sales(200), sales(100, product="gone"), sales(180, product="slow")])
    last = make_panel(frame, country="ES").frame.group_by("product").agg(pl.col("date").max())
    ends = dict(last.iter_rows())
    assert ends["gone"] == dt.date(2026, 1, 1) + DAY * 99
    assert ends["slow"] == ends["p"]


def test_weekly_panels_have_a_row_a_week():
    panel = make_panel(sales(20, step=7, skip=(4,)), country="ES")
    assert (panel.frequency, panel.rows_filled, panel.frame.height) == ("W", 1, 20)


def test_a_regressor_that_means_closed_is_found():
    frame = sales(100).with_columns(open=pl.Series([0.0 if i % 3 == 0 else 1.0 for i in range(100)]))
    frame = frame.with_columns(sales=pl.col("open") * 5)
    assert find_closed(frame, ("open",)) == {"open": 0.0}
    assert find_closed(frame.with_columns(sales=pl.lit(5.0)), ("open",)) == {}


def test_holidays_come_from_the_calendar_when_the_file_has_none():
    panel = make_panel(sales(20).drop("holiday"), country="ES")
    assert panel.frame.filter(pl.col("holiday") > 0)["date"].to_list() == [dt.date(2026, 1, 1), dt.date(2026, 1, 6)]


def test_one_date_is_no_history():
    with pytest.raises(NotEnoughData):
        make_panel(sales(1), country="ES")


def test_a_regressor_that_is_text_in_one_upload_is_text_in_all():
    numbers = sales(2).with_columns(event=pl.Series([3.0, 2.5]), size=pl.Series([1.0, 2.0]))
    words = sales(1, start=dt.date(2026, 1, 3)).with_columns(event=pl.Series(["fair"]), size=pl.Series([3.0]))
    merged, notes = merge([numbers, words, sales(1, start=dt.date(2026, 1, 4))], ["old", "new", "without"])
    assert merged["event"].to_list() == ["3", "2.5", "fair", None]
    assert merged["size"].to_list() == [1.0, 2.0, 3.0, None]
    assert notes == ["event is text in new: its numbers in old are read as text too"]


def test_the_order_of_uploads_counts_and_not_that_of_their_rows():
    first, second = sales(30), sales(30, product="q")
    shuffled = pl.concat([first, second]).sample(fraction=1, shuffle=True, seed=3)
    assert merge([shuffled], ["x"])[0].equals(pl.concat([first, second]))
    newer = first.with_columns(sales=pl.lit(9.0)).sample(fraction=1, shuffle=True, seed=4)
    assert merge([shuffled, newer], ["x", "y"])[0]["sales"].to_list() == [9.0] * 30 + [5.0] * 30


def test_rows_in_any_order_make_the_same_panel():
    gaps = sales(90, product="q", skip=(5, 6, 40)).with_columns(price=pl.Series([2.0, None] * 43 + [3.0]))
    frame = pl.concat([sales(90).with_columns(price=pl.lit(1.0)), gaps])
    ordered = make_panel(frame, country="ES")
    shuffled = make_panel(frame.sample(fraction=1, shuffle=True, seed=1), country="ES")
    assert ordered.frame.equals(shuffled.frame)
    assert ordered.rows_filled == shuffled.rows_filled == 3
    assert ordered.frame["price"].null_count() == 0


def test_a_complete_panel_of_a_million_rows_is_not_copied_often():
    """Names take most of the memory: whatever joins or sorts them needlessly shows up here."""
    script = """
import datetime as dt, resource, polars as pl
from ml.cleaning import make_panel, merge
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
dates = pl.DataFrame({"date": [dt.date(2025, 1, 1) + dt.timedelta(days=i) for i in range(500)]})
series = pl.DataFrame({"product": [f"PRODUCT_{i:06d}" for i in range(2000)]}).with_columns(store=pl.lit("STORE_01"))
frame = series.join(dates, how="cross", maintain_order="left_right").with_columns(sales=pl.lit(2.0), price=pl.lit(1.0))
del dates, series
before = peak()
panel = make_panel(merge([frame], ["x"])[0], country="ES")
assert panel.frame.height == 1_000_000 and panel.rows_filled == 0
print((peak() - before) / (frame.estimated_size() / 2**20))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 8, "times the size of the rows, beside the rows themselves"


@pytest.mark.parametrize(
    ("prices", "promotions", "wanted"),
    [
        ([5.0, 5.5, 4.0], [0, 0, 1], 5.5),  # the discount of the last day is no price of the day after
        ([5.0, None, 4.0], [0, 0, 0.2], 5.0),
        ([5.0, 4.0, None], [None, 1, 0], 5.0),
        ([4.5, 4.0], [1, 1], 4.0),  # never sold without
        ([None, None], [0, 1], None),
    ],
)
def test_the_usual_price_is_the_last_one_outside_promotions(prices, promotions, wanted):
    rows = pl.DataFrame(
        {"price": prices, "promotion": promotions}, schema={"price": pl.Float64, "promotion": pl.Float64}
    )
    assert rows.select(usual_price(rows.columns)).item() == wanted
    assert rows.select(usual_price(["price"])).item() == next((p for p in reversed(prices) if p is not None), None)
    assert rows.select(usual_price(["promotion"])).item() is None
