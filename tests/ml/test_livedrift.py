"""Drift of predictions on a log made by chance: none without a reason, much when they double, seasons are no drift."""

from __future__ import annotations

import datetime as dt
import random

import polars as pl
import pytest

from ml.copying import Logged
from ml.livedrift import prediction_drift
from ml.records import WHAT_IF, Answer, ModelRef, Support

LAST = dt.date(2026, 3, 29)
DAY = dt.timedelta(days=1)
YEAR = DAY * 364
STORES = tuple(f"S{n}" for n in range(6))


def answer(date, store, value):
    return Answer(
        date=date, store=store, product="P", prediction=value, unit="units/day", interval={}, data_version="d",
        support=Support(similar_days=9, level="ok"), request_id="r", inputs={},
        model=ModelRef(name="sales", version="7", alias=None, run_id="r"),
        created_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
    )  # fmt: skip


def log(store, last, days, factor=1.0, source="api"):
    """Predictions of a level times chance; what sold before has that level."""
    chance = random.Random(str((last, days, factor)))
    dates = [last - DAY * back for back in range(days)]
    level = {name: 20 * (1 + n) * factor for n, name in enumerate(STORES)}
    rows = [answer(date, s, level[s] * chance.uniform(0.7, 1.3)) for date in dates for s in STORES]
    store.log_predictions([Logged(row, source) for row in rows])


def sell(store, first, last, factor=1.0):
    days = (last - first).days + 1
    rows = [(first + DAY * k, s, "P", 20.0 * (1 + n) * factor) for k in range(days) for n, s in enumerate(STORES)]
    store.upsert_actuals(pl.DataFrame(rows, ["date", "store", "product", "sales"], orient="row"))


@pytest.fixture
def sold(store):
    sell(store, LAST - DAY * 300, LAST)
    return store


def test_the_same_predictions_have_not_drifted(sold):
    log(sold, LAST, 150)
    found = prediction_drift(sold, LAST, "D")
    (feature,) = found.features
    assert (feature.feature, feature.level) == ("prediction", "none")
    assert (found.reference, found.rows) == ("recent", 28 * 6)
    assert (found.date_from, found.date_to) == (LAST - DAY * 27, LAST)


def test_predictions_twice_as_high_have(sold):
    log(sold, LAST - DAY * 28, 120)
    log(sold, LAST, 28, factor=2.0)
    (feature,) = prediction_drift(sold, LAST, "D").features
    assert feature.level == "strong"
    assert feature.distance > 1
    assert feature.psi > feature.noise


def test_a_season_is_no_drift(sold):
    """Each year the level doubles in these weeks: beside a year before nothing has moved."""
    sell(sold, LAST - YEAR - DAY * 90, LAST - YEAR)
    log(sold, LAST - YEAR, 28, factor=2.0)
    log(sold, LAST - DAY * 28, 120)
    log(sold, LAST, 28, factor=2.0)
    found = prediction_drift(sold, LAST, "D")
    assert found.reference == "year_before"
    assert (found.reference_from, found.reference_to) == (LAST - YEAR - DAY * 27, LAST - YEAR)
    assert found.features[0].level == "none"


def test_too_few_are_said_to_be(sold):
    log(sold, LAST, 5)
    assert "too few" in prediction_drift(sold, LAST, "D").note
    log(sold, LAST, 28)
    assert "earlier predictions" in prediction_drift(sold, LAST, "D").note


def test_what_was_only_tried_does_not_count(sold):
    log(sold, LAST, 150)
    log(sold, LAST, 28, factor=9.0, source=WHAT_IF)
    assert prediction_drift(sold, LAST, "D").features[0].level == "none"
