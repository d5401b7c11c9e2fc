"""The models a bundle can hold: XGBoost, a linear model, and two that need no training.

All predict sales in units for rows that carry their features, one set of weights per horizon block, and save
themselves without pickle (XGBoost's own binary JSON, plain JSON).
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import xgboost as xgb
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ml.explain import ROUNDING, in_units
from ml.records import Recipe

Array = np.ndarray
DUMMY_FEATURES = ("weekday", "month", "store_code", "product_code")
KNOWN_SHARE = 0.25  # of the training rows on which the linear model wants an input to be known
MAX_DUMMIES = 60  # categories of one feature that the linear model may spend columns on
SMALL = 0.01
OBJECTIVES = {
    "tweedie": "reg:tweedie",
    "poisson": "count:poisson",
    "squared": "reg:squarederror",
    "log": "reg:squarederror",
    "share": "reg:squarederror",
}
LOG_LINK = ("tweedie", "poisson")
RATIO = ("squared", "share")
SMALL_SHARE = 0.1  # of the level: what sold less is weighted as if it had sold this, or one bad day would decide
# What derives from the row's own price or promotion: with these as the recipe's `monotone` says, demand cannot rise
# with price nor fall with promotion. Everything else of price and promotion is history and the same for any plan.
OWN_PRICE = ("price", "r_price", "r_price_max", "r_price_level", "r_price_last")
OWN_PROMOTION = ("promotion", "r_same_promotion", "r_same_weekday_promotion")
MONOTONE: dict[str, tuple[tuple[str, ...], ...]] = {
    "": (),
    "off": (),
    "price": (OWN_PRICE,),
    "price_promotion": (OWN_PRICE, OWN_PROMOTION),
}


@dataclass(frozen=True)
class Inputs:
    """Rows of one horizon block. ``x``: rows × features float32; the others: rows, in units."""

    x: Array
    level: Array
    seasonal_naive: Array
    moving_average: Array

    def take(self, mask: Array) -> Inputs:
        return Inputs(self.x[mask], self.level[mask], self.seasonal_naive[mask], self.moving_average[mask])


class Sample(Protocol):
    """What the model of one block learns from, wherever its rows lie."""

    @property
    def block(self) -> int: ...

    def booster(self, recipe: Recipe, objective: str, names: list[str]) -> xgb.Booster:
        """Trees trained on the rows."""
        ...

    def centred(self, trees: Trees, centre: str) -> float:
        """:func:`centre_factor` of the trees' forecasts of these rows."""
        ...

    def gathered(self) -> LocalSample:
        """All rows in this process."""
        ...


@dataclass(frozen=True)
class LocalSample:
    """A sample in this process. ``y``: sales in units; ``weight`` per row."""

    block: int
    rows: Inputs
    y: Array
    weight: Array

    def booster(self, recipe: Recipe, objective: str, names: list[str]) -> xgb.Booster:
        told = told_to_trees(objective, self)
        matrix = xgb.QuantileDMatrix(
            self.rows.x,
            label=told.label,
            weight=told.weight,
            base_margin=told.margin,
            feature_names=names,
            max_bin=int(recipe.params["max_bin"]),
        )
        return xgb.train(training_params(recipe, objective, names), matrix, rounds_of(recipe))

    def centred(self, trees: Trees, centre: str) -> float:
        return centre_factor([centre_sums(centre, trees.predict(self.rows), self.rows.level, self.y, self.weight)])

    def gathered(self) -> LocalSample:
        return self


class Model(Protocol):
    recipe: Recipe

    def predict(self, block: int, rows: Inputs) -> Array:
        """Expected sales in units, never negative."""
        ...

    def contributions(self, block: int, rows: Inputs) -> tuple[Array, Array]:
        """Base per row and parts (rows × features and a last column for what every row gets), in units.

        Base plus parts is the forecast. Both add up over models: an average of models has the average of their bases
        and parts.
        """
        ...

    def save(self, folder: Path) -> None: ...


@dataclass
class NaiveModel:
    """Seasonal naive (the same weekday of the last known week) or a moving average of the last weeks."""

    recipe: Recipe

    def predict(self, block: int, rows: Inputs) -> Array:
        values = rows.seasonal_naive if self.recipe.kind == "seasonal_naive" else rows.moving_average
        return np.clip(np.nan_to_num(values), 0, None)

    def contributions(self, block: int, rows: Inputs) -> tuple[Array, Array]:
        parts = np.zeros((len(rows.level), rows.x.shape[1] + 1))
        parts[:, -1] = self.predict(block, rows) - rows.level
        return rows.level, parts

    def save(self, folder: Path) -> None:
        """Nothing to keep: the recipe says it all."""


