"""Effects of days: what is known of a made-up chain comes out, nothing of the future gets in, JSON keeps every bit."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from ml.cleaning import make_panel
from ml.dayeffects import LIMIT, DayEffects, grouping, learn, marking
from ml.encoding import fit_encoding
from ml.features import DAY_EFFECT, Columns
from ml.training import Data, Rows, build_table

FIRST, PERIODS = dt.date(2025, 1, 1), 400
PRODUCTS, STORES = 60, ("N1", "N2", "S1", "S2")
SUNDAY, FAIR = np.log(1.5), np.log(1.8)  # how much more is sold


def shops(fair_on: frozenset[int] = frozenset(range(20, PERIODS, 11))) -> pl.DataFrame:
    """Four stores of 60 products: Sundays sell half as much again, a fair in the south four fifths more."""
    rng, day = np.random.default_rng(5), np.arange(PERIODS)
    dates = [FIRST + dt.timedelta(days=int(d)) for d in day]
    sunday, fair = np.array([d.isoweekday() == 7 for d in dates]), np.isin(day, list(fair_on))
    frames = []
    for store in STORES:
        south = store.startswith("S")
        mean = 4 * np.exp(SUNDAY * sunday + FAIR * (fair & south))
        frames += [
            pl.DataFrame({"date": dates, "sales": rng.poisson(mean).astype(float)}).with_columns(
                store=pl.lit(store), product=pl.lit(f"P{k:02d}"), fair=pl.Series(np.where(fair & south, 1.0, 0.0))
            )
            for k in range(PRODUCTS)
        ]
    return pl.concat(frames)


@pytest.fixture(scope="module")
def data(to_data) -> Data:
    found = to_data(make_panel(shops(), country="ES"))
    panel = found.panel.with_columns(pl.col("store").str.slice(0, 1).alias("store.region"))
    columns = dataclasses.replace(found.columns, static_text=("store.region",))
    encoding = fit_encoding(panel, ["store", "product", "store.region"], [])
    return dataclasses.replace(found, panel=panel, columns=columns, encoding=encoding)


def test_groups_are_columns_of_many_series_and_flags_mark_days(data):
    assert grouping(data.panel, data.columns) == ("store", "store.region")
    assert marking(data.panel, data.columns) == ("fair",)
    own = data.panel.with_columns(fair=pl.Series(np.random.default_rng(1).integers(0, 2, data.panel.height)))
    assert marking(own, data.columns) == ()  # another value for every product says nothing of a day
    few = data.panel.filter(pl.col("product") < "P10")
    assert grouping(few, data.columns) == ("store.region",)


def test_what_a_day_does_comes_out(data):
    effects = data.effects(FIRST + dt.timedelta(days=PERIODS - 29))
    monday = dt.date(2026, 1, 12)
    asked = pl.DataFrame(
        {
            "date": [monday, monday + dt.timedelta(days=6), monday],
            "store": ["S1"] * 3,
            "store.region": ["S"] * 3,
            "fair": [0.0, 0.0, 1.0],
        }
    )
    plain, sunday, fair = effects.of(asked).to_list()
    assert sunday - plain == pytest.approx(SUNDAY, abs=0.06)
    assert fair - plain == pytest.approx(FAIR, abs=0.12)
    # The north never had a fair: what is known of the south stands for it, and an unheard-of store gets what all have.
    unknown = asked.with_columns(store=pl.lit("X9"), **{"store.region": pl.lit("X")})
    plain, sunday, _ = effects.of(unknown).to_list()
    assert 0.5 * SUNDAY < sunday - plain < 1.1 * SUNDAY


def test_nothing_after_the_origin_counts(data):
    origin = FIRST + dt.timedelta(days=300)
    changed = data.panel.with_columns(sales=pl.when(pl.col("date") > origin).then(99.0).otherwise("sales"))
    args = data.columns, "ES", ("store",), ("fair",), origin
    (before, crossed), (after, again) = learn(data.panel, *args), learn(changed, *args)
    assert before == after
    assert_frame_equal(crossed, again)
    assert crossed["date"].max() <= origin


def test_a_training_row_is_not_told_its_own_week(data):
    """Triple one day's sales: the effects of its week, as training sees them, stay; those of other weeks move."""
    origin, day = FIRST + dt.timedelta(days=370), FIRST + dt.timedelta(days=203)
    raised = data.panel.with_columns(sales=pl.when(pl.col("date") == day).then(pl.col("sales") * 3).otherwise("sales"))
    args = data.columns, "ES", (), ("fair",), origin
    (_, crossed), (_, again) = learn(data.panel, *args), learn(raised, *args)
    week = crossed["date"].to_physical() // 7 == (day - dt.date(1970, 1, 1)).days // 7
    near = pl.col("date").is_between(day - dt.timedelta(days=14), day + dt.timedelta(days=14))  # their usual has moved
    own = crossed.filter(week)["day_effect"] - again.filter(week)["day_effect"]
    rest = crossed.filter(~near)["day_effect"] - again.filter(~near)["day_effect"]
    assert own.abs().max() < 0.02 < rest.abs().max()


def test_json_keeps_every_bit(data):
    effects = data.effects(FIRST + dt.timedelta(days=300))
    again = DayEffects.from_json(effects.to_json())
    assert again == effects
    assert_series_equal(again.of(data.panel), effects.of(data.panel), check_exact=True)
    with pytest.raises(ValueError, match="terms of day effects"):
        DayEffects.from_json(effects.to_json().replace('"terms": [[],', '"terms": [[], [],'))


def test_tables_hold_what_is_known_at_the_origin_asked_for(data):
    table = build_table(data, 28, Rows(FIRST + dt.timedelta(days=330)))
    column = data.names.index(DAY_EFFECT)
    assert np.isnan(table.rows.x[:, column]).all()
    early, late = FIRST + dt.timedelta(days=340), FIRST + dt.timedelta(days=380)
    first = table.seen_from(early).x[:, column].copy()
    second = table.seen_from(late).x[:, column].copy()
    assert np.isfinite(first).all()
    assert not np.array_equal(first, second)
    assert np.array_equal(table.seen_from(early).x[:, column], first)
    keys = table.keys.select("date", "store", "product")
    rows = keys.join(data.panel, on=["date", "store", "product"], how="left", maintain_order="left")
    after = (keys["date"] > early).to_numpy()
    wanted = data.effects(early).of(rows).to_numpy()
    assert np.array_equal(first[after], wanted[after])


def test_effects_stay_in_bounds_where_almost_nothing_is_known(to_data):
    """Sixteen days of one series, and rows of a year later: a number, and no wild one."""
    some = shops().filter(pl.col("store") == "S1", pl.col("product") == "P00").head(16).drop("fair")
    data = to_data(make_panel(some, country="ES"))
    effects = data.effects(data.panel["date"].max())
    far = data.panel.with_columns(pl.col("date").dt.offset_by("1y"))
    found = effects.of(far)
    assert found.is_finite().all()
    assert (found.abs() <= LIMIT).all()
    none = make_panel(shops().filter(pl.col("store") == "S1", pl.col("product") == "P00").drop("fair"), country="ES")
    empty, crossed = learn(none.frame, Columns.of(none.frame, (), {}), "ES", (), (), FIRST + dt.timedelta(days=5))
    assert crossed.is_empty()
    assert empty.of(none.frame).abs().max() == 0.0
