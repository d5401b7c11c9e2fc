"""Contributions: they are exact, in units, and grouped so that a person understands them."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from ml.bundle import load_bundle
from ml.explain import group_of, grouped, in_units, sentence
from ml.features import feature_names
from ml.forecasting import Forecaster
from ml.models import Inputs, LinearModel, LocalSample, XGBoostModel, monotone_constraints, train_model
from ml.records import Recipe
from ml.training import train_until

BLOCKS = (7, 28)
KINDS = ["tweedie", "poisson", "log", "linear", "seasonal_naive", "moving_average"]
parts_of_rows = st.lists(st.floats(-3, 3), min_size=2, max_size=12)


@given(parts_of_rows, st.floats(0.01, 1e5))
def test_parts_in_units_add_up_whatever_they_are(log_parts, start):
    logs = np.array([log_parts])
    end = start * np.exp(logs.sum(axis=1))
    units = in_units(np.array([start]), end, logs)
    assert units.sum() == pytest.approx(end[0] - start, rel=1e-9, abs=1e-9 * start)
    assert (np.sign(units) == np.sign(logs))[np.abs(logs) > 1e-6].all()


def test_parts_that_explain_something_else_are_refused():
    with pytest.raises(ArithmeticError, match="more than rounding"):
        in_units(np.array([10.0]), np.array([20.0]), np.array([[0.1, 0.2]]))


def test_equal_start_and_end_split_nothing_but_opposite_parts():
    units = in_units(np.array([8.0]), np.array([8.0]), np.array([[0.5, -0.5]]))
    assert units[0].tolist() == pytest.approx([4.0, -4.0])


def fitted(chain, kind):
    if kind not in ("linear", "seasonal_naive", "moving_average"):
        params = chain.recipe.params | {"objective": kind, "centre": "share"}
        recipe = chain.recipe.model_copy(update={"params": params})
    else:
        recipe = Recipe(kind=kind, blocks=BLOCKS)
    return train_until(recipe, chain.data, chain.tables, chain.last)


@pytest.mark.parametrize("kind", [*KINDS, "squared+tweedie"])
def test_base_and_parts_are_the_forecast(chain, kind):
    model = fitted(chain, kind)
    for block, table in chain.tables.items():
        rows = table.rows.take(np.random.default_rng(1).choice(len(table.y), 300, replace=False))
        base, parts = model.contributions(block, rows)
        assert np.array_equal(base, rows.level)
        assert parts.shape == (300, rows.x.shape[1] + 1)
        assert base + parts.sum(axis=1) == pytest.approx(model.predict(block, rows), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rest_hides_in_the_constant(chain, kind):
    """All that is not a feature's is the same factor for every row, unless the cut at zero adds to it."""
    if kind in ("seasonal_naive", "moving_average"):
        base, parts = fitted(chain, kind).contributions(7, chain.tables[7].rows.take(np.arange(50)))
        assert not parts[:, :-1].any()
        return
    model = fitted(chain, kind)
    rows = chain.tables[7].rows.take(np.arange(0, len(chain.tables[7].y), 20))
    base, parts = model.contributions(7, rows)
    forecast = model.predict(7, rows)
    shift = 1.0 if kind in ("log", "linear") else 0.0
    smear = model.blocks[7]["smear"] if kind == "linear" else model.blocks[7][0].smear
    inside = forecast > 0.5
    ratio = (forecast / smear + shift) / (base + shift)
    mean = (base + shift) * np.where(np.abs(np.log(ratio)) < 1e-9, 1, (ratio - 1) / np.log(ratio))
    constant = (parts[:, -1] - forecast * (1 - 1 / smear)) / mean
    assert inside.sum() > 100
    assert constant[inside] == pytest.approx(np.median(constant), abs=2e-4)


def test_the_corrected_mean_is_in_the_parts_too(chain):
    params = chain.recipe.params | {"objective": "log"}
    model = train_until(chain.recipe.model_copy(update={"params": params}), chain.data, chain.tables, chain.last)
    rows = chain.tables[7].rows.take(np.arange(200))
    base, parts = model.contributions(7, rows)
    assert base + parts.sum(axis=1) == pytest.approx(model.predict(7, rows), rel=1e-6, abs=1e-9)


