"""The database's sums against the same sums in plain Python, on rows that are made by chance."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import polars as pl
import pytest

from ml.accuracy import BYS, Judged, accuracy, weeks
from ml.copying import Logged
from ml.overrides import Overrides
from ml.overrides import overrides as table
from ml.records import WHAT_IF, Answer, ModelRef, NewJudgement, Support

FIRST = dt.date(2026, 3, 2)
DAY = dt.timedelta(days=1)
STORES, PRODUCTS = ("S1", "S2"), ("P1", "P2", "P3")


def answer(date, store, product, asked, value, **more):
    values = {
        "date": date, "store": store, "product": product, "prediction": value, "unit": "units/day",
        "interval": {"80": (value - 3, value + 3), "95": (value - 6, value + 6)}, "data_version": "d",
        "support": Support(similar_days=0 if value > 14 else 9, level="ok"), "request_id": "r",
        "inputs": {"price": 1.0, "promotion": 0.2 if value > 12 else 0.0, "holiday": int(date.day == 9)},
        "model": ModelRef(name="sales", version="7", alias=None, run_id="r"),
        "created_at": dt.datetime.combine(asked, dt.time(9), dt.UTC),
    }  # fmt: skip
    return Answer.model_validate({**values, **more})


@pytest.fixture
def logged(store):
    """Six series asked on four days for three weeks ahead; the sales of most days are known."""
    chance = random.Random(5)
    rows = [
        answer(asked + DAY * ahead, s, p, asked, 5 + 10 * chance.random())
        for asked in (FIRST + DAY * 3 * index for index in range(4))
        for ahead in range(21)
        for s, p in itertools.product(STORES, PRODUCTS)
    ]
    sold = {
        (s, p, FIRST + DAY * index): float(chance.randint(0, 20))
        for index in range(-14, 25)
        for s, p in itertools.product(STORES, PRODUCTS)
        if chance.random() < 0.9
    }
    store.log_predictions([Logged(row, "api") for row in rows])
    keys = [(date, s, p, value) for (s, p, date), value in sold.items()]
    store.upsert_actuals(pl.DataFrame(keys, ["date", "store", "product", "sales"], orient="row"))
    return rows, sold


def ahead(row):
    """Weeks ahead of the day before the asking, whose sales are the last that can be known."""
    return -(-((row.date - row.created_at.date()).days + 1) // 7)


def expected(rows, sold, by):
    """Per key: rows, WAPE, bias, RMSE, coverage of 80 %, naive rows and naive WAPE."""
    last = {}
    for row in rows:
        last[row.date, row.store, row.product, ahead(row) if by == "horizon" else 0] = row
    groups = {}
    for row in last.values():
        if (row.store, row.product, row.date) in sold:
            key = {
                "date": str(row.date), "horizon": str(ahead(row)), "store": row.store, "product": row.product,
                "promotion": "yes" if row.inputs["promotion"] else "no",
            }[by]  # fmt: skip
            groups.setdefault(key, []).append(row)
    return {key: measured(found, sold) for key, found in groups.items()}


def measured(rows, sold):
    pairs = [(row, sold[row.store, row.product, row.date]) for row in rows]
    total = sum(value for _, value in pairs)
    before = [(sold.get((row.store, row.product, row.date - 7 * DAY * ahead(row))), value) for row, value in pairs]
    naive = [(told, value) for told, value in before if told is not None]
    beside = sum(value for _, value in naive)
    return (
        len(rows),
        sum(abs(row.prediction - value) for row, value in pairs) / total,
        sum(row.prediction - value for row, value in pairs) / total,
        (sum((row.prediction - value) ** 2 for row, value in pairs) / len(rows)) ** 0.5,
        sum(row.interval["80"][0] <= value <= row.interval["80"][1] for row, value in pairs) / len(rows),
        len(naive),
        sum(abs(told - value) for told, value in naive) / beside if beside else None,
    )


@pytest.mark.parametrize("by", BYS)
def test_sums_are_those_of_the_rows(store, logged, by):
    found = accuracy(store, by, Judged())
    wanted = expected(*logged, by)
    assert {row.key for row in found.items} == set(wanted)
    for row in found.items:
        told = (row.rows, row.wape, row.bias, row.rmse, row.coverage["80"], row.naive_rows, row.naive_wape)
        assert told == pytest.approx(wanted[row.key]), row.key
    assert found.total is not None
    assert found.total.rows == sum(row.rows for row in found.items)
    assert found.total.error == pytest.approx(sum(row.error for row in found.items))
    assert [row.key for row in found.items] == sorted(row.key for row in found.items)


def test_filters_choose_rows(store, logged):
    rows, sold = logged
    wanted = Judged(from_date=FIRST + DAY * 4, to_date=FIRST + DAY * 9, store="S1", product="P2", version="7")
    chosen = [r for r in rows if r.store == "S1" and r.product == "P2" and 4 <= (r.date - FIRST).days <= 9]
    (found,) = accuracy(store, "store", wanted).items
    assert (found.rows, found.wape) == pytest.approx(expected(chosen, sold, "store")["S1"][:2])
    days = [dt.date.fromisoformat(str(row.key)) for row in accuracy(store, "date", wanted).items]
    assert wanted.from_date <= min(days) < max(days) <= wanted.to_date
    assert accuracy(store, "date", Judged(version="8")).total is None


def test_what_was_tried_out_or_known_before_does_not_count(store):
    store.upsert_actuals(pl.DataFrame([(FIRST, "S1", "P1", 10.0)], ["date", "store", "product", "sales"], orient="row"))
    assert accuracy(store, "store", Judged()).total is None
    store.log_predictions([Logged(answer(FIRST, "S1", "P1", FIRST - DAY, 9.0), "api")])
    store.log_predictions([Logged(answer(FIRST, "S1", "P1", FIRST - DAY, 90.0), WHAT_IF)])
    known = answer(FIRST, "S1", "P1", FIRST + DAY, 10.0, warnings=("past_date",))
    store.log_predictions([Logged(known, "api")])
    (row,) = accuracy(store, "store", Judged()).items
    assert (row.rows, row.error, row.naive_rows, row.naive_wape) == (1, 1.0, 0, None)


def test_weekly_data_is_compared_with_the_year_before(store):
    year = [(FIRST, "S1", "P1", 10.0), (FIRST - 364 * DAY, "S1", "P1", 7.0), (FIRST - 7 * DAY, "S1", "P1", 99.0)]
    store.upsert_actuals(pl.DataFrame(year, ["date", "store", "product", "sales"], orient="row"))
    store.log_predictions([Logged(answer(FIRST, "S1", "P1", FIRST - DAY, 9.0, unit="units/week"), "api")])
    (row,) = accuracy(store, "store", Judged()).items
    assert (row.naive_wape, row.wape_beside_naive) == (0.3, 0.1)


def test_overrides_are_judged_beside_the_predictions_they_replaced(store):
    sold = [(FIRST + DAY * k, "S1", "P1", 10.0) for k in range(4)]
    store.upsert_actuals(pl.DataFrame(sold, ["date", "store", "product", "sales"], orient="row"))
    store.log_predictions([Logged(answer(date, s, p, FIRST - DAY, 8.0), "api") for date, s, p, _ in sold])
    overrides = Overrides(store)
    for k, units in ((0, 50), (0, 11), (1, 13), (2, 14)):
        given = NewJudgement(date=FIRST + DAY * k, store="S1", product="P1", units=units, reason="known better")
        made = overrides.put(given, "me")
        early = FIRST - DAY if k < 2 else FIRST + DAY * 9  # the last one was given when its day was over
        with store.begin() as connection:
            mine = table.c.override_id == made.override_id
            connection.execute(
                table.update().where(mine).values(made_at=dt.datetime.combine(early, dt.time(9), dt.UTC))
            )
    overrides.put(NewJudgement(date=FIRST + DAY, store="S1", product="P1", units=None, reason="taken back"), "me")
    with store.begin() as connection:
        connection.execute(
            table.update().where(table.c.units.is_(None)).values(made_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        )
    (row,) = accuracy(store, "store", Judged()).items
    assert (row.rows, row.wape) == (4, pytest.approx(0.2))
    assert (row.override_rows, row.override_wape, row.wape_beside_override) == pytest.approx((1, 0.1, 0.2))


def test_each_version_is_judged_by_its_own_last_answer_of_a_day(store, logged):
    rows, sold = logged
    other = [row.model_copy(update={"prediction": 11.0, "model": row.model.model_copy(update={"version": "8"})})
             for row in rows[: len(rows) // 2]]  # fmt: skip
    tried = [row.model_copy(update={"prediction": 900.0}) for row in rows[:50]]
    store.log_predictions([Logged(row, "api") for row in other])
    store.log_predictions([Logged(row, WHAT_IF) for row in tried])
    last = {}
    for row in (*rows, *other):
        last[row.model.version, row.date, row.store, row.product] = row
    wanted = {}
    for (version, date, s, p), row in last.items():
        if (s, p, date) in sold:
            week = wanted.setdefault((version, date - DAY * date.weekday()), [0, 0.0, 0.0])
            week[0] += 1
            week[1] += sold[s, p, date]
            week[2] += abs(row.prediction - sold[s, p, date])
    found = {(item.version, item.week): (item.rows, item.sold, item.error) for item in weeks(store, Judged())}
    assert found == {key: pytest.approx(tuple(values)) for key, values in wanted.items()}
    assert {version for version, _ in found} == {"7", "8"}
    since = [item for item in weeks(store, Judged(from_date=FIRST + DAY * 14)) if item.version == "7"]
    assert [item.week for item in since] == sorted(
        {week for v, week in wanted if v == "7" and week >= FIRST + DAY * 14}
    )
    assert since[0].wape == pytest.approx(since[0].error / since[0].sold)
