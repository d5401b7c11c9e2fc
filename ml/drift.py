"""How far new data has moved from what the champion learned from: per input, and for the sales themselves.

Sales and prices are taken beside the same series' level before each window, as the models see them: a large seller that
goes on being large is no drift. The reference is the same weeks a year before, so that a season is none either.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.stats import wasserstein_distance

from ml.cleaning import step
from ml.records import Drift, FeatureDrift, Frequency

YEAR = dt.timedelta(days=364)  # the same weekdays
RECENT = dt.timedelta(days=182)
LONGEST = dt.timedelta(days=91)
LEAST = {"D": 7, "W": 2}  # periods; fewer say nothing about how things are now
LEVEL = {"D": 28, "W": 8}  # periods that tell a series' level, as long before a row as the longest horizon is
LEAST_ROWS = 12  # how little they say is for the permutations to tell
BINS = 10
FEW_VALUES = 10  # up to so many distinct numbers are categories: a promotion flag, a size
MOST_CATEGORIES = 30
FLOOR = 1e-4  # of a share: an empty bin has no logarithm
PERMUTATIONS = 400
CHANCE = 0.95  # of the permutations must be passed: with four weeks beside four, no stricter one ever could
MODERATE, STRONG = 0.10, 0.25  # Siddiqi 2006, ch. 10: the usual reading of the index
# Prices stand still for weeks: a move of one cent empties bins and makes a large index. Cohen 1988: small and medium.
SMALL, MEDIUM = 0.2, 0.5
FEATURES = ("sales", "price", "promotion")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Learned:
    """What a champion learned from: its version, its data, and up to when."""

    version: str
    data_version: str
    panel: pl.DataFrame
    until: dt.date


@dataclass(frozen=True)
class Window:
    """Rows of a panel between two dates, both inclusive."""

    rows: pl.DataFrame
    date_from: dt.date
    date_to: dt.date


def measure_drift(learned: Learned, panel: pl.DataFrame, frequency: Frequency, regressors: tuple[str, ...]) -> Drift:
    """Compare the rows after ``learned.until`` with the champion's training data.

    Parameters
    ----------
    panel
        The regular panel of now, with ``date, store, product, sales`` and the inputs there are.
    regressors
        Columns that are known in advance; those that both panels have are compared.

    Returns
    -------
    A ``Drift``; without features, and with a note, where there is too little to compare.
    """
    about: dict[str, Any] = {"version": learned.version, "data_version": learned.data_version}
    newest: dt.date = panel["date"].max()  # type: ignore[assignment]
    one = step(frequency)
    first = max(learned.until + one, newest - LONGEST + one)
    periods = (newest - first) // one + 1
    if periods < LEAST[frequency]:
        note = f"{max(periods, 0)} new periods since the champion learned; at least {LEAST[frequency]} are needed."
        return Drift(**about, note=note)
    new = _window(panel, first, newest)
    kind, reference = _reference(learned.panel.filter(pl.col("date") <= learned.until), new)
    if min(new.rows.height, reference.rows.height) < LEAST_ROWS:
        note = f"{new.rows.height} new rows beside {reference.rows.height}; at least {LEAST_ROWS} of each are needed."
        return Drift(**about, note=note)
    before = _levelled(learned.panel, reference, frequency), _levelled(panel, new, frequency)
    return Drift(
        **about,
        reference=kind,
        reference_from=reference.date_from,
        reference_to=reference.date_to,
        date_from=new.date_from,
        date_to=new.date_to,
        rows_reference=reference.rows.height,
        rows=new.rows.height,
        features=tuple(_features(*before, regressors)),
    )


def _window(panel: pl.DataFrame, first: dt.date, last: dt.date) -> Window:
    return Window(panel.filter(pl.col("date").is_between(first, last) & pl.col("sales").is_not_null()), first, last)


def _reference(known: pl.DataFrame, new: Window) -> tuple[Literal["year_before", "recent"], Window]:
    """The same weeks a year before if the champion has learned from most of them, else its last half year."""
    year = _window(known, new.date_from - YEAR, new.date_to - YEAR)
    if year.rows.height >= max(LEAST_ROWS, new.rows.height // 2):
        return "year_before", year
    last: dt.date = known["date"].max()  # type: ignore[assignment]
    return "recent", _window(known, last - RECENT, last)


def _levelled(panel: pl.DataFrame, window: Window, frequency: Frequency) -> pl.DataFrame:
    """Rows of a window with sales and price beside the level that their series had a level's length before."""
    span = LEVEL[frequency]
    start = window.date_from - step(frequency) * 2 * span
    rows = panel.filter(pl.col("date").is_between(start, window.date_to)).sort("store", "product", "date")
    beside = [pl.col("sales").log1p() - _level("sales", span).log1p()]
    if "price" in panel.columns:
        beside.append((pl.col("price") / _level("price", span)).log().alias("price"))
    units = pl.col("sales").alias("_units")
    week = pl.col("date").dt.truncate("1w")
    rows = rows.with_columns(units, *beside, _week=week, _cluster=pl.struct("store", week))
    return rows.filter((pl.col("date") >= window.date_from) & pl.col("_units").is_not_null())


