"""Trees for oneDAL answer what XGBoost answers, and are not used where they would not."""

from __future__ import annotations

import dataclasses
import logging
import sys

import numpy as np
import pytest
import xgboost as xgb

from ml.models import OBJECTIVES, Inputs, Trees, XGBoostModel, booster_params
from ml.onedal_trees import OneDalBlock, OneDalTrees, hastened, rows_at_splits
from ml.onnx_trees import OnnxTrees
from ml.records import Recipe
from ml.tuning import KNOWN_GOOD

ROWS, WIDTH, ROUNDS, DEPTH = 4000, 9, 60, 6


def trained(objective: str) -> Trees:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32).round(1)  # many rows lie exactly at a split
    x[rng.random(x.shape) < 0.1] = np.nan
    y = rng.poisson(np.exp(np.nan_to_num(x[:, 0]) - 0.5 * np.nan_to_num(x[:, 1]))).astype(np.float32)
    recipe = Recipe(kind="xgboost", params=KNOWN_GOOD | {"max_depth": DEPTH, "objective": objective})
    return Trees(
        objective,
        xgb.train(booster_params(recipe, objective), xgb.DMatrix(x, y), ROUNDS),
        1.1 if objective == "log" else 1.0,
    )


@pytest.fixture(scope="module", params=list(OBJECTIVES))
def trees(request) -> Trees:
    return trained(request.param)


def model_of(*members: Trees) -> XGBoostModel:
    return XGBoostModel(Recipe(kind="xgboost", params=KNOWN_GOOD), {7: list(members)})


def quickened(model: XGBoostModel) -> XGBoostModel:
    pytest.importorskip("daal4py", reason="NOT CHECKED: there is no oneDAL for this machine")
    found = hastened(model)
    assert isinstance(found, XGBoostModel)
    assert all(isinstance(member, OneDalTrees) for members in found.blocks.values() for member in members)
    return found


def inputs(x: np.ndarray) -> Inputs:
    level = np.linspace(0.01, 5000, len(x))
    return Inputs(x, level, level, level)


def test_the_same_forecasts(trees):
    fast = quickened(model_of(trees))
    rng = np.random.default_rng(8)
    at_splits = rows_at_splits(trees.plain(), 5000)
    drawn = rng.normal(size=(5000, WIDTH)).astype(np.float32)
    far = np.full((2, WIDTH), np.float32(3e38)) * np.array([[1], [-1]], np.float32)
    for x in (at_splits, drawn, far, np.full((1, WIDTH), np.nan, np.float32), drawn[:1]):
        np.testing.assert_allclose(fast.blocks[7][0].leaves(x), trees.leaves(x), rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(fast.predict(7, inputs(x)), model_of(trees).predict(7, inputs(x)), rtol=1e-5)


@pytest.mark.parametrize("kind", [OneDalBlock, OnnxTrees])
def test_one_row_is_answered_as_many_are(trees, kind):
    members = quickened(model_of(trees)).blocks[7]
    block = kind([members[0], members[0]])
    x = rows_at_splits(trees.plain(), 300)
    level = np.concatenate([[0.0, 1e-9, 1e9], np.linspace(0.01, 5000, 297)])
    with np.errstate(divide="ignore"):
        together = block.predict(x, level)
    singly = [block.predict_one(x[k : k + 1], level.item(k)) for k in range(len(x))]
    np.testing.assert_allclose(singly, together, rtol=1e-12)
    alone = trees.predict(inputs(x))
    np.testing.assert_allclose(block.predict(x, inputs(x).level), alone, rtol=1e-5)


def test_rows_of_a_proof_lie_at_the_splits(trees):
    x, plain = rows_at_splits(trees.plain(), 400), trees.plain()
    for column in range(WIDTH):
        splits = {
            np.float32(value)
            for tree in plain
            for left, feature, value in zip(
                tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
            )
            if left >= 0 and feature == column
        }
        values = x[:, column]
        assert np.isnan(values).sum() > 50
        assert sum(value in splits for value in values) > 50
        assert sum(np.nextafter(value, np.float32(np.inf)) in splits for value in values) > 50  # right below


def test_explanations_and_files_are_those_of_xgboost(trees, tmp_path):
    plain, fast = model_of(trees), quickened(model_of(trees))
    x = rows_at_splits(trees.plain(), 30)
    for one, other in zip(fast.contributions(7, inputs(x)), plain.contributions(7, inputs(x)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)
    for name, model in (("plain", plain), ("fast", fast)):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    told = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("plain", "fast")]
    assert told[0] == told[1]


def test_trees_of_one_leaf(trees):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    params = {"max_depth": 0, "max_leaves": 1, "grow_policy": "lossguide", "base_score": 0.0}
    stumps = xgb.train(params, xgb.DMatrix(x, x[:, 0]), 3)
    flat = dataclasses.replace(trees, booster=stumps)
    assert all(len(tree["left_children"]) == 1 for tree in flat.plain())
    fast = quickened(model_of(flat))
    np.testing.assert_allclose(fast.blocks[7][0].leaves(x), flat.leaves(x), rtol=2e-6, atol=2e-6)


def test_several_threads_at_once(trees):
    from concurrent.futures import ThreadPoolExecutor

    fast = quickened(model_of(trees)).blocks[7][0]
    x = rows_at_splits(trees.plain(), 3000)
    expected = fast.leaves(x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fast.leaves(x), range(40)))
    assert all(np.array_equal(one, expected) for one in found)


# ---------------------------------------------------------------- where XGBoost goes on


def test_trees_that_would_answer_something_else_are_not_used(trees, monkeypatch, caplog):
    pytest.importorskip("daal4py", reason="NOT CHECKED: there is no oneDAL for this machine")
    right = OneDalTrees.leaves
    monkeypatch.setattr(OneDalTrees, "leaves", lambda self, x: right(self, x) + np.float32(1e-4))
    model = model_of(trees)
    with caplog.at_level(logging.WARNING, "ml.onedal_trees"):
        assert hastened(model) is model
    assert "stay with XGBoost" in caplog.text


def test_a_split_translated_wrongly_is_noticed(trees, monkeypatch):
    """As if the value at a split went to the other side: only rows exactly there show it."""
    pytest.importorskip("daal4py", reason="NOT CHECKED: there is no oneDAL for this machine")
    monkeypatch.setattr("ml.onedal_trees.np.nextafter", lambda value, end: value)
    model = model_of(trees)
    assert hastened(model) is model


def test_without_the_package(trees, monkeypatch):
    monkeypatch.setitem(sys.modules, "daal4py", None)
    model = model_of(trees)
    assert hastened(model) is model


def test_boosters_that_are_no_sum_of_plain_trees(trees, caplog):
    x = np.random.default_rng(2).normal(size=(60, 2))
    other = model_of(dataclasses.replace(trees, booster=xgb.train({"booster": "gblinear"}, xgb.DMatrix(x, x[:, 0]), 2)))
    with caplog.at_level(logging.WARNING, "ml.onedal_trees"):
        assert hastened(other) is other
    assert "sum of trees" in caplog.text
