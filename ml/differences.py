"""How sure the difference between two plans is.

What happens on a day (the weather, a rival's offer) happens to both plans: a row's error, in terms of its expected
deviation, is the same under both, and mostly cancels. What remains of it is the deviation of a sum whose rows deviate
by the difference of their deviations (:mod:`ml.sums`). Added to it is how well the effect itself is known: a forecast
under a plan rests on the days of history that were like it, and the mean of n days has 1/n of the variance of one day;
of the difference of two means the variances add up (as in Welch's two-sample test). All days of a plan rest on the same
history, so that this error does not get smaller with more of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import norm

from ml.records import LEVELS
from ml.sums import Sums

SAME = 1e-9  # units; rows that differ by less are not planned otherwise


@dataclass(frozen=True)
class Difference:
    """Units that a plan brings beside the baseline; ``interval`` is None where history has no day like a planned one.

    ``changed``: rows that differ, ``unsupported``: those of them without a similar day, or with an input beyond what
    was ever seen.
    """

    units: float
    interval: dict[str, tuple[float, float]] | None
    changed: int
    unsupported: int


def difference(sums: Sums, baseline: pl.DataFrame, plan: pl.DataFrame) -> Difference:
    """Compare two forecasts of the same rows in the same order.

    Parameters
    ----------
    baseline, plan
        ``store, product, date, ahead, block, prediction`` and the support ``similar_days, similar_sibling_days,
        outside``: the result of :meth:`ml.forecasting.Forecaster.forecast`.
    """
    units = float((plan["prediction"] - baseline["prediction"]).sum())
    changed = ((plan["prediction"] - baseline["prediction"]).abs() > SAME).to_numpy()
    days = [_similar(rows)[changed] for rows in (baseline, plan)]
    unsupported = int((days[1] == 0).sum())
    if unsupported or not all(part.all() for part in days):
        return Difference(units, None, int(changed.sum()), unsupported)
    spread = [sums.deviation(rows) for rows in (baseline, plan)]
    known = sum((part[changed] / np.sqrt(n)).sum() ** 2 for part, n in zip(spread, days, strict=True))
    deviation = float(np.sqrt(sums.variance_of(plan, spread[1] - spread[0]) + known))
    return Difference(units, _interval(units, deviation), int(changed.sum()), 0)


def _similar(rows: pl.DataFrame) -> np.ndarray:
    """Days like each row; none where an input lies beyond what was seen, for those within 10 % say nothing of it."""
    days = pl.col("similar_days") + pl.col("similar_sibling_days")
    return rows.select(pl.when(pl.col("outside").list.len() == 0).then(days).otherwise(0)).to_series().to_numpy()


def _interval(units: float, deviation: float) -> dict[str, tuple[float, float]]:
    """Normal: a sum of many small errors."""
    reach = {str(level): deviation * float(norm.ppf(0.5 + level / 200)) for level in LEVELS}
    return {level: (units - far, units + far) for level, far in reach.items()}