@dataclass(frozen=True)
class Trees:
    """Boosted trees of one block and one objective. ``smear``: factor that corrects the centre of the log objective.

    They learn the ratio of sales to the series' level. ``tweedie`` and ``poisson`` through a log link with log(level)
    as the base margin; ``squared`` the ratio itself by squared error weighted with the level, so that an error of ten
    units costs more than one of one; ``share`` the ratio weighted with 1 / y², so that shares of the truth are what
    counts; ``log`` log1p(y) - log1p(level) by squared error, corrected on the training rows to
    what the measure asks for (``centre`` of the recipe).
    """

    objective: str
    booster: xgb.Booster
    smear: float = 1.0

    @property
    def shift(self) -> float:
        return 1.0 if self.objective == "log" else 0.0

    def predict(self, rows: Inputs) -> Array:
        return self.units(self.leaves(rows.x), rows.level)

    def leaves(self, x: Array) -> Array:
        """The sum of each row's leaves, in single precision; ``x``: rows × features float32.

        Without the margin of log(level): the leaves alone are small numbers, whose sum in single precision is more
        exact than on top of the level's logarithm, and the same for whoever else adds them up (:mod:`ml.onnx_trees`,
        :mod:`ml.onedal_trees`).
        """
        found: Array = self.booster.inplace_predict(
            x,
            base_margin=np.zeros(len(x), np.float32),
            predict_type="margin",
            validate_features=False,
            missing=np.nan,
        )
        return found

    def plain(self) -> list[dict[str, Any]]:
        """Every tree in XGBoost's own words (its JSON).

        Raises
        ------
        ValueError
            The booster is not a sum of plain regression trees.
        """
        booster = orjson.loads(bytes(self.booster.save_raw("json")))["learner"]["gradient_booster"]
        if booster["name"] != "gbtree":
            raise ValueError(f"a {booster['name']} is no sum of trees")
        trees: list[dict[str, Any]] = booster["model"]["trees"]
        if any(any(tree["split_type"]) for tree in trees):
            raise ValueError("splits on sets of categories are not translated")
        return trees

    def units(self, leaves: Array, level: Array) -> Array:
        """Sales in units from the sum of the leaves."""
        raw = leaves.astype(np.float64)
        if self.objective in RATIO:
            return np.maximum(raw + 1, 0) * level
        start = np.log(level) if self.objective in LOG_LINK else 0.0
        ratio = np.exp(np.minimum(np.maximum(start + raw, -20), 20))
        if self.objective in LOG_LINK:
            return ratio
        return np.maximum(ratio * (1 + level) - 1, 0) * self.smear

    def unit(self, leaf: float, level: float) -> float:
        """As :meth:`units`, of one row."""
        if self.objective in RATIO:
            return max(leaf + 1, 0.0) * level
        start = (math.log(level) if level > 0 else -math.inf) if self.objective in LOG_LINK else 0.0
        ratio = math.exp(min(max(start + leaf, -20.0), 20.0))
        if self.objective in LOG_LINK:
            return ratio
        return max(ratio * (1 + level) - 1, 0.0) * self.smear

    def contributions(self, rows: Inputs) -> tuple[Array, Array]:
        """Exact TreeSHAP of the (log) ratio to the level (Lundberg et al. 2020), brought to units."""
        booster = self.booster
        matrix = xgb.DMatrix(rows.x, feature_names=booster.feature_names)
        # Without its margin the booster explains the ratio alone: log(level) is not the trees' merit.
        matrix.set_base_margin(np.zeros(len(rows.x), np.float32))
        parts = booster.predict(matrix, pred_contribs=True, validate_features=False).astype(np.float64)
        forecast = self.predict(rows)
        if self.objective in RATIO:
            parts *= rows.level[:, None]
            return rows.level, _with_rest(parts, rows.level + parts.sum(axis=1), forecast)
        start = np.log(rows.level) if self.objective in LOG_LINK else np.zeros(len(parts))
        held = np.clip(start + parts.sum(axis=1), -20, 20) - start
        return _shared_out(rows.level, parts, held, self.shift, forecast, self.smear)


