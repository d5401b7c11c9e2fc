"""The one implementation of features, for training, backtest and serving.

A *history feature* of a row at period t under an offset H uses sales up to t - H only. A model for the horizons
1..H may therefore use it for every row it forecasts, whatever the origin, and nothing can leak: not the period itself,
nor anything after the origin. A *known feature* is pointwise: calendar, price, promotion, regressors of the row itself
beside history features of the same row. Serving computes the first once per origin and the second per request.

All windows count periods (days or weeks) and skip unknown and closed ones. Features named ``r_…`` are shares of the
series' ``level``, so that large and small series teach each other.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import polars as pl

from ml import closures
from ml.calendar import holiday_distance
from ml.cleaning import begins, series_number
from ml.records import Frequency

SERIES = ["store", "product"]
KEY = ["store", "product", "date"]
CATEGORICAL = ("store_code", "product_code")
DAY_EFFECT = "day_effect"  # of daily data, see ml.dayeffects; weeks have no weekdays, distances tell their holidays
OF_YEAR = ("month", "week", "year_sin", "year_cos")
YEARLY_DAYS = 728  # of history, each week seen twice: in less, a week only tells trees how old a row is
GROUPS = 2  # product attributes whose sales per store become features (department, category)
PRICE_RATIOS = {
    "r_price": "price_mean",
    "r_price_max": "price_max",
    "r_price_level": "price_level",
    "r_price_last": "price_last",
}
Made = TypeVar("Made")
PARTS_AT_ONCE = 2
CHUNK_ROWS = 2_000_000  # windows of more rows than this are computed store by store: they need 20 times the memory


@dataclass(frozen=True)
class Windows:
    """Lengths in periods. ``season`` is the short cycle, ``year`` the long one, ``tail`` what serving must keep."""

    season: int
    means: tuple[int, ...]
    level: int
    long: int
    year: int
    same_season: tuple[int, ...]
    tail: int
    short: int


WINDOWS: dict[Frequency, Windows] = {
    "D": Windows(7, (3, 7, 14, 56), 28, 112, 364, (4, 8, 26), 420, 7),
    "W": Windows(1, (2, 4, 13), 8, 26, 52, (), 72, 2),
}


@dataclass(frozen=True)
class Columns:
    """Which optional inputs the data has; it decides the feature set, the same in training and serving."""

    price: bool
    promotion: bool
    regressors: tuple[str, ...]
    text: tuple[str, ...]
    closed_when: tuple[tuple[str, float], ...] = ()
    static: tuple[str, ...] = ()  # attributes of store, product or both: constant, so nobody has to plan them
    static_text: tuple[str, ...] = ()
    yearly: bool = True  # enough history to learn what a time of the year does

    @classmethod
    def of(
        cls,
        frame: pl.DataFrame,
        regressors: tuple[str, ...],
        closed_when: dict[str, float],
        static: tuple[str, ...] = (),
    ) -> Columns:
        def of_type(names: tuple[str, ...], numeric: bool) -> tuple[str, ...]:
            return tuple(name for name in names if frame.schema[name].is_numeric() == numeric)

        return cls(
            "price" in frame.columns,
            "promotion" in frame.columns and bool((frame["promotion"].fill_null(0) > 0).any()),
            of_type(regressors, True),
            of_type(regressors, False),
            tuple(sorted(closed_when.items())),
            of_type(static, True),
            of_type(static, False),
            _days(frame["date"]) >= YEARLY_DAYS,
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """Product attributes (names, not numbers) by which sales of a store are added up."""
        return tuple(name for name in self.static_text if name.startswith("product."))[:GROUPS]


def _days(dates: pl.Series) -> int:
    """From the first to the last."""
    first, last = dates.min(), dates.max()
    return (last - first).days if isinstance(first, dt.date) and isinstance(last, dt.date) else 0


def closed_mask(columns: Columns) -> pl.Expr:
    """Rows on which nothing is ever sold (a shop that is shut)."""
    mask = pl.lit(False)
    for name, value in columns.closed_when:
        mask = mask | (pl.col(name) == value).fill_null(False)
    return mask


def history_features(
    panel: pl.DataFrame,
    offset: int,
    frequency: Frequency,
    columns: Columns,
    groups: GroupSales | None = None,
    after: dt.date | None = None,
) -> pl.DataFrame:
    """Features from sales up to ``offset`` periods before each row.

    Parameters
    ----------
    panel
        Regular panel (a row for each period of each series) sorted by store, product, date; sales may be null.
    offset
        Periods between the newest sale used and the row; a model for horizons 1..offset may use the result.
    groups
        Of the whole panel, when ``panel`` is some series of it.
    after
        Only rows later than this are wanted: a large panel is then worked on store by store.

    Returns
    -------
    Frame with ``store, product, date`` of every row wanted, ``level``, ``seasonal_naive``, ``moving_average`` in units
    and the ``r_…`` shares, in Float32 and in the order of the panel. ``level`` is null where nothing is known yet.
    """
    w = WINDOWS[frequency]
    groups = groups or GroupSales.of(panel, frequency, columns)
    if after is not None and len(parts := by_store(panel)) > 1:
        groups.of_offset(offset)  # once, before the parts ask for them side by side
        return pl.concat(in_turn(lambda part: history_features(part, offset, frequency, columns, groups, after), parts))
    base = _base(panel, columns)
    base = base.with_columns(_window_columns(offset, w, columns))
    if w.same_season:
        base = base.with_columns(_same_weekday(offset, w, columns))
    if after is not None:
        base = base.filter(pl.col("date") > after)
    base = groups.join(base, offset)
    base = base.with_columns(level=pl.coalesce("mean_level", "mean_long", "product_level", "store_level", "all_level"))
    base = base.with_columns(pl.col("level").clip(lower_bound=0.01))
    return base.select(*KEY, *(e.cast(pl.Float32) for e in _history_outputs(w, columns)))


def by_store(panel: pl.DataFrame) -> list[pl.DataFrame]:
    """A panel of more than ``CHUNK_ROWS`` rows in parts, in its order; a smaller one as it is."""
    if panel.height <= CHUNK_ROWS or panel["store"][0] == panel["store"][-1]:
        return [panel]
    return panel.partition_by("store", maintain_order=True)  # sorted by store: the parts are slices of the panel


def in_turn(work: Callable[[pl.DataFrame], Made], parts: list[pl.DataFrame]) -> Iterator[Made]:
    """What is made of each part, in their order; two at once, for much of it keeps one core busy and no more."""
    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part") as pool:
        yield from pool.map(work, parts)


def _base(panel: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Series ids instead of names (windows over integers are several times faster) and ``y`` without closed days."""
    # Windows in double precision whatever the panel holds: a mean of equal prices must be that price, in training as in
    # serving, for trees split at a ratio of 1.
    inputs = [name for name in ("price", "promotion") if getattr(columns, name)]
    base = panel.select(*KEY, pl.col(inputs).cast(pl.Float64), *columns.groups, _open_sales(columns))
    base = base.with_columns(sid=series_number())
    # Rows of the future carry no attributes; those of their series are the same at all times.
    known = [pl.col(name).drop_nulls().first().over("sid") for name in columns.groups]
    return base.with_columns(*known, t=pl.int_range(pl.len(), dtype=pl.Int32).over("sid"))