def test_trees_are_split_as_shap_splits_them(chain, tmp_path):
    """TreeSHAP's own log parts are proportional to ours within a row."""
    model = fitted(chain, "tweedie")
    rows = chain.tables[28].rows.take(np.arange(40))
    model.save(tmp_path)
    (file,) = tmp_path.glob("block_028*.ubj")
    booster = xgb.Booster(model_file=file)
    matrix = xgb.DMatrix(
        rows.x, feature_names=booster.feature_names, feature_types=booster.feature_types, enable_categorical=True
    )
    logs = booster.predict(matrix, pred_contribs=True)
    units = model.contributions(28, rows)[1]
    for log_row, row in zip(logs[:, :-1], units[:, :-1], strict=True):
        ratio = row[np.abs(log_row) > 1e-3] / log_row[np.abs(log_row) > 1e-3]
        assert ratio == pytest.approx(np.median(ratio), rel=1e-4)


def test_a_linear_part_is_coefficient_times_standardised_value():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (400, 2)).astype(np.float32)
    level = np.full(400, 50.0)
    y = level * np.exp(0.2 * (x[:, 0] - 3))
    model = LinearModel.train(
        Recipe(kind="linear", blocks=(7,)),
        ["a", "b"],
        [LocalSample(7, Inputs(x, level, level, level), y, np.ones(400))],
    )
    one = Inputs(x[:1], level[:1], level[:1], level[:1])
    base, parts = model.contributions(7, one)
    fit = model.blocks[7]
    z = (x[0].astype(float) - fit["mean"]) / fit["scale"]
    logs = np.array([*(z * fit["coef"]), fit["intercept"]])
    end = np.exp(logs.sum()) * 51
    wanted = in_units(np.array([51.0]), np.array([end]), logs[None])[0]
    assert parts[0, :2] == pytest.approx(wanted[:2], rel=1e-9)
    assert base[0] + parts[0].sum() == pytest.approx(model.predict(7, one)[0], rel=1e-12)


def test_absurd_inputs_still_add_up(chain):
    rows = chain.tables[7].rows.take(np.arange(20))
    rows.x[:] = 1e6
    for kind in ("linear", "log", "tweedie"):
        model = fitted(chain, kind)
        base, parts = model.contributions(7, rows)
        assert base + parts.sum(axis=1) == pytest.approx(model.predict(7, rows), rel=1e-6, abs=1e-9)


def test_no_rows_have_no_parts(chain):
    none = chain.tables[7].rows.take(np.zeros(len(chain.tables[7].y), bool))
    base, parts = fitted(chain, "tweedie").contributions(7, none)
    assert (len(base), parts.shape) == (0, (0, none.x.shape[1] + 1))


# ---------------------------------------------------------------- groups


def test_every_feature_of_the_engine_has_a_group_a_person_knows(chain):
    for frequency in ("D", "W"):
        names = feature_names(frequency, dataclasses.replace(chain.data.columns, yearly=True))
        groups = {name: group_of(name) for name in names}
        assert "other" not in groups.values(), groups
        assert groups["price"] == groups["r_price_max"] == "price"
        assert groups["promotion"] == groups["r_same_promotion"] == "promotion"
        assert groups["month"] == groups["week"] == "season"
        assert groups["holiday"] == groups["days_to_holiday"] == "holiday"


def test_a_regressor_is_called_by_its_name():
    assert group_of("price_index", ["price_index"]) == "regressor:price_index"
    assert group_of("flavour_code", ["flavour"]) == "regressor:flavour"
    assert group_of("open_lead_1", ["open"]) == "regressor:open"
    assert group_of("price", ["base_price"]) == "price"
    assert group_of("r_store_product.category_weekday", ["product.category"]) == "weekday"
    assert group_of("product.category_code", ["product.category"]) == "regressor:product.category"
    assert group_of("something new") == "other"


def test_groups_add_up_and_must_fit():
    parts = np.arange(8.0).reshape(2, 4)
    found = grouped(parts, ["month", "week", "price"])
    assert {name: values.tolist() for name, values in found.items()} == {
        "season": [1.0, 9.0],
        "price": [2.0, 6.0],
        "level": [3.0, 7.0],
    }
    with pytest.raises(ValueError, match="4 parts for 2 features"):
        grouped(parts, ["month", "week"])


@pytest.mark.parametrize(
    ("units", "code"), [((3.0, 2.0), "raised"), ((-3.0, -2.0), "lowered"), ((3.0, -2.0), "mixed"), ((0.1,), "usual")]
)
def test_the_sentence_follows_from_what_tells(units, code):
    items = [{"group": f"g{i}", "units": value} for i, value in enumerate(units)]
    assert sentence(20.0, 20.0 + sum(units), items) == code