class BlockTrees(ABC):
    """The trees of all objectives of one horizon block, for another runtime than XGBoost's."""

    def __init__(self, members: Sequence[Trees]) -> None:
        self.members = tuple(members)

    @abstractmethod
    def sums(self, x: Array) -> Sequence[Array]:
        """For each objective the sum of each row's leaves, in single precision; ``x``: rows × features float32."""

    def predict(self, x: Array, level: Array) -> Array:
        """Expected sales in units, as :meth:`XGBoostModel.predict` of the block."""
        total = np.zeros(len(x))
        for member, sums in zip(self.members, self.sums(x), strict=True):
            total += member.units(sums, level)
        return total / len(self.members)

    def predict_one(self, x: Array, level: float) -> float:
        """As :meth:`predict`, of one row."""
        told = zip(self.members, self.sums(x), strict=True)
        return sum(member.unit(sums.item(0), level) for member, sums in told) / len(self.members)


class XGBoostModel:
    """The mean of boosted trees with one or several objectives (``objective`` of the recipe: ``squared+tweedie``)."""

    def __init__(self, recipe: Recipe, blocks: dict[int, list[Trees]]) -> None:
        self.recipe, self.blocks = recipe, blocks

    @classmethod
    def train(cls, recipe: Recipe, names: list[str], data: Iterable[Sample]) -> XGBoostModel:
        return cls(recipe, {sample.block: _train_trees(recipe, names, sample) for sample in data})

    def predict(self, block: int, rows: Inputs) -> Array:
        if not len(rows.x):
            return np.zeros(0)
        return np.mean([trees.predict(rows) for trees in self.blocks[block]], axis=0)

    def contributions(self, block: int, rows: Inputs) -> tuple[Array, Array]:
        """Base per row and parts in units: the mean of what each objective's trees say."""
        if not len(rows.x):
            return rows.level, np.zeros((0, rows.x.shape[1] + 1))
        parts = [trees.contributions(rows)[1] for trees in self.blocks[block]]
        return rows.level, np.mean(parts, axis=0)

    def save(self, folder: Path) -> None:
        for block, members in self.blocks.items():
            for trees in members:
                trees.booster.save_model(folder / _trees_file(block, trees.objective))
        smear = {_trees_file(b, t.objective): t.smear for b, members in self.blocks.items() for t in members}
        (folder / "smear.json").write_text(json.dumps(smear))

    @classmethod
    def load(cls, recipe: Recipe, folder: Path) -> XGBoostModel:
        smear = json.loads((folder / "smear.json").read_text())

        def trees(block: int, objective: str) -> Trees:
            name = _trees_file(block, objective)
            return Trees(objective, xgb.Booster(model_file=folder / name), float(smear[name]))

        return cls(recipe, {b: [trees(b, o) for o in objectives(recipe)] for b in recipe.blocks})


def objectives(recipe: Recipe) -> list[str]:
    """The recipe's objectives; their forecasts are averaged.

    Raises
    ------
    ValueError
        An unknown one.
    """
    found = str(recipe.params["objective"]).split("+")
    if unknown := sorted(set(found) - set(OBJECTIVES)):
        raise ValueError(f"objective {', '.join(unknown)} is unknown; there are {', '.join(OBJECTIVES)}")
    return found


def _trees_file(block: int, objective: str) -> str:
    return f"block_{block:03d}_{objective}.ubj"


def _train_trees(recipe: Recipe, names: list[str], sample: Sample) -> list[Trees]:
    found = []
    for objective in objectives(recipe):
        trees = Trees(objective, sample.booster(recipe, objective, names))
        if objective == "log":
            smear = sample.centred(trees, str(recipe.params.get("centre", "mean")))
            trees = Trees(objective, trees.booster, smear)
        found.append(trees)
    return found


def centre_sums(centre: str, forecast: Array, level: Array, y: Array, weight: Array) -> tuple[float, float]:
    """What :func:`centre_factor` divides; of parts of the rows they may be added up."""
    if centre == "share":
        sold = np.where(y > 0, np.maximum(y, SMALL_SHARE * level), np.inf)
        ratio = forecast / sold
        return float((weight * ratio).sum()), float((weight * ratio**2).sum())
    return float((weight * y).sum()), float((weight * forecast).sum())


def centre_factor(sums: Iterable[tuple[float, float]]) -> float:
    """Factor that brings forecasts of the log, which are medians, to the centre that the measure asks for.

    ``mean``: the sums agree (smearing, Duan 1983). ``share``: the mean squared error in shares of the truth is least,
    at E[f/y] / E[(f/y)²]; too much costs more there than too little. ``sums``: of :func:`centre_sums`.
    """
    above, below = np.sum(list(sums), axis=0)
    return float(np.clip(above / max(below, SMALL), 0.8, 1.25))


