from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from ml.evaluation import rmspe
from ml.models import Inputs, LinearModel, LocalSample, centre_factor, centre_sums, load_model
from ml.records import Recipe
from ml.training import train_until

BLOCKS = (7, 28)


@pytest.mark.parametrize("objective", ["tweedie", "poisson", "log", "squared", "share", "squared+tweedie"])
def test_trees_survive_saving_bit_for_bit(chain, tmp_path, objective):
    params = chain.recipe.params | {"objective": objective, "half_life": 0.0}
    recipe = chain.recipe.model_copy(update={"params": params})
    model = train_until(recipe, chain.data, chain.tables, chain.last)
    model.save(tmp_path)
    again = load_model(recipe, tmp_path)
    for block, table in chain.tables.items():
        assert np.array_equal(model.predict(block, table.rows), again.predict(block, table.rows))
        total = model.predict(block, table.rows).sum() / table.y.sum()
        # What is judged by shares of the truth answers below the mean: an answer too high costs more than one too low.
        assert (0.6 < total < 0.95) if objective == "share" else (0.95 < total < 1.05)


def test_several_objectives_are_averaged(chain):
    def forecast(objective: str) -> np.ndarray:
        params = chain.recipe.params | {"objective": objective}
        recipe = chain.recipe.model_copy(update={"params": params})
        return train_until(recipe, chain.data, chain.tables, chain.last).predict(7, chain.tables[7].rows)

    both = forecast("squared+tweedie")
    assert both == pytest.approx((forecast("squared") + forecast("tweedie")) / 2, rel=1e-12)


def test_an_unknown_objective_is_named(chain):
    recipe = chain.recipe.model_copy(update={"params": chain.recipe.params | {"objective": "squared+huber"}})
    with pytest.raises(ValueError, match="objective huber is unknown; there are tweedie, poisson"):
        train_until(recipe, chain.data, chain.tables, chain.last)


def test_the_share_objective_is_better_by_shares(chain):
    table = chain.tables[7]
    sold = table.y > 0
    errors = {}
    for objective in ("share", "squared"):
        recipe = chain.recipe.model_copy(update={"params": chain.recipe.params | {"objective": objective}})
        forecast = train_until(recipe, chain.data, chain.tables, chain.last).predict(7, table.rows)
        errors[objective] = rmspe(table.y[sold], forecast[sold])
    assert errors["share"] < 0.8 * errors["squared"]


def test_the_log_objective_takes_the_centre_that_the_measure_asks_for(chain):
    table, found = chain.tables[7], {}
    for centre in ("mean", "share"):
        params = chain.recipe.params | {"objective": "log", "centre": centre, "half_life": 0.0}
        recipe = chain.recipe.model_copy(update={"params": params})
        found[centre] = train_until(recipe, chain.data, chain.tables, chain.last).predict(7, table.rows).sum()
    assert found["mean"] == pytest.approx(table.y.sum(), rel=1e-4)
    assert found["share"] < 0.95 * found["mean"]


def test_the_factor_for_shares_makes_their_error_least():
    rng = np.random.default_rng(0)
    level = rng.gamma(5, 20, 5000)
    y = level * np.exp(0.3 * rng.normal(size=5000))
    parts = [
        centre_sums("share", level[part], level[part], y[part], np.ones(2500))
        for part in (slice(2500), slice(2500, None))
    ]
    factor = centre_factor(parts)
    # The mean of exp(s z) is exp(s² / 2), and so the factor of a median is exp(-3 s² / 2).
    assert factor == pytest.approx(np.exp(-1.5 * 0.3**2), rel=0.01)
    assert rmspe(y, level * factor) < min(rmspe(y, level * factor * k) for k in (0.98, 1.02))


def test_the_linear_model_leaves_out_what_it_has_hardly_seen():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (500, 3)).astype(np.float32)
    x[20:, 1] = np.nan
    level = np.full(500, 10.0)
    rows, y = Inputs(x, level, level, level), 10 * np.exp(0.1 * x[:, 0])
    model = LinearModel.train(
        Recipe(kind="linear", blocks=(7,)), ["a", "b", "c"], [LocalSample(7, rows, y, np.ones(500))]
    )
    assert model.blocks[7]["numeric"] == [0, 2]


@pytest.mark.parametrize("kind", ["linear", "seasonal_naive", "moving_average"])
def test_the_other_models_survive_saving(chain, tmp_path, kind):
    recipe = Recipe(kind=kind, blocks=BLOCKS)
    model = train_until(recipe, chain.data, chain.tables, chain.last)
    model.save(tmp_path)
    again = load_model(recipe, tmp_path)
    forecast = model.predict(7, chain.tables[7].rows)
    assert np.array_equal(forecast, again.predict(7, chain.tables[7].rows))
    assert np.isfinite(forecast).all()
    assert (forecast >= 0).all()


def test_the_linear_model_is_scikit_learns_ridge():
    """Our matrix product against sklearn's own pipeline on the same standardised columns."""
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (500, 3)).astype(np.float32)
    level = rng.gamma(3, 5, 500)
    y = level * np.exp(0.1 * (x[:, 0] - 3))
    rows = Inputs(x, level, level, level)
    recipe = Recipe(kind="linear", blocks=(7,))
    model = LinearModel.train(recipe, ["a", "b", "c"], [LocalSample(7, rows, y, np.ones(500))])
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    ridge = Ridge(alpha=1.0).fit(scaled, np.log1p(y) - np.log1p(level))
    wanted = (np.exp(ridge.predict(scaled)) * (1 + level) - 1) * model.blocks[7]["smear"]
    assert model.predict(7, rows) == pytest.approx(wanted, rel=1e-9)


def test_an_unseen_category_and_missing_inputs_still_get_a_number(chain):
    rows = chain.tables[7].rows.take(np.arange(5))
    rows.x[:] = np.nan
    for recipe in (chain.recipe, Recipe(kind="linear", blocks=BLOCKS)):
        model = train_until(recipe, chain.data, chain.tables, chain.last)
        assert np.isfinite(model.predict(7, rows)).all()
