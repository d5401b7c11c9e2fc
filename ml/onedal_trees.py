"""Boosted trees for oneDAL, which walks many rows through them in half of XGBoost's time, and one in a twentieth.

It adds the leaves up as XGBoost does, in single precision and tree by tree. What it answers is compared with XGBoost
at the splits themselves before it is used. There are packages of it for x86-64 only: elsewhere XGBoost goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.models import BlockTrees, Model, Trees, XGBoostModel

PROVEN = 512  # rows on which both must agree
TOLERANCE = 2e-6  # of a sum of leaves, and of its size where that is more: two steps of single precision
Array = np.ndarray

log = logging.getLogger("ml.onedal_trees")


@dataclass(frozen=True)
class OneDalTrees(Trees):
    """Trees whose leaves are found and added up by oneDAL: ``walk`` does, and ``model`` is its own form of them."""

    walk: Any = None
    model: Any = None

    def leaves(self, x: Array) -> Array:
        found: Array = self.walk(fptype="float").compute(x, self.model).prediction.ravel()
        return found


class OneDalBlock(BlockTrees):
    """The trees of all objectives of one horizon block, without what a call costs elsewhere beside the trees."""

    def sums(self, x: Array) -> Sequence[Array]:
        return [member.leaves(x) for member in self.members]


def hastened_blocks(model: Model) -> dict[int, OneDalBlock]:
    """The blocks of a model that :func:`hastened` has translated; none of another."""
    found = {}
    for block, members in (model.blocks if isinstance(model, XGBoostModel) else {}).items():
        ours = [trees for trees in members if isinstance(trees, OneDalTrees)]
        if len(ours) < len(members):
            return {}
        found[block] = OneDalBlock(ours)
    return found


def hastened(model: Model) -> Model:
    """The same model, its trees for oneDAL; itself, with the reason in the log, where that is not to be had."""
    if not isinstance(model, XGBoostModel):
        return model
    try:
        blocks = {block: [_translated(trees) for trees in members] for block, members in model.blocks.items()}
    except ImportError:
        log.info("there is no oneDAL for this machine: many rows are answered by XGBoost")
        return model
    except Exception as error:  # whatever a builder or a runtime of another version brings: XGBoost goes on
        log.warning("many rows stay with XGBoost: %s: %s", type(error).__name__, error)
        return model
    return XGBoostModel(model.recipe, blocks)


def _translated(trees: Trees) -> Trees:
    from daal4py import gbt_regression_prediction

    plain = trees.plain()
    found = OneDalTrees(trees.objective, trees.booster, trees.smear, gbt_regression_prediction, _built(plain))
    x = rows_at_splits(plain)
    expected = trees.leaves(x)
    off = np.abs(found.leaves(x) - expected) / np.maximum(1, np.abs(expected))
    if not off.max() <= TOLERANCE:
        raise ValueError(f"oneDAL adds leaves up {off.max():.3g} off")
    return found


def _built(trees: Sequence[dict[str, Any]]) -> Any:
    from daal4py import gbt_reg_model_builder

    builder = gbt_reg_model_builder(n_features=_features(trees), n_iterations=len(trees))
    for tree in trees:
        _add(builder, tree)
    return builder.model(base_score=0.0)


def _add(builder: Any, tree: dict[str, Any]) -> None:
    """XGBoost goes left below the split, oneDAL up to it; where nothing is known, as ``default_left`` says."""
    number = builder.create_tree(len(tree["left_children"]))
    splits = np.array(tree["split_conditions"], np.float32)
    below = np.nextafter(splits, np.float32(-np.inf)).tolist()
    right = tree["right_children"]
    ids: dict[int, int] = {}
    columns = ("left_children", "split_indices", "default_left", "parents", "sum_hessian", "split_conditions")
    # A parent stands before its children.
    for place, (left, feature, default, parent, cover, leaf) in enumerate(zip(*map(tree.get, columns), strict=True)):
        node = {"tree_id": number, "cover": cover}
        if place:
            node |= {"parent_id": ids[parent], "position": int(right[parent] == place)}
        if left < 0:
            builder.add_leaf(response=leaf, **node)
        else:
            ids[place] = builder.add_split(
                feature_index=feature, feature_value=below[place], default_left=default, **node
            )


def _features(trees: Sequence[dict[str, Any]]) -> int:
    return max(int(tree["tree_param"]["num_feature"]) for tree in trees)


def rows_at_splits(trees: Sequence[dict[str, Any]], rows: int = PROVEN) -> Array:
    """Rows × features, float32: of every feature values at its splits, right below them and above, and none at all."""
    rng = np.random.default_rng(1)
    found = np.zeros((rows, _features(trees)), np.float32)
    told = [np.array(_splits(tree)).reshape(-1, 2) for tree in trees]
    feature, value = np.concatenate(told).T if told else np.zeros((2, 0))
    for column in np.unique(feature).astype(int):
        at = rng.choice(value[feature == column].astype(np.float32), rows)
        below, above = (np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf))
        found[:, column] = np.choose(rng.integers(0, 4, rows), [at, below, above, np.full_like(at, np.nan)])
    return found


def _splits(tree: dict[str, Any]) -> list[tuple[int, float]]:
    told = zip(tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True)
    return [(feature, value) for left, feature, value in told if left >= 0]
