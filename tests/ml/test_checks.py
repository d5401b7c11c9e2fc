"""Each check finds what it is for, on a small chain that has none of it otherwise."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from ml import demo
from ml.checks import Candidate, Published, check_data, refuse_errors
from ml.cleaning import make_panel
from ml.errors import InputError
from ml.records import DataCheck

UNTIL = dt.date(2026, 3, 1)
SALES = demo.generate(UNTIL, days=200, stores=3, products=10)
STORE = SALES["store"][0]
LAST = pl.col("date") > UNTIL - dt.timedelta(days=7)


def candidate(rows: pl.DataFrame, today: dt.date = UNTIL + dt.timedelta(days=1), rejected: int = 0) -> Candidate:
    panel = make_panel(rows, country="ES").frame
    return Candidate(panel, rows, "D", rows_rejected=rejected, today=today)


def found(rows: pl.DataFrame, before: Published | None = None, **how: object) -> dict[str, DataCheck]:
    return {check.code: check for check in check_data(candidate(rows, **how), before)}  # type: ignore[arg-type]


def published(rows: pl.DataFrame = SALES) -> Published:
    return Published(make_panel(rows, country="ES").frame.select("store", "product", "date", "sales"), "D")


def test_ordinary_data_has_nothing_to_say():
    assert found(SALES) == {}
    week = demo.next_week(UNTIL, stores=3, products=10)
    after = pl.concat([SALES, week], how="vertical_relaxed")
    later = found(after, published(), today=UNTIL + dt.timedelta(days=8))
    assert {code for code, check in later.items() if check.severity != "info"} == set()


def scaled(column: str, factor: float, where: pl.Expr = LAST) -> pl.DataFrame:
    return SALES.with_columns(
        pl.when(where).then(pl.col(column) * factor).otherwise(pl.col(column).cast(pl.Float64)).alias(column)
    )


def copied_day() -> pl.DataFrame:
    day = UNTIL - dt.timedelta(days=3)
    source = SALES.filter((pl.col("date") == day - dt.timedelta(days=1)) & (pl.col("store") == STORE))
    rest = SALES.filter(~((pl.col("date") == day) & (pl.col("store") == STORE)))
    copy = source.with_columns(date=pl.lit(day), sales=pl.col("sales") + 1)
    rest = rest.with_columns(
        sales=pl.when((pl.col("date") == day - dt.timedelta(days=1)) & (pl.col("store") == STORE))
        .then(pl.col("sales") + 1)
        .otherwise(pl.col("sales"))
    )
    return pl.concat([rest, copy], how="diagonal_relaxed").sort("store", "product", "date")


ODD: dict[str, tuple[str, Callable[[], pl.DataFrame]]] = {
    "store_silent": ("warning", lambda: SALES.filter(~(LAST & (pl.col("store") == STORE)))),
    "missing_periods": ("warning", lambda: SALES.filter(~(LAST & (pl.col("store") == STORE)))),
    "copied_periods": ("warning", copied_day),
    "price_jump": ("error", lambda: scaled("price", 100)),
    "units_out_of_band": ("error", lambda: scaled("sales", 30)),
}


@pytest.mark.parametrize("code", ODD)
def test_what_is_odd_is_found(code):
    severity, make = ODD[code]
    check = found(make())[code]
    assert check.severity == severity
    assert check.hint
    assert all(len(str(value)) < 400 for value in check.facts.values())


def test_one_product_with_another_price_is_a_warning_only():
    product = SALES["product"][0]
    check = found(scaled("price", 10, LAST & (pl.col("product") == product)))["price_jump"]
    assert check.severity == "warning"
    assert product in check.message


@pytest.mark.parametrize(("days", "stale"), [(10, False), (15, True)])
def test_old_data_is_said(days, stale):
    assert ("stale" in found(SALES, today=UNTIL + dt.timedelta(days=days))) == stale


@pytest.mark.parametrize(("rejected", "severity"), [(10, None), (600, "warning"), (20_000, "error")])
def test_rows_left_out(rejected, severity):
    check = found(SALES, rejected=rejected).get("rows_left_out")
    assert (check and check.severity) == severity


def test_data_that_shrinks_is_an_error():
    shorter = found(SALES.filter(pl.col("date") < UNTIL - dt.timedelta(days=20)), published())
    assert shorter["goes_back"].severity == "error"
    one_store = found(SALES.filter(pl.col("store") == STORE), published())
    assert one_store["series_gone"].severity == "error"
    product = SALES["product"][0]
    assert found(SALES.filter(pl.col("product") != product), published())["series_gone"].severity == "warning"
    later = found(SALES.filter(pl.col("date") > UNTIL - dt.timedelta(days=120)), published())
    assert later["history_lost"].severity == "error"
    little = found(SALES.filter(pl.col("date") > UNTIL - dt.timedelta(days=195)), published())
    assert little["history_lost"].severity == "warning"
    back = found(SALES, published(SALES.filter(pl.col("product") != product)))
    assert back["series_new"].severity == "info"


@pytest.mark.parametrize(("factor", "severity"), [(1.01, "info"), (1.2, "warning"), (3.0, "error")])
def test_history_that_says_something_else(factor, severity):
    assert found(scaled("sales", factor, pl.lit(True)), published())["revised"].severity == severity


def test_weekly_data_in_the_place_of_daily_is_an_error():
    weekly = replace(published(), frequency="W")
    assert found(SALES, weekly)["other_frequency"].severity == "error"


def test_errors_stop_and_say_what_to_do_unless_told_otherwise():
    checks = check_data(candidate(scaled("price", 100)))
    with pytest.raises(InputError, match=r"not published.*decimal point.*publish_anyway"):
        refuse_errors(checks, anyway=False)
    refuse_errors(checks, anyway=True)
    refuse_errors([check for check in checks if check.severity != "error"], anyway=False)


def test_errors_come_first():
    severities = [check.severity for check in check_data(candidate(scaled("sales", 30), rejected=600))]
    assert severities == sorted(severities, key=("error", "warning", "info").index)
    assert {"error", "warning"} <= set(severities)