def _open_sales(columns: Columns) -> pl.Expr:
    return pl.when(closed_mask(columns)).then(None).otherwise(pl.col("sales")).cast(pl.Float64).alias("y")


def _rolling(values: pl.Expr, offset: int, window: int) -> pl.Expr:
    return values.shift(offset).rolling_mean(window, min_samples=1).over("sid")


def _window_columns(offset: int, w: Windows, columns: Columns) -> list[pl.Expr]:
    y = pl.col("y")
    sold = pl.when(y > 0).then(pl.col("t"))
    found = [_rolling(y, offset, n).alias(f"mean_{n}") for n in w.means]
    found += [
        _rolling(y, offset, w.level).alias("mean_level"),
        _rolling(y, offset, w.long).alias("mean_long"),
        _rolling(y, offset, w.year).alias("mean_year"),
        _rolling((y == 0).cast(pl.Float64), offset, w.level).alias("zero_share"),
        y.shift(offset).rolling_std(w.level, min_samples=4).over("sid").alias("std_level"),
        y.shift(offset).over("sid").alias("lag"),
        y.shift(_season_lag(offset, w)).over("sid").alias("lag_season"),
        _rolling(y, max(w.year - 3, offset), 7 if w.season > 1 else 3).alias("mean_last_year"),
        (pl.col("t") - sold.forward_fill().shift(offset).over("sid"))
        .clip(0, w.year)
        .fill_null(w.year)
        .alias("since_sale"),
    ]
    return found + _promotion_columns(offset, w, columns) + _price_columns(offset, w, columns)