def _shared_out(
    level: Array, log_parts: Array, held: Array, shift: float, forecast: Array, smear: float
) -> tuple[Array, Array]:
    """Log parts of ``(y + shift) / (level + shift)`` in units; what follows the exponential goes to the constant.

    ``held``: their sum as the model lets it count, which holds extreme ratios back.
    """
    total = log_parts.sum(axis=1)
    log_parts = log_parts * np.divide(held, total, out=np.ones_like(total), where=held != total)[:, None]
    unclipped = np.exp(held) * (level + shift) - shift
    return level, _with_rest(in_units(level + shift, unclipped + shift, log_parts), unclipped, forecast, smear)


def _with_rest(parts: Array, unclipped: Array, forecast: Array, smear: float = 1.0) -> Array:
    """Give the last column what the cut at zero and the correction of the mean have added; an error is not hidden."""
    if not np.allclose(np.clip(unclipped, 0, None) * smear, forecast, rtol=ROUNDING, atol=1e-4):
        raise ArithmeticError("The contributions of a row explain another forecast than the model's.")
    parts[:, -1] += forecast - unclipped
    return parts


@dataclass(frozen=True)
class Told:
    """What trees are told of each row: the label, its weight, and where they start from (on the link's scale)."""

    label: Array
    weight: Array
    margin: Array | None


def told_to_trees(objective: str, rows: LocalSample) -> Told:
    """Labels and weights of an objective, see :class:`Trees`."""
    # Codes as plain numbers: splits on sets of categories took up to three times as long. On the demo they forecast no
    # better (WAPE 0.3097 against 0.3108); on weekly sales of 77 stores with attributes they did (0.295 against 0.302).
    y, level, weight = rows.y, rows.rows.level, rows.weight
    label, margin = y, None
    if objective == "log":
        label = np.log1p(y) - np.log1p(level)
    elif objective == "squared":
        label, weight = y / level - 1, weight * level
    elif objective == "share":
        ratio = y / level
        label, weight = ratio - 1, weight * np.where(ratio > 0, np.clip(ratio, SMALL_SHARE, None) ** -2.0, 0.0)
    else:
        margin = np.log(level).astype(np.float32)
    return Told(label.astype(np.float32), weight.astype(np.float32), margin)


def rounds_of(recipe: Recipe) -> int:
    return int(recipe.params["rounds"])


def training_params(recipe: Recipe, objective: str, names: list[str]) -> dict[str, Any]:
    """The recipe with its constraints, in XGBoost's own words."""
    return booster_params(recipe, objective) | monotone_constraints(recipe, names)


def monotone_constraints(recipe: Recipe, names: list[str]) -> dict[str, Any]:
    """The recipe's ``monotone`` (``off``, ``price``, ``price_promotion``) as XGBoost's constraints per feature.

    Raises
    ------
    ValueError
        An unknown word.
    """
    asked = str(recipe.params.get("monotone", "off"))
    if asked not in MONOTONE:
        raise ValueError(f"monotone is one of {', '.join(filter(None, MONOTONE))}; this is {asked!r}")
    signs = {OWN_PRICE: -1, OWN_PROMOTION: 1}
    found = {name: signs[group] for group in MONOTONE[asked] for name in group if name in names}
    return {"monotone_constraints": found} if found else {}


def booster_params(recipe: Recipe, objective: str) -> dict[str, Any]:
    """The recipe in XGBoost's own words."""
    p = recipe.params
    found: dict[str, Any] = {
        "objective": OBJECTIVES[objective],
        "base_score": 1.0 if objective in LOG_LINK else 0.0,
        "eta": p["eta"],
        "max_depth": int(p["max_depth"]),
        "min_child_weight": p["min_child_weight"],
        "subsample": p["subsample"],
        "colsample_bynode": p["colsample"],
        "lambda": p["lambda"],
        "max_bin": int(p["max_bin"]),
        "tree_method": "hist",
        "seed": recipe.seed,
        "verbosity": 1,
    }
    if objective == "tweedie":
        found["tweedie_variance_power"] = p["tweedie_power"]
    if objective == "poisson":
        found["max_delta_step"] = 0.7  # XGBoost's default for Poisson, spelled out
    return found


