"""Prediction intervals from backtest residuals, split-conformal within horizon block and size of the forecast.

Mondrian conformal prediction (Vovk et al. 2003; Boström & Johansson 2020): residuals are grouped into bins of like
forecasts, because a forecast of 2 units errs differently from one of 200; the bounds are finite-sample corrected
empirical quantiles of the residual over ``scale = sqrt(forecast + 1)``, interpolated between bins.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.records import LEVELS

MIN_BIN = 200  # residuals in a bin: the 2.5 % quantile of fewer is a handful of rows
MAX_BINS = 12


def _scale(forecast: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(forecast, 0, None) + 1.0)


@dataclass(frozen=True)
class Intervals:
    """``blocks``: block -> centres of the bins (forecast, in units) and per tail probability the scaled residual."""

    blocks: dict[int, dict[str, list[float]]]

    @classmethod
    def fit(cls, forecast: np.ndarray, actual: np.ndarray, block: np.ndarray) -> Intervals:
        """Learn the bounds from held-out forecasts and what was sold, in units."""
        return cls({int(b): _fit_block(forecast[block == b], actual[block == b]) for b in np.unique(block)})

    def bounds(self, forecast: np.ndarray, block: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Level (80, 95) -> lower and upper bound per row, in units; the lower never below 0, the forecast inside."""
        low = {level: np.zeros(len(forecast)) for level in LEVELS}
        high = {level: np.zeros(len(forecast)) for level in LEVELS}
        for b in np.unique(block):
            mine = block == b
            table = self.blocks.get(int(b)) or self.blocks[max(self.blocks)]
            f = forecast[mine]
            for level in LEVELS:
                for side, target in ((f"low_{level}", low), (f"high_{level}", high)):
                    scaled = np.interp(np.log1p(f), np.log1p(table["centre"]), table[side])
                    target[level][mine] = f + scaled * _scale(f)
        return {lv: (np.clip(np.minimum(low[lv], forecast), 0, None), np.maximum(high[lv], forecast)) for lv in LEVELS}

    def to_json(self) -> str:
        return json.dumps({str(block): table for block, table in self.blocks.items()})

    @classmethod
    def from_json(cls, text: str) -> Intervals:
        raw: dict[str, Any] = json.loads(text)
        return cls({int(block): table for block, table in raw.items()})


def _fit_block(forecast: np.ndarray, actual: np.ndarray) -> dict[str, list[float]]:
    order = np.argsort(forecast, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // MIN_BIN, 1, MAX_BINS)))
    table: dict[str, list[float]] = {"centre": []}
    for members in bins:
        residual = (actual[members] - forecast[members]) / _scale(forecast[members])
        table["centre"].append(float(forecast[members].mean()))
        for level in LEVELS:
            tail = (1 - level / 100) / 2
            table.setdefault(f"low_{level}", []).append(_quantile(residual, tail))
            table.setdefault(f"high_{level}", []).append(_quantile(residual, 1 - tail))
    return table


def _quantile(values: np.ndarray, q: float) -> float:
    """Conformal quantile: the ceil((n + 1) q)-th smallest value above the median, mirrored below it."""
    n = len(values)
    if q >= 0.5:
        return float(np.sort(values)[min(int(np.ceil((n + 1) * q)), n) - 1])
    return -_quantile(-values, 1 - q)