# ---------------------------------------------------------------- monotone


def test_constraints_are_put_on_what_derives_from_the_rows_own_plan():
    names = ["price", "r_price", "price_mean", "promotion", "r_same_promotion", "promotion_share"]
    recipe = Recipe(kind="xgboost", params={"monotone": "price"})
    assert monotone_constraints(recipe, names) == {"monotone_constraints": {"price": -1, "r_price": -1}}
    both = Recipe(kind="xgboost", params={"monotone": "price_promotion"})
    found = monotone_constraints(both, names)["monotone_constraints"]
    assert found == {"price": -1, "r_price": -1, "promotion": 1, "r_same_promotion": 1}
    assert monotone_constraints(Recipe(kind="xgboost"), names) == {}
    with pytest.raises(ValueError, match="monotone is one of"):
        monotone_constraints(Recipe(kind="xgboost", params={"monotone": "pirce"}), names)


def test_an_average_of_models_has_the_average_of_their_parts(chain):
    rows = chain.tables[7].rows.take(np.arange(30))
    members = [fitted(chain, kind) for kind in ("tweedie", "log", "linear")]
    weights = [0.5, 0.3, 0.2]
    forecast = sum(w * m.predict(7, rows) for w, m in zip(weights, members, strict=True))
    found = [m.contributions(7, rows) for m in members]
    base = sum(w * b for w, (b, _) in zip(weights, found, strict=True))
    parts = sum(w * p for w, (_, p) in zip(weights, found, strict=True))
    assert base + parts.sum(axis=1) == pytest.approx(forecast, rel=1e-6)


def test_trained_with_constraints_demand_falls_with_price_on_any_data():
    """Sales that rise with price: only the constraint keeps the forecast from saying so."""
    rng = np.random.default_rng(4)
    x = np.column_stack([rng.uniform(1, 3, 2000), rng.integers(0, 2, 2000)]).astype(np.float32)
    level = np.full(2000, 20.0)
    y = rng.poisson(level * x[:, 0] * np.where(x[:, 1] > 0, 0.6, 1.0)).astype(float)
    rows = Inputs(x, level, level, level)
    from ml.tuning import KNOWN_GOOD

    params = KNOWN_GOOD | {"rounds": 30, "max_depth": 3}
    low, high = x.copy(), x.copy()
    low[:, 0], high[:, 0] = 1.2, 2.8
    plain, promoted = x.copy(), x.copy()
    plain[:, 1], promoted[:, 1] = 0, 1

    def answers(monotone):
        recipe = Recipe(kind="xgboost", params=params | {"monotone": monotone}, blocks=(7,))
        model = train_model(recipe, ["price", "promotion"], [LocalSample(7, rows, y, np.ones(2000))])
        assert isinstance(model, XGBoostModel)
        return [model.predict(7, Inputs(v, level, level, level)) for v in (low, high, plain, promoted)]

    free = answers("off")
    assert (free[1] > free[0]).all()
    assert (free[3] < free[2]).all()
    held = answers("price_promotion")
    assert (held[1] <= held[0] + 1e-6).all()
    assert (held[3] >= held[2] - 1e-6).all()


# ---------------------------------------------------------------- through the forecaster


@pytest.fixture(scope="module")
def forecaster(bundle_folder) -> Forecaster:
    return Forecaster(load_bundle(bundle_folder))


def test_the_forecaster_explains_what_it_forecasts(forecaster):
    rows = forecaster.next_days([], []).sample(80, seed=3)
    rows = rows.with_columns(promotion=pl.when(pl.int_range(pl.len()) % 2 == 0).then(0.3).otherwise(0.0))
    told, said = forecaster.explain(rows), forecaster.forecast(rows)
    assert told.select("date", "store", "product").equals(said.select("date", "store", "product"))
    assert told["prediction"].to_list() == said["prediction"].to_list()
    units = told["contributions"].list.eval(pl.element().struct.field("units")).list.sum()
    assert (told["base"] + units).to_list() == pytest.approx(told["prediction"].to_list(), rel=1e-6)
    promoted = told.with_row_index().filter(pl.col("index") % 2 == 0)
    mine = promoted["contributions"].list.eval(
        pl.element().filter(pl.element().struct.field("group") == "promotion").struct.field("units")
    )
    assert (mine.list.first() > 0).mean() > 0.9
    assert set(told["sentence"]) <= {"usual", "raised", "lowered", "mixed"}
