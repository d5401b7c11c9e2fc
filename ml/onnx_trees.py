"""Boosted trees for ONNX Runtime, which answers a few rows some twenty times sooner than XGBoost does.

XGBoost makes a view of every tree at each call, which is most of the time of one row; from about ``FEW`` rows on it is
the faster one. The trees are read from XGBoost's own JSON, and what comes out is compared with it before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from ml.models import BlockTrees, Trees

FEW = 100  # rows
ML_DOMAIN, ML_OPSET, OPSET, IR_VERSION = "ai.onnx.ml", 3, 17, 8
Array = np.ndarray


class OnnxTrees(BlockTrees):
    """The trees of all objectives of one horizon block as one graph."""

    def __init__(self, members: Sequence[Trees]) -> None:
        super().__init__(members)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a handful of rows is no work for two
        options.log_severity_level = 3
        model = _model([member.plain() for member in members])
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def sums(self, x: Array) -> Sequence[Array]:
        found: Array = self._session.run(None, {"x": x})[0]
        return list(found.T)


def _model(members: list[list[dict[str, Any]]]) -> bytes:
    features = max(int(tree["tree_param"]["num_feature"]) for trees in members for tree in trees)
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    node: dict[str, list[Any]] = {f"nodes_{name}": [] for name in (*names, "missing_value_tracks_true")}
    leaf: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    numbered = ((target, tree) for target, trees in enumerate(members) for tree in trees)
    for number, (target, tree) in enumerate(numbered):
        _add_nodes(node, number, tree)
        _add_leaves(leaf, number, target, tree)
    attributes: dict[str, Any] = node | leaf | {"n_targets": len(members), "domain": ML_DOMAIN}
    made = helper.make_node("TreeEnsembleRegressor", ["x"], ["sums"], **attributes)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
        for name, width in (("x", features), ("sums", len(members)))
    ]
    graph = helper.make_graph([made], "trees", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def _add_nodes(node: dict[str, list[Any]], number: int, tree: dict[str, Any]) -> None:
    """XGBoost goes left below the split; where nothing is known, as ``default_left`` says."""
    left, right = tree["left_children"], tree["right_children"]
    leaves = [child < 0 for child in left]
    node["nodes_treeids"] += [number] * len(left)
    node["nodes_nodeids"] += range(len(left))
    node["nodes_featureids"] += tree["split_indices"]
    node["nodes_values"] += map(float, tree["split_conditions"])
    node["nodes_modes"] += ["LEAF" if leaf else "BRANCH_LT" for leaf in leaves]
    node["nodes_truenodeids"] += [max(child, 0) for child in left]
    node["nodes_falsenodeids"] += [max(child, 0) for child in right]
    node["nodes_missing_value_tracks_true"] += map(int, tree["default_left"])


def _add_leaves(leaf: dict[str, list[Any]], number: int, target: int, tree: dict[str, Any]) -> None:
    places = [place for place, child in enumerate(tree["left_children"]) if child < 0]
    leaf["target_treeids"] += [number] * len(places)
    leaf["target_nodeids"] += places
    leaf["target_ids"] += [target] * len(places)
    leaf["target_weights"] += [float(tree["split_conditions"][place]) for place in places]