def _level(name: str, span: int) -> pl.Expr:
    """Mean over the ``span`` periods that end ``span`` periods before a row; the panel has a row for every period."""
    return pl.col(name).rolling_mean(span, min_samples=span // 2).shift(span).over("store", "product")


def _features(reference: pl.DataFrame, new: pl.DataFrame, regressors: tuple[str, ...]) -> Iterator[FeatureDrift]:
    for name in dict.fromkeys((*FEATURES, *regressors)):
        if name in reference.columns and name in new.columns:
            found = compared(name, reference, new)
            if found is not None:
                yield found
    for name, cluster in (("store", "_week"), ("product", "_cluster")):
        if new[name].n_unique() > 1:
            # A store-week holds one store: what chance does to the mix of stores is told by whole weeks.
            was, now = (rows.with_columns(_cluster=pl.col(cluster)) for rows in (reference, new))
            yield _mixed(name, was, now, "_units")


def compared(name: str, reference: pl.DataFrame, new: pl.DataFrame) -> FeatureDrift | None:
    """One column of two frames that have ``_cluster`` beside it; None where too few rows have a value."""
    if not reference.schema[name].is_numeric() or not new.schema[name].is_numeric():
        return _mixed(name, reference, new)
    finite = pl.col(name).is_not_null() & pl.col(name).is_finite()
    reference, new = reference.filter(finite), new.filter(finite)
    if min(reference.height, new.height) < LEAST_ROWS:
        return None
    if pl.concat([reference[name].cast(pl.Float64), new[name].cast(pl.Float64)]).n_unique() <= FEW_VALUES:
        return _mixed(name, reference, new)
    was, now = (part[name].cast(pl.Float64).to_numpy() for part in (reference, new))
    edges = np.unique(np.quantile(was, np.linspace(0, 1, BINS + 1)[1:-1]))
    codes = np.searchsorted(edges, np.concatenate([was, now]), side="left")
    psi, noise = _index(codes, np.ones(len(codes)), reference, new)
    # A value that never varied has no deviation; then any move is a whole one.
    distance = float(wasserstein_distance(was, now)) / (float(was.std()) or max(abs(float(was.mean())), 1e-9))
    return _feature(name, "numeric", psi, distance, noise)


def _mixed(name: str, reference: pl.DataFrame, new: pl.DataFrame, weight: str | None = None) -> FeatureDrift:
    """Shares of categories, of rows or of ``weight``; the rarest ones count as one."""
    both = pl.concat([part[name].cast(pl.String).fill_null("") for part in (reference, new)])
    kept = both.value_counts(sort=True).head(MOST_CATEGORIES)[name].sort().to_list()
    codes = both.replace_strict(kept, range(len(kept)), default=len(kept), return_dtype=pl.Int64).to_numpy()
    ones = np.ones(len(codes))
    weights = ones if weight is None else pl.concat([reference[weight], new[weight]]).cast(pl.Float64).to_numpy()
    psi, noise = _index(codes, weights, reference, new)
    cut = reference.height
    parts = (slice(cut), slice(cut, None))
    was, now = (_shares(np.bincount(codes[part], weights[part], len(kept) + 1)) for part in parts)
    return _feature(name, "category", psi, float(np.abs(was - now).sum() / 2), noise)


def _feature(
    name: str, kind: Literal["numeric", "category"], psi: float, distance: float, noise: float
) -> FeatureDrift:
    level: Literal["none", "moderate", "strong"] = "none"
    small, medium = (SMALL, MEDIUM) if kind == "numeric" else (MODERATE, STRONG)
    if psi > max(MODERATE, noise) and distance >= small:
        level = "strong" if psi >= STRONG and distance >= medium else "moderate"
    return FeatureDrift(feature=name, kind=kind, psi=psi, distance=distance, noise=noise, level=level)


def _index(codes: Array, weights: Array, reference: pl.DataFrame, new: pl.DataFrame) -> tuple[float, float]:
    """The index, and what chance alone reaches once in twenty times.

    Chance is a permutation of whole store-weeks: rows of one are far from independent, so that tests which take them
    as such (Yurdakul 2018) find drift in every large table.
    """
    clusters = pl.concat([reference["_cluster"], new["_cluster"]]).rank("dense").to_numpy().astype(np.int64) - 1
    is_new = np.arange(len(codes)) >= reference.height
    # A week that both windows share stays two clusters: one of each.
    _, clusters = np.unique(clusters * 2 + is_new, return_inverse=True)
    bins, count = int(codes.max()) + 1, int(clusters.max()) + 1
    table = np.bincount(clusters * bins + codes, weights, count * bins).reshape(count, bins)
    mine = np.zeros(count, bool)
    mine[clusters[is_new]] = True
    rng = np.random.default_rng(count)
    chance = [stability_index(*_split(table, rng.permutation(mine))) for _ in range(PERMUTATIONS)]
    return stability_index(*_split(table, mine)), float(np.quantile(chance, CHANCE))


def _split(table: Array, mine: Array) -> tuple[Array, Array]:
    part = table[mine].sum(axis=0)
    return table.sum(axis=0) - part, part


def _shares(counts: Array) -> Array:
    return counts / max(float(counts.sum()), 1e-12)


def stability_index(reference: Array, new: Array) -> float:
    """Population stability index of two histograms, Σ (q - p) ln(q / p); 0 is no change at all.

    Examples
    --------
    >>> round(stability_index(np.array([50, 50]), np.array([70, 30])), 3)
    0.169
    """
    p, q = (np.maximum(_shares(np.maximum(counts, 0)), FLOOR) for counts in (reference, new))
    return float(np.sum((q - p) * np.log(q / p)))
