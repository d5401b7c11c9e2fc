"""Why a forecast is what it is: contributions in units that add up to it, grouped to what a person understands.

A model explains itself as a *base* (the series' own level, in units) and *parts*: one per feature and a last one for
what it adds to every row (its constant, the correction of the mean, the cut at zero). Base plus parts is the forecast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

Array = np.ndarray
ROUNDING = 1e-3  # in log units: single-precision trees add up to 1e-5; more is no rounding but an error
SMALLEST = 1e-9  # ratio this near to 1: the logarithmic mean is the value itself
DRIVERS = 3
TELLING = 0.02  # a share of the forecast; what moves it by less is not worth a word

CONSTANT = "level"  # the group of what a model adds to every row
# First match wins. A regressor's own name comes before all of them, a feature that nothing matches is "other".
GROUPS: tuple[tuple[str, str], ...] = (
    (r"^shut_", "closures"),
    (r"^day_effect$", "day"),
    (r"holiday", "holiday"),
    (r"promot", "promotion"),
    (r"price|discount", "price"),
    (r"season_of_year|last_year|mean_year|month|year_|^week$|^day$|^ordinal|week_of", "season"),
    (r"weekday|lag_season|same_day", "weekday"),
    (r"trend|_long$|^r_lag|^r_mean_\d+$|since_", "trend"),
    (r"_code$|_size$", "series"),
    (r"level|mean|std|zero|age|median|quantile|ewm|share|max|min", "level"),
)


def in_units(start: Array, end: Array, log_parts: Array) -> Array:
    """Split ``end - start`` along logarithmic parts, exactly.

    The additive logarithmic mean Divisia decomposition: part i gets ``L(end, start) * log_parts_i`` with the
    logarithmic mean ``L(a, b) = (a - b) / (ln a - ln b)``. It is perfect (nothing is left over), treats all parts
    alike whatever their order, and a part of 0 gets 0 (Ang 2004, "Decomposition analysis for policymaking in energy:
    which is the preferred method?", Energy Policy 32, 1131-1139; the formula as in Ang 2005, Energy Policy 33, eq. 5).

    Parameters
    ----------
    start, end
        Rows; positive, in units.
    log_parts
        Rows × parts; each row adds up to ``ln(end / start)`` but for rounding, which is spread by size.

    Raises
    ------
    ArithmeticError
        The parts of a row do not add up: they explain another forecast than this one.

    Examples
    --------
    >>> in_units(np.array([10.0]), np.array([20.0]), np.array([[np.log(4.0), -np.log(2.0)]])).round(6).tolist()
    [[20.0, -10.0]]
    """
    log_ratio = np.log(end / start)
    rest = log_ratio - log_parts.sum(axis=1)
    worst = float(np.abs(rest).max(initial=0.0))
    if not worst <= ROUNDING:
        raise ArithmeticError(f"Contributions miss their forecast by {worst:.3g} (log units), more than rounding.")
    size = np.abs(log_parts) + np.finfo(np.float64).tiny
    parts = log_parts + rest[:, None] * size / size.sum(axis=1, keepdims=True)
    near = np.abs(log_ratio) < SMALLEST
    mean = np.where(near, start, (end - start) / np.where(near, 1.0, log_ratio))
    return parts * mean[:, None]


def group_of(feature: str, regressors: Iterable[str] = ()) -> str:
    """The group of a feature: ``regressor:<name>``, or one of ``GROUPS``, or ``other``.

    Examples
    --------
    >>> group_of("r_weekday_4"), group_of("temperature", ["temperature"]), group_of("flavour_code", ["flavour"])
    ('weekday', 'regressor:temperature', 'regressor:flavour')
    """
    bare = feature.removesuffix("_code")
    own = max((name for name in regressors if name in (feature, bare)), key=len, default=None)
    if own is None:  # what is made of a regressor carries its name; attributes (store.…) only group others' sales
        made = (n for n in regressors if "." not in n and re.search(rf"(^|_){re.escape(n)}(_|$)", feature))
        own = max(made, key=len, default=None)
    if own is not None:
        return f"regressor:{own}"
    return next((group for pattern, group in GROUPS if re.search(pattern, feature)), "other")


def grouped(parts: Array, features: Sequence[str], regressors: Iterable[str] = ()) -> dict[str, Array]:
    """Parts of features added up by group; ``parts`` has one column more than ``features``, the constant."""
    regressors = tuple(regressors)
    groups = [*(group_of(name, regressors) for name in features), CONSTANT]
    if parts.shape[1] != len(groups):
        raise ValueError(f"{parts.shape[1]} parts for {len(features)} features and a constant")
    found: dict[str, Array] = {}
    for column, group in enumerate(groups):
        found[group] = found.get(group, 0.0) + parts[:, column]
    return found


def as_lists(groups: dict[str, Array]) -> pl.Series:
    """Per row a list of ``{group, units}``, the largest first."""
    names = list(groups)
    values = np.column_stack([groups[name] for name in names])
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    rows = [
        [{"group": names[i], "units": float(row[i])} for i in best] for row, best in zip(values, order, strict=True)
    ]
    kind = pl.List(pl.Struct({"group": pl.String, "units": pl.Float64}))
    return pl.Series("contributions", rows, dtype=kind)


def sentence(base: float, prediction: float, contributions: Sequence[dict[str, float | str]]) -> str:
    """The code of the one sentence that tells a forecast in short; its drivers are the first ``DRIVERS`` that tell.

    ``usual`` (nothing moves it), ``raised``, ``lowered`` (its drivers all point one way), ``mixed``.
    """
    told = telling(prediction, base, contributions)
    signs = {float(item["units"]) > 0 for item in told}
    if not told:
        return "usual"
    return "mixed" if len(signs) == 2 else "raised" if signs == {True} else "lowered"


def telling(
    prediction: float, base: float, contributions: Sequence[dict[str, float | str]]
) -> list[dict[str, float | str]]:
    """Up to ``DRIVERS`` contributions worth a word: not the level itself, and large enough beside forecast and base."""
    bound = TELLING * max(abs(prediction), abs(base))
    worth = [item for item in contributions if item["group"] != CONSTANT and abs(float(item["units"])) > bound]
    return worth[:DRIVERS]