class LinearModel:
    """Ridge regression of log1p(y) - log1p(level) on standardised features and dummies (scikit-learn).

    Means, scales and categories are those of the training rows. Kept as JSON: prediction is one matrix product.
    """

    def __init__(self, recipe: Recipe, blocks: dict[int, dict[str, Any]]) -> None:
        self.recipe, self.blocks = recipe, blocks

    @classmethod
    def train(cls, recipe: Recipe, names: list[str], data: Iterable[Sample]) -> LinearModel:
        blocks = {}
        for sample in data:
            found = sample.gathered()
            blocks[found.block] = _fit_ridge(recipe, names, found)
            fitted = cls(recipe, blocks).predict(found.block, found.rows)
            sums = centre_sums("mean", fitted, found.rows.level, found.y, found.weight)
            blocks[found.block]["smear"] = centre_factor([sums])
        return cls(recipe, blocks)

    def predict(self, block: int, rows: Inputs) -> Array:
        fit = self.blocks[block]
        log_ratio = _design(rows.x, fit) @ np.asarray(fit["coef"]) + fit["intercept"]
        units = np.exp(np.clip(log_ratio, -5, 5)) * (1 + rows.level) - 1
        return np.clip(units, 0, None) * fit["smear"]

    def contributions(self, block: int, rows: Inputs) -> tuple[Array, Array]:
        """Coefficient × standardised input of the log ratio to the level, brought to units."""
        fit = self.blocks[block]
        columns = [*fit["numeric"]]
        for index, values in zip(fit["dummies"], fit["categories"], strict=True):
            columns += [index] * len(values)
        products = _design(rows.x, fit) * np.asarray(fit["coef"])
        parts = np.zeros((len(rows.level), rows.x.shape[1] + 1))
        for column, index in enumerate(columns):
            parts[:, index] += products[:, column]
        parts[:, -1] = fit["intercept"]
        held = np.clip(parts.sum(axis=1), -5, 5)
        return _shared_out(rows.level, parts, held, 1.0, self.predict(block, rows), fit["smear"])

    def save(self, folder: Path) -> None:
        (folder / "linear.json").write_text(json.dumps({str(k): v for k, v in self.blocks.items()}))

    @classmethod
    def load(cls, recipe: Recipe, folder: Path) -> LinearModel:
        return cls(recipe, {int(k): v for k, v in json.loads((folder / "linear.json").read_text()).items()})


def _fit_ridge(recipe: Recipe, names: list[str], sample: LocalSample) -> dict[str, Any]:
    rows, y, weight = sample.rows, sample.y, sample.weight
    dummies = [i for i, name in enumerate(names) if name in DUMMY_FEATURES]
    dummies = [i for i in dummies if 1 < len(np.unique(rows.x[~np.isnan(rows.x[:, i]), i])) <= MAX_DUMMIES]
    coded = {i for i, name in enumerate(names) if name.endswith("_code")} | set(dummies)
    # A coefficient learned from a few rows (last year's sales, a year into the data) misleads all the others.
    known = 1 - np.isnan(rows.x).mean(axis=0)
    numeric = [i for i in range(len(names)) if i not in coded and known[i] >= KNOWN_SHARE]
    with np.errstate(invalid="ignore"):
        scaler = StandardScaler().fit(rows.x[:, numeric].astype(np.float64))
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder.fit(np.nan_to_num(rows.x[:, dummies], nan=-1)) if dummies else None
    fit: dict[str, Any] = {
        "numeric": numeric,
        "mean": np.nan_to_num(scaler.mean_).tolist(),
        "scale": np.nan_to_num(scaler.scale_, nan=1.0).tolist(),
        "dummies": dummies,
        "categories": [values.tolist() for values in encoder.categories_] if dummies else [],
        "smear": 1.0,
    }
    ridge = Ridge(alpha=float(recipe.params.get("alpha", 1.0)))
    ridge.fit(_design(rows.x, fit), np.log1p(y) - np.log1p(rows.level), sample_weight=weight)
    return fit | {"coef": ridge.coef_.tolist(), "intercept": float(ridge.intercept_)}


def _design(x: Array, fit: dict[str, Any]) -> Array:
    standard = (x[:, fit["numeric"]].astype(np.float64) - fit["mean"]) / fit["scale"]
    parts = [np.clip(np.nan_to_num(standard), -8, 8)]  # an input far outside the training rows must not explode
    for index, values in zip(fit["dummies"], fit["categories"], strict=True):
        parts.append((np.nan_to_num(x[:, [index]], nan=-1) == np.asarray(values)[None, :]).astype(np.float64))
    return np.hstack(parts)


def train_model(recipe: Recipe, names: list[str], data: Iterable[Sample]) -> Model:
    """Train any kind of model by its recipe; ``data`` is gone through once, a block at a time."""
    if recipe.kind == "xgboost":
        return XGBoostModel.train(recipe, names, data)
    if recipe.kind == "linear":
        return LinearModel.train(recipe, names, data)
    return NaiveModel(recipe)


def load_model(recipe: Recipe, folder: Path) -> Model:
    if recipe.kind == "xgboost":
        return XGBoostModel.load(recipe, folder)
    if recipe.kind == "linear":
        return LinearModel.load(recipe, folder)
    return NaiveModel(recipe)
