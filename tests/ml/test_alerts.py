"""What is out of the ordinary, on data made so that it is known which series are."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml import alerts
from ml.copying import Logged
from ml.errors import ServiceDown
from ml.records import WHAT_IF, Answer, ModelRef, SeriesInfo, Support

LAST = dt.date(2026, 3, 29)
DAY = dt.timedelta(days=1)


def answer(date, store, product="P1", value=100.0, **more):
    values = {
        "date": date, "store": store, "product": product, "prediction": value, "unit": "units/day",
        "interval": {"80": (value - 10, value + 10), "95": (value - 20, value + 20)}, "data_version": "d",
        "support": Support(similar_days=9, level="ok"), "request_id": "r", "inputs": {},
        "model": ModelRef(name="sales", version="7", alias=None, run_id="r"),
        "created_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
    }  # fmt: skip
    return Answer.model_validate({**values, **more})


# What sold beside a forecast of 100, newest day first.
SOLD = {
    "calm": [95, 105] * 7,
    "outside": [150, 140, 40, 101, 99, 100, 103] + [98, 102] * 4,
    "outside before": [95, 105] * 4 + [150] * 6,
    "low": [82] * 10 + [100] * 4,
    "low, by little": [97] * 14,
    "too few": [60, 60],
}


@pytest.fixture
def judged(store):
    rows = [
        (LAST - DAY * back, name, "P1", float(value)) for name, sold in SOLD.items() for back, value in enumerate(sold)
    ]
    store.upsert_actuals(pl.DataFrame(rows, ["date", "store", "product", "sales"], orient="row"))
    store.log_predictions([Logged(answer(date, name), "api") for date, name, _, _ in rows])
    return store


def test_newest_sales_outside_the_interval_and_errors_to_one_side(judged):
    found = {(item.kind, item.store): item for item in alerts.live(judged, LAST, "D")}
    assert set(found) == {("outside_band", "outside"), ("bias", "low")}
    outside, bias = found["outside_band", "outside"], found["bias", "low"]
    assert (outside.units, outside.facts["outside"], outside.facts["days"]) == (50 + 40 + 60, 3, 7)
    assert (outside.date_from, outside.date_to) == (LAST - DAY * 6, LAST)
    assert (bias.units, bias.facts["net"], bias.date_from) == (180, 180, LAST - DAY * 9)


def test_the_last_answer_for_a_day_counts_and_no_what_if(judged):
    days = [LAST - DAY * back for back in range(3)]
    judged.log_predictions([Logged(answer(day, "calm", value=900.0), WHAT_IF) for day in days])
    better = [answer(day, "outside", value=float(sold)) for day, sold in zip(days, SOLD["outside"], strict=False)]
    judged.log_predictions([Logged(one, "api") for one in better])
    assert {item.store for item in alerts.live(judged, LAST, "D")} == {"low"}


def test_what_is_long_past_is_not_of_today(judged):
    assert alerts.live(judged, LAST + DAY * 40, "D") == []


def test_a_slow_database_is_not_waited_for(judged, monkeypatch):
    monkeypatch.setattr(alerts, "PATIENCE", "1ms")
    napping = alerts._LIVE.replace("WITH last", "WITH nap AS (SELECT pg_sleep(1)), last")
    monkeypatch.setattr(alerts, "_LIVE", napping.replace("FROM last\n", "FROM nap, last\n"))
    with pytest.raises(ServiceDown):
        alerts.live(judged, LAST, "D")


def test_much_more_or_less_than_lately_is_a_jump_if_the_interval_says_so():
    said = [
        ("up", 300.0, 200.0, 400.0),
        ("down", 20.0, 10.0, 30.0),
        ("unsure", 300.0, 50.0, 900.0),
        ("same", 110.0, 101.0, 120.0),
    ]
    expected = pl.DataFrame(
        [(name, "P1", LAST + DAY, LAST + DAY * 7, *values) for name, *values in said],
        ["store", "product", "date_from", "date_to", "prediction", "low_80", "high_80"], orient="row",
    )  # fmt: skip
    lately = pl.DataFrame([(name, "P1", 100.0) for name, *_ in said], ["store", "product", "sold"], orient="row")
    found = alerts.jumps(expected, lately)
    assert [(item.store, item.units) for item in found] == [("up", 200.0), ("down", 80.0)]
    assert found[0].facts == {"expected": 300.0, "sold": 100.0}


def series(store, silent=0, mean=10.0, product="P1"):
    return SeriesInfo(
        store=store, product=product, date_from=LAST - DAY * 90, date_to=LAST - DAY * silent, rows=90 - silent,
        mean_sales=mean,
    )  # fmt: skip


def test_a_series_is_silent_for_days_not_for_ever():
    some = [series("now"), series("late", 2), series("silent", 3, 5.0), series("long", 14, 2.0), series("ended", 15)]
    found = alerts.silent(some, LAST, "D")
    assert [(item.store, item.units, item.date_from) for item in found] == [
        ("long", 28.0, LAST - DAY * 13), ("silent", 15.0, LAST - DAY * 2)
    ]  # fmt: skip


def test_what_the_champion_has_not_learned():
    some = [series("S1"), series("S2", mean=3.0), series("S1", product="P2", mean=4.0)]
    found = alerts.unseen(some, {"store": ("S1",), "product": ("P1",)}, LAST, "D")
    assert [(item.store, item.product, item.units) for item in found] == [("S1", "P2", 28.0), ("S2", "P1", 21.0)]
    assert alerts.unseen(some, {}, LAST, "D") == []


def test_the_most_units_at_stake_come_first():
    found = [*alerts.silent([series("a", 3)], LAST, "D"), *alerts.unseen([series("b")], {"store": ()}, LAST, "D")]
    assert [item.kind for item in alerts.first(found, 5)] == ["unseen", "missing"]
    assert len(alerts.first(found, 1)) == 1
