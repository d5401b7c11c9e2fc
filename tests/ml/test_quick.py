"""The short way answers what the long one does: prediction, bounds, support, warnings and inputs, row by row."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml.attributes import attach
from ml.bundle import load_bundle, write_bundle
from ml.cleaning import make_panel
from ml.encoding import fit_encoding
from ml.features import DAY_EFFECT, Columns
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.models import XGBoostModel
from ml.onedal_trees import OneDalBlock, hastened
from ml.onnx_trees import FEW, OnnxTrees
from ml.quick import RELATIVE, TOLERANCE, Quick
from ml.records import Manifest, Recipe
from ml.training import Data, Tables, train_until
from ml.tuning import KNOWN_GOOD

ROWS = 1500  # of each business
FIRST = dt.date(2024, 1, 1)  # a Monday
SMALL = KNOWN_GOOD | {"rounds": 40, "max_depth": 5}
NUMBERS = ("prediction", "low_80", "high_80", "low_95", "high_95")


def sold(rng: np.random.Generator, dates: list[dt.date], store: str, product: str) -> pl.DataFrame:
    """One series that has everything: price, promotion, a flag of days, a temperature, a kind of weather."""
    n = len(dates)
    promotion = np.where(rng.random(n) < 0.2, rng.choice([0.1, 0.3], n), 0.0)
    fair = np.array([float((date - FIRST).days // 7 % 9 == 0) for date in dates])
    price = np.round(3.0 * (1 - promotion) * rng.choice([1.0, 1.1], n), 2)
    sales = rng.poisson(20 * (1 + promotion + 0.5 * fair) / price)
    return pl.DataFrame(
        {
            "date": dates,
            "store": store,
            "product": product,
            "sales": sales.astype(float),
            "price": price,
            "promotion": promotion,
            "fair": fair,
            "warm": np.round(15 + 10 * np.sin(np.arange(n) / 58) + rng.normal(0, 2, n), 1),
            "sky": rng.choice(["clear", "rain", "fog"], n),
        }
    )


def business(every: int, periods: int, stores: int = 3, products: int = 22) -> pl.DataFrame:
    """A chain with enough series that effects of days are learnt by group; one product is new, one ended."""
    rng = np.random.default_rng(every)
    dates = [FIRST + dt.timedelta(days=every * k) for k in range(periods)]
    frames = []
    for s in range(stores):
        for p in range(products):
            mine = dates[-40:] if p == 1 else dates[: len(dates) // 3] if p == 2 else dates
            frames.append(sold(rng, mine, f"S{s}", f"P{p:02d}"))
    return pl.concat(frames)


def made(folder: Path, rows: pl.DataFrame, blocks: tuple[int, ...], side: pl.DataFrame | None, **params) -> Forecaster:
    """Trained on ``rows``, with bounds of made-up residuals: what they are does not matter here."""
    panel = make_panel(rows, country="ES")
    attached = attach(panel.frame, side) if side is not None else None
    frame, static = (attached.frame, attached.static) if attached else (panel.frame, ())
    columns = Columns.of(frame, panel.regressors, panel.closed_when, static)
    names = ["store", "product", *columns.text, *columns.static_text]
    data = Data(frame, panel.frequency, columns, fit_encoding(frame, names, []), "ES")
    origin = frame["date"].max()
    recipe = Recipe(kind="xgboost", params=SMALL | params, blocks=blocks)
    rng = np.random.default_rng(0)
    forecast, block = rng.gamma(2, 10, 2000), rng.choice(blocks, 2000)
    manifest = Manifest(
        created_at=dt.datetime.now(dt.UTC), data_version="test", trained_until=origin, frequency=panel.frequency,
        horizon=blocks[-1], unit="units/day", country="ES", recipe=recipe, features=tuple(data.names),
        regressors=panel.regressors, static=static, derived=("price", "promotion"), closed_when=panel.closed_when,
        encoding=data.encoding, files={},
    )  # fmt: skip
    write_bundle(
        folder,
        manifest,
        train_until(recipe, data, Tables(data, blocks), origin),
        Intervals.fit(forecast, rng.poisson(forecast).astype(float), block),
        tail_of(frame, panel.frequency, blocks[-1]),
        lambda draft: Forecaster(draft).golden_rows(),
        attributes=side,
        days=data.effects(origin),
    )
    return Forecaster(load_bundle(folder))


SIDE = pl.DataFrame(
    {
        "store": [None] * 22 + ["S0", "S1", "S2"],
        "product": [f"P{k:02d}" for k in range(22)] + [None] * 3,
        "product.kind": ["bread" if k % 2 else "cake" for k in range(22)] + [None] * 3,
        "store.size": [None] * 22 + [100.0, 250.0, 400.0],
    }
)


@pytest.fixture(scope="module")
def daily(tmp_path_factory) -> Forecaster:
    return made(tmp_path_factory.mktemp("daily") / "b", business(1, 300), (7, 14, 28), SIDE, objective="squared+log")


@pytest.fixture(scope="module")
def weekly(tmp_path_factory) -> Forecaster:
    return made(tmp_path_factory.mktemp("weekly") / "b", business(7, 110), (1, 2, 8), None)


@pytest.fixture(scope="module")
def closing(tmp_path_factory) -> Forecaster:
    """Shops that are shut on Sundays and say so."""
    rows = business(1, 300, stores=2, products=3).with_columns(open=(pl.col("date").dt.weekday() < 7).cast(pl.Float64))
    rows = rows.with_columns(pl.when(pl.col("open") == 0).then(0.0).otherwise("sales").alias("sales"))
    found = made(tmp_path_factory.mktemp("closing") / "b", rows, (7, 28), None)
    assert found.manifest.closed_when == {"open": 0.0}
    return found


def drawn(found: Forecaster, count: int, seed: int = 3, leave: tuple[str, ...] = ()) -> list[dict]:
    """Usual rows with any of the inputs, also values that were never seen."""
    rnd = random.Random(seed)
    keys = found.next_days([], []).select("store", "product").unique(maintain_order=True).rows()
    days = found.horizon * (1 if found.frequency == "D" else 7)
    choices = {
        "price": lambda: rnd.choice([0.01, 1.5, 2.7, 3.0, 3.3, 1e9, rnd.uniform(1, 5)]),
        "promotion": lambda: rnd.choice([0.0, 0.0, 0.1, 0.3, 1.0]),
        "holiday": lambda: rnd.choice([0, 1]),
        "fair": lambda: rnd.choice([0.0, 1.0, 2.0]),
        "warm": lambda: rnd.choice([-40.0, 3.25, 20.0, 1e12]),
        "sky": lambda: rnd.choice(["clear", "rain", "fog", "hail"]),
        "open": lambda: rnd.choice([0.0, 1.0]),
    }
    rows = []
    for _ in range(count):
        store, product = rnd.choice(keys)
        row = {"date": found.origin + dt.timedelta(days=rnd.randint(1, days)), "store": store, "product": product}
        row |= {name: choices[name]() for name in found.inputs if name not in leave and rnd.random() < 0.5}
        rows.append(row)
    return rows


def frame_of(found: Forecaster, rows: list[dict]) -> pl.DataFrame:
    types = {"date": pl.Date, "store": pl.String, "product": pl.String, "holiday": pl.Int8, "sky": pl.String}
    names = ("date", "store", "product", *found.inputs)
    return pl.DataFrame(rows, schema={name: types.get(name, pl.Float64) for name in names})


def assert_same(found: Forecaster, quick: Quick, rows: list[dict]) -> None:
    """All at once by the long way; by the short one in parts of every size."""
    expected = found.forecast(frame_of(found, rows)).rows(named=True)
    sizes, start = (1, 3, 17, FEW - 1, FEW + 50), 0
    while start < len(rows):
        part = rows[start : start + sizes[start % len(sizes)]]
        at = quick.places(part)
        assert at is not None
        for got, wanted in zip(quick.forecast(part, at), expected[start:], strict=False):
            for name in NUMBERS:
                allowed = max(TOLERANCE, RELATIVE * abs(wanted[name]))
                assert got[name] == pytest.approx(wanted[name], rel=0, abs=allowed), (name, got, wanted)
            rest = {name: value for name, value in wanted.items() if name not in NUMBERS}
            assert repr({name: got[name] for name in rest}) == repr(rest)  # 0 is not 0.0 in JSON
        start += len(part)


@pytest.mark.parametrize("business", ["daily", "weekly"])
def test_thousands_of_plans_get_the_same_answers(business, request):
    found = request.getfixturevalue(business)
    quick, rows = Quick(found), drawn(found, ROWS)
    assert set(quick._trees) == set(found.manifest.recipe.blocks)
    assert_same(found, quick, rows)
    warnings = {code for row in quick.forecast(rows, quick.places(rows)) for code in row["warnings"]}
    expected = {"no_similar_days", "price_outside", "regressor_outside"}
    assert warnings >= expected | ({"off_calendar"} if business == "weekly" else set())
    assert quick.difference() <= 1


@pytest.mark.parametrize("business", ["daily", "weekly", "closing"])
def test_one_row_in_plain_python_is_answered_as_many_are(business, request, monkeypatch):
    found = request.getfixturevalue(business)
    quick = Quick(found)
    rows = drawn(found, 1000, leave=("fair", "warm", "sky", "open"))
    together = quick._together(rows, quick.places(rows))
    monkeypatch.setattr(quick, "_together", None)  # none of them is left to it
    for row, expected in zip(rows, together, strict=True):
        (got,) = quick.forecast([row], quick.places([row]))
        for name in NUMBERS:
            assert got[name] == pytest.approx(expected.pop(name), rel=1e-12, abs=1e-12)
        assert repr({name: got[name] for name in expected}) == repr(expected)


def test_one_row_that_plans_something_else_is_answered_with_many(daily):
    quick = Quick(daily)
    rows = [row for row in drawn(daily, 50) if {"fair", "warm", "sky"} & row.keys()]
    assert all(quick._one.forecast(row, quick.places([row]).item(0)) is None for row in rows)
    assert_same(daily, quick, rows)


def test_the_daily_business_has_effects_of_flags_by_group(daily):
    """Else the test above would not show that they are followed."""
    assert "fair" in daily.bundle.days.flags
    assert daily.bundle.days.groups
    assert DAY_EFFECT in daily.manifest.features
    assert {"product.kind_code", "store.size"} <= set(daily.manifest.features)


def test_effects_that_are_kept_have_a_limit(daily, monkeypatch):
    monkeypatch.setattr("ml.quick.MOST_EFFECTS", 20)
    quick = Quick(daily)
    assert_same(daily, quick, drawn(daily, 300))
    assert len(quick._effects) <= 20 + 2 * FEW


def test_closed_days_sell_nothing_and_a_planned_closure_goes_the_long_way(closing):
    quick = Quick(closing)
    rows = drawn(closing, 400, leave=("open",))
    assert_same(closing, quick, rows)
    answered = quick.forecast(rows, quick.places(rows))
    assert {row["date"].weekday() for row in answered if "closed" in row["warnings"]} == {6}
    assert quick.places([rows[0], rows[1] | {"open": 0.0}]) is None


def test_newer_sales_move_both_ways_alike(daily):
    """With other sales than the trees have learned from, and a product that they never saw."""
    newer = daily.state.with_columns(
        pl.col("product").replace("P03", "P99"), date=pl.col("date") + dt.timedelta(days=9), sales=pl.col("sales") * 3
    )
    moved = Forecaster(daily.bundle, newer, daily.bundle.attributes)
    rows = drawn(moved, 300)
    assert_same(moved, Quick(moved), rows)
    assert "unseen_in_training" in {c for r in moved.forecast(frame_of(moved, rows))["warnings"].to_list() for c in r}


def test_prices_that_are_not_known_stay_unknown(daily):
    unpriced = daily.state.with_columns(price=pl.when(pl.col("product") > "P10").then("price"))
    found = Forecaster(daily.bundle, unpriced)
    rows = drawn(found, 400)
    assert None in found.forecast(frame_of(found, rows))["price"].to_list()
    assert_same(found, Quick(found), rows)


def test_rows_that_are_not_usual_have_no_place(daily):
    quick, last = Quick(daily), daily.origin + dt.timedelta(days=28)
    usual = {"date": last, "store": "S0", "product": "P05"}
    assert quick.places([usual]) is not None
    ended, new = usual | {"product": "P02"}, usual | {"store": "S9"}
    for row in (ended, new, usual | {"date": last + dt.timedelta(days=1)}, usual | {"date": daily.origin}):
        assert quick.places([usual, row]) is None


@pytest.mark.parametrize("kind", ["linear", "seasonal_naive", "moving_average"])
def test_models_without_trees_are_answered_too(chain, judged, make_bundle, tmp_path, kind):
    recipe = Recipe(kind=kind, blocks=(7, 28))
    found = Forecaster(make_bundle(tmp_path / kind, chain, judged, recipe))
    quick = Quick(found)
    assert quick._trees == {}
    assert_same(found, quick, drawn(found, 300))


@pytest.mark.parametrize("business", ["daily", "weekly"])
def test_trees_for_onedal_answer_few_rows_too(business, request):
    pytest.importorskip("daal4py", reason="NOT CHECKED: there is no oneDAL for this machine")
    found = request.getfixturevalue(business)
    quick = Quick(Forecaster(dataclasses.replace(found.bundle, model=hastened(found.bundle.model))))
    assert {type(trees) for trees in quick._trees.values()} == {OneDalBlock}
    assert quick._trees.keys() == set(found.manifest.recipe.blocks)
    assert_same(found, quick, drawn(found, 500))
    singly = [row for row in drawn(found, 300, seed=4) if quick.places([row]) is not None]
    assert len(singly) > 100
    for row in singly:
        (one,), (expected,) = (
            quick.forecast([row], quick.places([row])),
            found.forecast(frame_of(found, [row])).to_dicts(),
        )
        assert [one[name] for name in NUMBERS] == pytest.approx(
            [expected[name] for name in NUMBERS], rel=1e-5, abs=1e-3
        )


def test_trees_that_would_answer_something_else_are_not_used(daily, monkeypatch, caplog):
    """Damaged in the translation: XGBoost itself goes on, and the log says why."""
    right = OnnxTrees.sums
    monkeypatch.setattr(OnnxTrees, "sums", lambda self, x: [sums + 0.01 for sums in right(self, x)])
    with caplog.at_level(logging.WARNING, "ml.quick"):
        quick = Quick(daily)
    assert quick._trees == {}
    assert "stays with XGBoost" in caplog.text
    assert_same(daily, quick, drawn(daily, 100))


def test_boosters_that_are_no_sum_of_plain_trees_are_refused(daily):
    import xgboost as xgb

    model = daily.bundle.model
    assert isinstance(model, XGBoostModel)
    rng = np.random.default_rng(1)
    x = np.stack([rng.integers(0, 8, 200), rng.random(200)], axis=1)
    matrix = xgb.DMatrix(x, x[:, 0] % 3, feature_types=["c", "float"], enable_categorical=True)
    split = xgb.train({"max_cat_to_onehot": 1, "max_depth": 2}, matrix, 2)
    plain = model.blocks[7][0]
    for booster in (split, xgb.train({"booster": "gblinear"}, xgb.DMatrix(x, x[:, 0]), 2)):
        with pytest.raises(ValueError, match=r"categories|sum of trees"):
            OnnxTrees([dataclasses.replace(plain, booster=booster)])
