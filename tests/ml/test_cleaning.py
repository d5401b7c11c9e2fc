from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml.cleaning import detect_frequency, find_closed, make_panel, merge
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
