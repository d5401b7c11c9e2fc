"""How the days around a row are open: a shop sells out before it closes for weeks, and is missed after.

Closed days are known in advance, as prices are; unlike a price they tell something about the days beside them. Only
for daily data of which :func:`ml.cleaning.make_panel` has found what marks a closed day.
"""

from __future__ import annotations

import polars as pl

from ml.cleaning import series_number
from ml.records import Frequency

REACH = 14  # days to either side: two weeks tell a closure from the weekly day off
NAMES = ("shut_before", "shut_ahead", "shut_since", "shut_until")


def tells(closed_when: tuple[tuple[str, float], ...], frequency: Frequency) -> bool:
    """Whether the data marks closed days."""
    return bool(closed_when) and frequency == "D"


def closed_days(panel: pl.DataFrame, closed: pl.Expr) -> pl.DataFrame:
    """Add what is closed around each row.

    Parameters
    ----------
    panel
        A row for each day of each series, sorted by store, product and date.
    closed
        Whether nothing can be sold on a row's day.

    Returns
    -------
    The panel with ``shut_before`` and ``shut_ahead``, the shares of the 14 days before and after a row that are closed,
    and ``shut_since`` and ``shut_until``, the days to the nearest closed one, at most 14. Days outside the panel count
    for nothing.
    """
    shut, day = pl.col("_shut"), pl.col("_day")
    panel = panel.with_columns(
        _shut=closed.cast(pl.Float32), _day=pl.col("date").to_physical().cast(pl.Int32), _sid=series_number()
    )
    on = pl.when(shut > 0).then(day)
    found = {
        "shut_before": _share(shut),
        "shut_ahead": _share(shut.reverse()).reverse(),
        "shut_since": day - on.forward_fill().shift(1),
        "shut_until": on.backward_fill().shift(-1) - day,
    }
    limits = {"shut_since": REACH, "shut_until": REACH}
    added = [
        value.over("_sid").fill_null(limits.get(name, 0)).clip(upper_bound=REACH).cast(pl.Float32).alias(name)
        for name, value in found.items()
    ]
    return panel.with_columns(added).drop("_shut", "_day", "_sid")


def _share(shut: pl.Expr) -> pl.Expr:
    return shut.shift(1).rolling_mean(REACH, min_samples=1)
