from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from ml.models import Inputs, LinearModel, load_model
from ml.records import Recipe
from ml.training import train_until

BLOCKS = (7, 28)


@pytest.mark.parametrize("objective", ["tweedie", "poisson", "log"])
def test_trees_survive_saving_bit_for_bit(chain, tmp_path, objective):
    params = chain.recipe.params | {"objective": objective, "half_life": 0.0}
    recipe = chain.recipe.model_copy(update={"params": params})
    model = train_until(recipe, chain.data, chain.tables, chain.last)
    model.save(tmp_path)
    again = load_model(recipe, tmp_path)
    for block, table in chain.tables.items():
        assert np.array_equal(model.predict(block, table.rows), again.predict(block, table.rows))
        total = model.predict(block, table.rows).sum() / table.y.sum()
        assert 0.95 < total < 1.05


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
    model = LinearModel.train(recipe, ["a", "b", "c"], {7: (rows, y, np.ones(500))})
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