def _season_lag(offset: int, w: Windows) -> int:
    return -(-offset // w.season) * w.season if w.season > 1 else w.year


def _promotion_columns(offset: int, w: Windows, columns: Columns) -> list[pl.Expr]:
    if not columns.promotion:
        return []
    return [
        _rolling(_on_promotion(True), offset, w.long).alias("mean_promoted"),
        _rolling(_on_promotion(False), offset, w.long).alias("mean_unpromoted"),
        _rolling(pl.col("promotion"), offset, w.level).alias("promotion_share"),
    ]


def _on_promotion(promoted: bool) -> pl.Expr:
    return pl.when((pl.col("promotion") > 0) == promoted).then(pl.col("y"))


def _price_columns(offset: int, w: Windows, columns: Columns) -> list[pl.Expr]:
    if not columns.price:
        return []
    price = pl.col("price")
    return [
        _rolling(price, offset, w.level).alias("price_level"),
        _rolling(price, offset, w.long).alias("price_mean"),
        price.shift(offset).rolling_max(w.long, min_samples=1).over("sid").alias("price_max"),
        price.shift(offset).over("sid").alias("price_last"),
    ]


def _same_weekday(offset: int, w: Windows, columns: Columns) -> list[pl.Expr]:
    """Means over the last n same weekdays: within (series, weekday) a week is one step."""
    weekday = pl.col("date").dt.weekday()
    steps = -(-offset // w.season)

    def mean(values: pl.Expr, n: int) -> pl.Expr:
        return values.shift(steps).rolling_mean(n, min_samples=1).over("sid", weekday)

    found = [mean(pl.col("y"), n).alias(f"weekday_{n}") for n in w.same_season]
    if columns.promotion:
        longest = w.same_season[-1]
        found += [
            mean(_on_promotion(True), longest).alias("weekday_promoted"),
            mean(_on_promotion(False), longest).alias("weekday_unpromoted"),
        ]
    return found


@dataclass(frozen=True)
class GroupSales:
    """Mean sales per period of what a series belongs to: its product, its store, all, and its store's departments.

    ``daily``: name -> (keys, frame with the keys, ``date`` and mean sales ``y``). Small beside the panel, so a panel's
    series can be worked on in parts.
    """

    daily: dict[str, tuple[list[str], pl.DataFrame]]
    windows: Windows
    _found: dict[int, dict[str, pl.DataFrame]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, panel: pl.DataFrame, frequency: Frequency, columns: Columns) -> GroupSales:
        base = _base(panel, columns) if columns.groups else panel.select(*KEY, _open_sales(columns))
        # Names as numbers, in their order: grouping and sorting by text takes twice as long.
        text = {name: base.schema[name] for name in SERIES}
        names = panel.filter(begins()).select(pl.col(SERIES).cast(pl.String))
        base = base.with_columns(pl.col(name).cast(pl.Enum(names[name].unique().sort())) for name in SERIES)
        daily = {}
        for name, keys in _group_keys(columns).items():
            found = base.group_by([*keys, "date"]).agg(pl.col("y").mean()).sort([*keys, "date"])
            daily[name] = keys, found.with_columns(pl.col(key).cast(text[key]) for key in keys if key in text)
        return cls(daily, WINDOWS[frequency])

    def join(self, base: pl.DataFrame, offset: int) -> pl.DataFrame:
        """Add ``<name>_level`` (units) and shares of it: short and long trend, last year's, the weekday's."""
        for name, features in self.of_offset(offset).items():
            on = [*self.daily[name][0], "date"]
            base = base.join(features, on=on, how="left", maintain_order="left", nulls_equal=True)
        return base

    def of_offset(self, offset: int) -> dict[str, pl.DataFrame]:
        """Features of all groups; those of the last offset are kept, for the parts of a panel ask one after another."""
        found = self._found.get(offset)
        if found is None:
            found = {name: self._features(name, keys, daily, offset) for name, (keys, daily) in self.daily.items()}
            self._found.clear()
            self._found[offset] = found
        return found

    def _features(self, name: str, keys: list[str], daily: pl.DataFrame, offset: int) -> pl.DataFrame:
        # Days on which no series has a row are rare enough (a closed chain) that rows stand for periods here.
        w, level = self.windows, pl.col("_level")
        daily = daily.with_columns(_level=_over(_mean("y", offset, w.level), keys))
        short = _over(_mean("y", offset, w.short), keys)
        long = _over(_mean("y", offset, w.long), keys)
        found = [level.alias(f"{name}_level"), (short / level).alias(f"r_{name}_trend")]
        found.append((long / level).alias(f"r_{name}_long"))
        # What the forecast is after, a year ago: how the day compared with the level known so long before it.
        found.append(_over((pl.col("y") / level).shift(w.year), keys).alias(f"r_{name}_last_year"))
        if w.same_season:
            weekday = pl.col("date").dt.weekday()
            same = _mean("y", -(-offset // w.season), w.same_season[1]).over([*keys, weekday])
            found.append((same / level).alias(f"r_{name}_weekday"))
        return daily.select(*keys, "date", *found)


def _mean(name: str, offset: int, window: int) -> pl.Expr:
    return pl.col(name).shift(offset).rolling_mean(window, min_samples=1)


def _over(values: pl.Expr, keys: list[str]) -> pl.Expr:
    return values.over(keys) if keys else values


def _group_keys(columns: Columns) -> dict[str, list[str]]:
    """What sales are added up over: the name of each group, in the order of the model's inputs, and its keys."""
    departments = {f"store_{name}": ["store", name] for name in columns.groups}
    return {"product": ["product"], "store": ["store"], "all": [], **departments}


def _group_shares(w: Windows, columns: Columns) -> list[str]:
    kinds = ("trend", "long", "last_year", *(("weekday",) if w.same_season else ()))
    return [f"r_{name}_{kind}" for name in _group_keys(columns) for kind in kinds]


def _shares(w: Windows, columns: Columns) -> list[str]:
    """The windows that become shares of the level, in the order of the model's inputs."""
    found = [f"mean_{n}" for n in w.means] + ["mean_long", "mean_year", "mean_last_year", "std_level", "lag"]
    found += [f"weekday_{n}" for n in w.same_season] + ["lag_season"]
    found += ["mean_promoted", "mean_unpromoted"] if columns.promotion else []
    return found + (["weekday_promoted", "weekday_unpromoted"] if columns.promotion and w.same_season else [])


def _history_outputs(w: Windows, columns: Columns) -> list[pl.Expr]:
    level = pl.col("level")
    out = [level.log().alias("log_level"), *((pl.col(n) / level).alias(f"r_{n}") for n in _shares(w, columns))]
    out += [
        (pl.col("mean_last_year") / pl.col("mean_year")).alias("r_season_of_year"),
        pl.col("since_sale"),
        pl.col("zero_share"),
        pl.col("t").clip(0, w.year).alias("age"),  # serving keeps no more than its tail, so neither may training
        *(pl.col(name) for name in _group_shares(w, columns)),
        (pl.col("product_level") / pl.col("all_level")).alias("r_product_size"),
        (pl.col("store_level") / pl.col("all_level")).alias("r_store_size"),
    ]
    out += [pl.col("promotion_share")] if columns.promotion else []
    out += [pl.col(f"price_{n}") for n in ("level", "mean", "max", "last")] if columns.price else []
    naive = [f"weekday_{w.same_season[0]}"] if w.same_season else []
    out += [level, pl.coalesce("lag_season", *naive, "level").alias("seasonal_naive")]
    out += [pl.coalesce("mean_level", "level").alias("moving_average")]
    return out


def known_features(rows: pl.DataFrame, frequency: Frequency, columns: Columns, country: str) -> pl.DataFrame:
    """Add the pointwise features to rows that already carry their history features.

    ``rows``: ``date``, the inputs (price, promotion, holiday, regressors, category codes) and the columns of
    :func:`history_features`.
    """
    date = pl.col("date")
    added = [
        date.dt.month().cast(pl.Float32).alias("month"),
        date.dt.week().cast(pl.Float32).alias("week"),
        (date.dt.ordinal_day() * (2 * np.pi / 365.25)).sin().alias("year_sin"),
        (date.dt.ordinal_day() * (2 * np.pi / 365.25)).cos().alias("year_cos"),
    ]
    if frequency == "D":
        left = date.dt.days_in_month() - date.dt.day()  # wages are paid, and spent, around the end of a month
        named = {"weekday": date.dt.weekday(), "day": date.dt.day(), "days_left_in_month": left}
        added += [value.cast(pl.Float32).alias(name) for name, value in named.items()]
    if columns.price:
        added += [(pl.col("price") / pl.col(past)).alias(name) for name, past in PRICE_RATIOS.items()]
    if columns.promotion:
        added.append(_same_promotion("mean").alias("r_same_promotion"))
        if frequency == "D":
            added.append(_same_promotion("weekday").alias("r_same_weekday_promotion"))
    rows = rows.with_columns(added)
    distance = holiday_distance(rows["date"].unique(), country)
    return rows.join(distance, on="date", how="left", maintain_order="left")


def _same_promotion(windows: str) -> pl.Expr:
    """The share that the row's own promotion state had; the level's (1) where the history has none of it.

    Never lower on promotion than off it: a constraint on it keeps what-if the right way round.
    """
    plain = pl.col(f"r_{windows}_unpromoted").fill_null(1.0)
    promoted = pl.max_horizontal(f"r_{windows}_promoted", plain)
    return pl.when(pl.col("promotion") > 0).then(promoted).otherwise(plain)


def feature_names(frequency: Frequency, columns: Columns) -> list[str]:
    """The model's inputs, in order."""
    w = WINDOWS[frequency]
    names = ["log_level", *(f"r_{n}" for n in _shares(w, columns))]
    names += ["r_season_of_year", "since_sale", "zero_share", "age"]
    names += [*_group_shares(w, columns), "r_product_size", "r_store_size"]
    names += ["promotion_share", "promotion", "r_same_promotion"] if columns.promotion else []
    names += ["r_same_weekday_promotion"] if columns.promotion and frequency == "D" else []
    names += ["price", "r_price", "r_price_max", "r_price_level", "r_price_last"] if columns.price else []
    names += [*OF_YEAR, "holiday", "days_to_holiday", "days_since_holiday"]
    names += ["weekday", "day", "days_left_in_month", DAY_EFFECT] if frequency == "D" else []
    names += closures.NAMES if closures.tells(columns.closed_when, frequency) else []
    coded = [f"{name}_code" for name in (*columns.text, *columns.static_text)]
    if not columns.yearly:
        names = [name for name in names if name not in OF_YEAR and "last_year" not in name and "of_year" not in name]
    return [*names, *columns.regressors, *columns.static, *coded, *CATEGORICAL]


def to_matrix(rows: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Rows × features as C-ordered float32; null, infinite and unseen categories (-1) become NaN."""

    def column(name: str) -> pl.Expr:
        value = pl.col(name).cast(pl.Float32)
        if name.endswith("_code"):
            return pl.when(value < 0).then(None).otherwise(value).alias(name)
        return pl.when(value.is_infinite()).then(None).otherwise(value).alias(name)

    return rows.select(column(name) for name in names).to_numpy(order="c").astype(np.float32, copy=False)
