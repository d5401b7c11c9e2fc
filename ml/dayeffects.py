"""What a day does to everything that is sold alike: weekday, day of the month, holidays, events, by group of series.

One product's sales are too noisy to show by how much a Mother's Day or a pay day moves them; those of a department or
a region are not. A ridge regression of the groups' daily sales tells it, additively, so that days with a new
combination (an event on a Monday at the end of the month) are answered too. Trees get the result as one feature.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.linear_model import Ridge

from ml.calendar import holiday_distance
from ml.cleaning import series_number
from ml.features import DAY_EFFECT, SERIES, Columns, closed_mask

WEEKDAY = "date.weekday"
SPAN = 29  # days of the centred mean that a day is compared with
LEAST_DAYS = 15  # of them that must be known
FOLDS = 5  # weeks in turn: a training row's effect comes from the other weeks
MEMBERS = 20  # series a value of a grouping column must have on average: fewer, and a group is no group
TOGETHER = 10  # the same for the combination of all grouping columns
MOST_VALUES = 64  # of a regressor that marks days
FEW_VALUES = 4  # of one that may also depend on the weekday
DAYWISE = 0.99  # share of a store's days on which a regressor that marks days is the same for all products
NEAR = 2  # days around a holiday with an effect of their own
STRENGTH = 30.0  # of the ridge penalty; 10 to 100 forecast M5 and Rossmann alike
SHARED = 4.0  # times less penalty on what all groups share: as good on M5 and Rossmann, and a new store gets more of it
LIMIT = 2.0  # of a log effect: e² = 7.4 times the usual
CHECKED_SERIES = 3000  # that tell whether a regressor marks days

Array = np.ndarray
Term = tuple[str, ...]


@dataclass(frozen=True)
class DayEffects:
    """Learnt log effects: the weight of every value of every term; what was not seen weighs nothing.

    ``groups``: columns of series, ``flags``: regressors that mark days; both as text within a term's values.
    """

    country: str
    groups: tuple[str, ...]
    flags: tuple[str, ...]
    terms: tuple[Term, ...]
    weights: tuple[dict[str, float], ...]

    def of(self, rows: pl.DataFrame) -> pl.Series:
        """Log effects of rows with ``date``, groups and flags; one float32 per row."""
        keys = ["date", *self.groups, *self.flags]
        days = rows.select(keys).unique(maintain_order=True)
        named = _terms_of(days, self.terms, self.country)
        found = np.zeros(days.height)
        for name, weights in zip(named.columns, self.weights, strict=True):
            known = named[name].replace_strict(list(weights), list(weights.values()), default=0.0)
            found += known.cast(pl.Float64).to_numpy()
        days = days.with_columns(pl.Series(DAY_EFFECT, np.clip(found, -LIMIT, LIMIT), dtype=pl.Float32))
        return rows.select(keys).join(days, on=keys, how="left", nulls_equal=True, maintain_order="left")[DAY_EFFECT]

    def to_json(self) -> str:
        facts = {"country": self.country, "groups": self.groups, "flags": self.flags}
        return json.dumps(facts | {"terms": self.terms, "weights": self.weights})

    @classmethod
    def from_json(cls, text: str) -> DayEffects:
        """Raises ValueError or KeyError for what :meth:`to_json` did not write."""
        facts = json.loads(text)
        terms = tuple(tuple(term) for term in facts["terms"])
        weights = tuple({str(k): float(v) for k, v in found.items()} for found in facts["weights"])
        if len(terms) != len(weights):
            raise ValueError(f"{len(terms)} terms of day effects and {len(weights)} sets of weights")
        return cls(facts["country"], tuple(facts["groups"]), tuple(facts["flags"]), terms, weights)


@dataclass
class Days:
    """The distinct days of a panel, by group, and what was learnt about them from each origin on."""

    panel: pl.DataFrame
    columns: Columns
    country: str
    groups: tuple[str, ...]
    flags: tuple[str, ...]
    cells: pl.DataFrame
    _seen: dict[dt.date, tuple[DayEffects, Array]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, panel: pl.DataFrame, columns: Columns, country: str) -> Days:
        groups, flags = grouping(panel, columns), marking(panel, columns)
        cells = panel.select("date", *groups, *flags).unique().sort("date", *groups, *flags)
        return cls(panel, columns, country, groups, flags, cells.with_row_index("_cell"))

    def told(self, only: dt.date | None = None) -> Days:
        """Without the panel, and with what is known at one origin (None: at none): no other can be asked for."""
        return replace(self, panel=self.panel.clear(), _seen={only: self._known_at(only)} if only else {})

    def numbered(self, rows: pl.DataFrame) -> Array:
        """The position in ``cells`` of each row of the panel."""
        keys = ["date", *self.groups, *self.flags]
        return (
            rows.select(keys)
            .join(self.cells, on=keys, how="left", nulls_equal=True, maintain_order="left")["_cell"]
            .to_numpy()
        )

    def effects(self, origin: dt.date) -> DayEffects:
        """As learnt from the days up to ``origin``."""
        return self._known_at(origin)[0]

    def at(self, origin: dt.date) -> Array:
        """Log effect of every cell as seen from ``origin``; of cells before it, as the other weeks tell it."""
        return self._known_at(origin)[1]

    def _known_at(self, origin: dt.date) -> tuple[DayEffects, Array]:
        if origin not in self._seen:
            effects, crossed = learn(self.panel, self.columns, self.country, self.groups, self.flags, origin)
            keys = ["date", *self.groups, *self.flags]
            cells = self.cells.join(crossed, on=keys, how="left", nulls_equal=True, maintain_order="left")
            found = pl.select(pl.coalesce(cells[DAY_EFFECT], effects.of(self.cells)))
            self._seen[origin] = effects, found.to_series().to_numpy()
        return self._seen[origin]


def grouping(panel: pl.DataFrame, columns: Columns) -> tuple[str, ...]:
    """Columns whose values are groups of many series: the store, attributes of stores and of products."""
    series = panel.select(*SERIES, *columns.static_text).unique(SERIES)
    of_stores = (name for name in columns.static_text if name.startswith("store."))
    of_products = (name for name in columns.static_text if name.startswith("product."))
    found: list[str] = []
    for name in ("store", *of_stores, "product", *of_products):
        values, together = series[name].n_unique(), series.select(*found, name).n_unique()
        if values > 1 and series.height >= values * MEMBERS and series.height >= together * TOGETHER:
            found.append(name)
    return tuple(found)


def marking(panel: pl.DataFrame, columns: Columns) -> tuple[str, ...]:
    """Regressors that mark days: few values, the same for all products of a store on a day.

    Price and promotion are not among them: a plan may change them, and trees hold them to their way.
    """
    asked = [name for name in (*columns.regressors, *columns.text) if name not in dict(columns.closed_when)]
    every = max(1, panel.select(SERIES).n_unique() // CHECKED_SERIES) if asked else 1
    some = panel.filter(~closed_mask(columns), series_number() % every == 0)
    found = []
    for name in asked:
        if 2 <= some[name].n_unique() <= MOST_VALUES:
            same = some.group_by("date", "store").agg(pl.col(name).n_unique() == 1)[name].mean()
            found += [name] if same is not None and float(same) >= DAYWISE else []  # type: ignore[arg-type]
    return tuple(found)


def learn(
    panel: pl.DataFrame,
    columns: Columns,
    country: str,
    groups: Sequence[str],
    flags: Sequence[str],
    origin: dt.date,
) -> tuple[DayEffects, pl.DataFrame]:
    """Ridge regression of the log of the groups' sales over what is usual around the day, on days up to ``origin``.

    Returns
    -------
    The effects, and for each day of each group (``date``, groups, flags) the log effect that the other weeks tell,
    as ``day_effect``: a day's own sales must not tell trees what it sold.
    """
    days = _sums(panel.filter(pl.col("date") <= origin), columns, groups, flags)
    if days.is_empty():
        return DayEffects(country, tuple(groups), tuple(flags), (), ()), days.select(
            "date", *groups, *flags, pl.lit(0.0, pl.Float32).alias(DAY_EFFECT)
        )
    terms = _terms(groups, flags, {name: days[name].n_unique() for name in flags})
    named = _terms_of(days, terms, country)
    design, values = _design(named)
    ease = np.where([set(term).isdisjoint(groups) for term in terms], np.sqrt(SHARED), 1.0)
    ease = np.repeat(ease, [len(v) for v in values])
    design = design @ sparse.diags(ease)
    target = np.clip(np.log(np.maximum(days["y"].to_numpy(), 1e-9) / days["usual"].to_numpy()), -LIMIT, LIMIT)
    weight = np.sqrt(days["usual"].to_numpy())
    weight = weight / weight.mean()
    fold = days["date"].to_physical().to_numpy() // 7 % FOLDS
    crossed = np.zeros(days.height)
    for k in range(FOLDS):
        mine = fold == k
        if mine.any() and not mine.all():
            crossed[mine] = design[mine] @ _ridge(design[~mine], target[~mine], weight[~mine])
    learnt = np.split(_ridge(design, target, weight) * ease, np.cumsum([len(v) for v in values])[:-1])
    weights = tuple(dict(zip(v, w.tolist(), strict=True)) for v, w in zip(values, learnt, strict=True))
    effects = DayEffects(country, tuple(groups), tuple(flags), terms, weights)
    crossed = np.clip(crossed, -LIMIT, LIMIT)
    return effects, days.select("date", *groups, *flags, pl.Series(DAY_EFFECT, crossed, dtype=pl.Float32))


def _sums(past: pl.DataFrame, columns: Columns, groups: Sequence[str], flags: Sequence[str]) -> pl.DataFrame:
    """Per day and group: sales ``y`` and, of the same series, what is usual around the day, in units."""
    open_sales = pl.when(closed_mask(columns)).then(None).otherwise(pl.col("sales")).cast(pl.Float32)
    usual = pl.col("y").rolling_mean(SPAN, center=True, min_samples=LEAST_DAYS).over("_sid")
    names = [name for name in groups if name not in SERIES]
    rows = past.select("date", *SERIES, *names, *flags, y=open_sales).with_columns(_sid=series_number())
    rows = rows.with_columns(usual=usual).filter(pl.col("y").is_not_null(), pl.col("usual") > 0)
    found = rows.group_by("date", *groups, *flags).agg(pl.col("y", "usual").cast(pl.Float64).sum())
    return found.sort("date", *groups, *flags)


def _terms(groups: Sequence[str], flags: Sequence[str], values: dict[str, int]) -> tuple[Term, ...]:
    """What effects depend on; the first is what holds always."""
    days = (WEEKDAY, "date.day", "date.left", "date.holiday", *flags)
    few = [name for name in flags if values[name] <= FEW_VALUES]
    found: list[Term] = [(), *((name,) for name in days), *itertools.product(days, groups)]
    if len(groups) > 1:
        found += [(name, *groups) for name in (WEEKDAY, *few)]
    found += [(WEEKDAY, name) for name in few] + [(WEEKDAY, name, g) for name in few for g in groups]
    return tuple([*found, *itertools.combinations(few, 2)])


def _terms_of(days: pl.DataFrame, terms: Sequence[Term], country: str) -> pl.DataFrame:
    """The value of each term on each day, as text."""
    date, left = pl.col("date"), pl.col("date").dt.days_in_month() - pl.col("date").dt.day()
    to, since = pl.col("days_to_holiday"), pl.col("days_since_holiday")
    far = pl.lit("far")
    before, after = ((-to).cast(pl.Int8).cast(pl.String), since.cast(pl.Int8).cast(pl.String))
    around = pl.when(to <= NEAR).then(before).when(since <= NEAR).then(after).otherwise(far)
    days = days.join(holiday_distance(days["date"], country), on="date", how="left", maintain_order="left")
    numbers = [name for name in days.columns if days.schema[name].is_numeric()]
    calendar = {
        WEEKDAY: date.dt.weekday(),
        "date.day": date.dt.day(),
        "date.left": pl.when(left <= NEAR + 1).then(left.cast(pl.String)).otherwise(far),
        "date.holiday": around,
    }
    named = days.with_columns(pl.col(numbers).cast(pl.Float64)).with_columns(**calendar)
    return named.select(_value(term).alias(str(k)) for k, term in enumerate(terms))


def _value(term: Term) -> pl.Expr:
    if not term:
        return pl.lit("")
    return pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in term], separator="|")


def _design(named: pl.DataFrame) -> tuple[sparse.csr_matrix, list[list[str]]]:
    """A column of ones and zeros for every value of every term, and the values."""
    columns, values, before = [], [], 0
    for text in named:
        found = text.unique().sort()
        columns.append(text.cast(pl.Enum(found)).to_physical().to_numpy().astype(np.int64) + before)
        values.append(found.to_list())
        before += len(found)
    where = np.column_stack(columns).ravel()
    ends = np.arange(0, len(where) + 1, len(columns))
    return sparse.csr_matrix((np.ones(len(where)), where, ends), shape=(named.height, before)), values


def _ridge(design: sparse.csr_matrix, target: Array, weight: Array) -> Array:
    ridge = Ridge(alpha=STRENGTH, solver="sparse_cg", fit_intercept=False, tol=1e-4, max_iter=300)
    return ridge.fit(design, target, sample_weight=weight).coef_
