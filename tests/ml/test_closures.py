from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml.bundle import load_bundle, write_bundle
from ml.cleaning import make_panel
from ml.closures import NAMES, REACH, closed_days, tells
from ml.encoding import fit_encoding
from ml.features import KEY, Columns
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.records import Manifest, Recipe
from ml.splits import rolling_origins
from ml.training import Data, Tables, backtest, train_until
from ml.tuning import known_good

START, DAYS = dt.date(2025, 1, 6), 420  # a Monday
ROUNDS = {"rounds": 60, "max_depth": 5, "eta": 0.15}


def shop(name: str, seed: int) -> pl.DataFrame:
    """A shop that rests on Sundays, closes for two weeks every ten, and sells out in the three days before."""
    rng = np.random.default_rng(seed)
    day = np.arange(DAYS)
    phase = (day + 11 * seed) % 70
    open_ = (day % 7 != 6) & (phase < 56)
    ends = np.isin(phase, (53, 54, 55))
    sales = rng.poisson(np.where(ends, 20, 80)) * open_
    dates = [START + dt.timedelta(days=int(d)) for d in day]
    return pl.DataFrame({"date": dates, "store": name, "product": "all", "sales": sales, "open": open_.astype(float)})


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> tuple[Forecaster, pl.DataFrame]:
    """A forecaster of eight shops 28 days before their data ends, and what follows."""
    panel = make_panel(
        pl.concat(shop(f"S{k}", k) for k in range(8)).with_columns(pl.col("sales").cast(pl.Float64)), country="US"
    )
    assert panel.closed_when == {"open": 0.0}
    origin = START + dt.timedelta(days=DAYS - 29)
    past, future = panel.frame.filter(pl.col("date") <= origin), panel.frame.filter(pl.col("date") > origin)
    columns = Columns.of(past, panel.regressors, panel.closed_when)
    data = Data(past, "D", columns, fit_encoding(past, ["store", "product", *columns.text], []), "US")
    recipe = Recipe(kind="xgboost", params=known_good("wape") | ROUNDS, blocks=(28,))
    tables = Tables(data, recipe.blocks)
    rows = backtest({"challenger": recipe}, data, tables, rolling_origins(START, origin, 28, 1, "D"))
    model = train_until(recipe, data, tables, origin)
    manifest = Manifest(
        created_at=dt.datetime.now(dt.UTC), data_version="shops", trained_until=origin, frequency="D", horizon=28,
        unit="units/day", country="US", recipe=recipe, features=tuple(data.names), regressors=panel.regressors,
        derived=(), closed_when=panel.closed_when, encoding=data.encoding, files={},
    )  # fmt: skip
    intervals = Intervals.fit(rows["challenger"].to_numpy(), rows["y"].to_numpy(), rows["block"].to_numpy())
    folder = Path(tmp_path_factory.mktemp("shops")) / "bundle"
    write_bundle(folder, manifest, model, intervals, tail_of(past, "D", 28), lambda _: [], days=data.effects(origin))
    return Forecaster(load_bundle(folder)), future


def test_shares_and_distances_of_closed_days():
    closed = np.zeros(40)
    closed[[3, 20, 21, 22]] = 1
    dates = [START + dt.timedelta(days=d) for d in range(40)]
    panel = pl.DataFrame({"store": "a", "product": "x", "date": dates, "open": 1 - closed})
    panel = pl.concat([panel, panel.with_columns(pl.lit("b").alias("store"), pl.lit(1.0).alias("open"))])
    found = closed_days(panel, pl.col("open") == 0)
    assert found.drop(*NAMES).equals(panel)
    mine = found.filter(pl.col("store") == "a")
    for day in range(40):
        before, ahead = closed[max(0, day - REACH) : day], closed[day + 1 : day + 1 + REACH]
        assert mine["shut_before"][day] == pytest.approx(before.mean() if day else 0.0, abs=1e-6)
        assert mine["shut_ahead"][day] == pytest.approx(ahead.mean() if day < 39 else 0.0, abs=1e-6)
        past, next_ = np.flatnonzero(closed[:day]), np.flatnonzero(closed[day + 1 :])
        assert mine["shut_since"][day] == (min(day - past[-1], REACH) if len(past) else REACH)
        assert mine["shut_until"][day] == (min(next_[0] + 1, REACH) if len(next_) else REACH)
    other = found.filter(pl.col("store") == "b")
    assert other.select(NAMES).unique().rows() == [(0.0, 0.0, REACH, REACH)]


def test_weekly_data_and_data_without_closed_days_have_none():
    assert tells((("open", 0.0),), "D")
    assert not tells((("open", 0.0),), "W")
    assert not tells((), "D")


def test_the_days_before_a_planned_closure_are_seen(served):
    forecaster, future = served
    answered = forecaster.forecast(future.drop("sales")).select(*KEY, "prediction")
    rows = future.filter(pl.col("open") == 1).join(answered, on=KEY)
    ends = rows.filter(pl.col("sales") < 40)
    assert ends.height >= 3
    assert ends["prediction"].mean() < 45 < 65 < rows.filter(pl.col("sales") > 50)["prediction"].mean()


def test_a_row_asked_alone_has_neighbours_as_in_the_last_week(served):
    """What nobody plans is as it was: Sundays closed, the rest open."""
    forecaster, future = served
    asked = future.filter(pl.col("store") == "S0").drop("sales").with_columns(open=pl.lit(1.0)).slice(9, 1)
    features = list(forecaster.manifest.features)
    ((_, inputs),) = forecaster.inputs_of(asked).values()
    state = forecaster.state.filter(pl.col("store") == "S0").tail(7)
    week = state["open"].to_numpy() == 0
    alone = inputs.x[0, features.index("shut_ahead")]
    assert alone == pytest.approx(week.mean())


def test_a_plan_asked_whole_is_seen_as_training_sees_it(served):
    """Every row whose neighbours lie within what was asked has the inputs that the table of all history has."""
    forecaster, future = served
    features = [forecaster.manifest.features.index(name) for name in NAMES]
    near = future.with_row_index("_row").filter(pl.col("date") <= future["date"].min() + dt.timedelta(days=13))
    ((_, inputs),) = forecaster.inputs_of(future.drop("sales")).values()
    whole = pl.concat([forecaster.state.select(*KEY, "open"), future.select(*KEY, "open")]).sort(KEY)
    wanted = near.select(*KEY).join(closed_days(whole, pl.col("open") == 0).select(*KEY, *NAMES), on=KEY)
    assert near.height == 8 * 14
    assert wanted.select(*KEY).equals(near.select(*KEY))
    got = inputs.x[near["_row"].to_numpy()][:, features]
    np.testing.assert_allclose(got, wanted.select(NAMES).to_numpy(), atol=1e-6)


def test_closures_have_their_own_place_in_an_explanation(served):
    forecaster, future = served
    told = forecaster.explain(future.drop("sales").filter(pl.col("open") == 1).head(40))
    groups = {item["group"] for row in told["contributions"].to_list() for item in row}
    assert "closures" in groups
