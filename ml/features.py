"""The one implementation of features, for training, backtest and serving.

A *history feature* of a row at period t under an offset H uses sales up to t - H only. A model for the horizons
1..H may therefore use it for every row it forecasts, whatever the origin, and nothing can leak: not the period itself,
nor anything after the origin. A *known feature* is pointwise: calendar, price, promotion, regressors of the row itself
beside history features of the same row. Serving computes the first once per origin and the second per request.

All windows count periods (days or weeks) and skip unknown and closed ones. Features named ``r_…`` are shares of the
series' ``level``, so that large and small series teach each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.calendar import holiday_distance
from ml.records import Frequency

SERIES = ["store", "product"]
KEY = ["store", "product", "date"]
CATEGORICAL = ("store_code", "product_code")


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


WINDOWS: dict[Frequency, Windows] = {
    "D": Windows(7, (7, 14, 56), 28, 112, 364, (4, 8, 26), 420),
    "W": Windows(1, (2, 4, 13), 8, 26, 52, (), 72),
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
        )


def closed_mask(columns: Columns) -> pl.Expr:
    """Rows on which nothing is ever sold (a shop that is shut)."""
    mask = pl.lit(False)
    for name, value in columns.closed_when:
        mask = mask | (pl.col(name) == value).fill_null(False)
    return mask


def history_features(panel: pl.DataFrame, offset: int, frequency: Frequency, columns: Columns) -> pl.DataFrame:
    """Features from sales up to ``offset`` periods before each row.

    Parameters
    ----------
    panel
        Regular panel (a row for each period of each series) sorted by store, product, date; sales may be null.
    offset
        Periods between the newest sale used and the row; a model for horizons 1..offset may use the result.

    Returns
    -------
    Frame with ``store, product, date`` of every panel row, ``level``, ``seasonal_naive``, ``moving_average`` in units
    and the ``r_…`` shares, in Float64 and in the order of the panel. ``level`` is null where nothing is known yet.
    """
    w = WINDOWS[frequency]
    base = _base(panel, columns)
    base = base.with_columns(_window_columns(offset, w, columns))
    if w.same_season:
        base = base.with_columns(_same_weekday(offset, w))
    base = _with_siblings(base, offset, w)
    base = base.with_columns(level=pl.coalesce("mean_level", "mean_long", "product_level", "store_level", "all_level"))
    base = base.with_columns(pl.col("level").clip(lower_bound=0.01))
    return base.select(*KEY, *_history_outputs(w, columns))


def _base(panel: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Series ids instead of names (windows over integers are several times faster) and ``y`` without closed days."""
    wanted = [*KEY, *(["price"] if columns.price else []), *(["promotion"] if columns.promotion else [])]
    y = pl.when(closed_mask(columns)).then(None).otherwise(pl.col("sales")).cast(pl.Float64)
    base = panel.select(*wanted, y.alias("y"))
    changed = pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in SERIES)
    base = base.with_columns(changed.fill_null(False).cast(pl.UInt32).cum_sum().alias("sid"))
    return base.with_columns(t=pl.int_range(pl.len(), dtype=pl.Int32).over("sid"))


def _rolling(values: pl.Expr, offset: int, window: int) -> pl.Expr:
    return values.shift(offset).rolling_mean(window, min_samples=1).over("sid")


def _window_columns(offset: int, w: Windows, columns: Columns) -> list[pl.Expr]:
    y = pl.col("y")
    sold = pl.when(y > 0).then(pl.col("t"))
    season_lag = -(-offset // w.season) * w.season if w.season > 1 else w.year
    found = [_rolling(y, offset, n).alias(f"mean_{n}") for n in w.means]
    found += [
        _rolling(y, offset, w.level).alias("mean_level"),
        _rolling(y, offset, w.long).alias("mean_long"),
        _rolling(y, offset, w.year).alias("mean_year"),
        _rolling((y == 0).cast(pl.Float64), offset, w.level).alias("zero_share"),
        y.shift(offset).rolling_std(w.level, min_samples=4).over("sid").alias("std_level"),
        y.shift(offset).over("sid").alias("lag"),
        y.shift(season_lag).over("sid").alias("lag_season"),
        _rolling(y, max(w.year - 3, offset), 7 if w.season > 1 else 3).alias("mean_last_year"),
        (pl.col("t") - sold.forward_fill().shift(offset).over("sid"))
        .clip(0, w.year)
        .fill_null(w.year)
        .alias("since_sale"),
    ]
    if columns.promotion:
        found += [
            _rolling(pl.when(pl.col("promotion") > 0).then(y), offset, w.long).alias("mean_promoted"),
            _rolling(pl.when(pl.col("promotion") == 0).then(y), offset, w.long).alias("mean_unpromoted"),
            _rolling(pl.col("promotion"), offset, w.level).alias("promotion_share"),
        ]
    if columns.price:
        price = pl.col("price")
        found += [
            _rolling(price, offset, w.long).alias("price_mean"),
            price.shift(offset).rolling_max(w.long, min_samples=1).over("sid").alias("price_max"),
        ]
    return found


def _same_weekday(offset: int, w: Windows) -> list[pl.Expr]:
    """Means over the last n same weekdays: within (series, weekday) a week is one step."""
    weekday = pl.col("date").dt.weekday()
    steps = -(-offset // w.season)
    return [
        pl.col("y").shift(steps).rolling_mean(n, min_samples=1).over("sid", weekday).alias(f"weekday_{n}")
        for n in w.same_season
    ]


def _with_siblings(base: pl.DataFrame, offset: int, w: Windows) -> pl.DataFrame:
    """Mean sales of the product over all stores, of the store over all products, of everything, and their trends."""
    for name, keys in (("product", ["product"]), ("store", ["store"]), ("all", [])):
        daily = base.group_by([*keys, "date"]).agg(pl.col("y").mean()).sort([*keys, "date"])
        short, level = (_sibling(n, offset, keys) for n in (w.means[0], w.level))
        daily = daily.select(*keys, "date", level.alias(f"{name}_level"), (short / level).alias(f"r_{name}_trend"))
        base = base.join(daily, on=[*keys, "date"], how="left", maintain_order="left")
    return base


def _sibling(window: int, offset: int, keys: list[str]) -> pl.Expr:
    # Days on which no series has a row are rare enough (a closed chain) that rows stand for periods here.
    mean = pl.col("y").shift(offset).rolling_mean(window, min_samples=1)
    return mean.over(keys) if keys else mean


def _shares(w: Windows, columns: Columns) -> list[str]:
    """The windows that become shares of the level, in the order of the model's inputs."""
    found = [f"mean_{n}" for n in w.means] + ["mean_long", "mean_year", "mean_last_year", "std_level", "lag"]
    found += [f"weekday_{n}" for n in w.same_season] + ["lag_season"]
    return found + (["mean_promoted", "mean_unpromoted"] if columns.promotion else [])


def _history_outputs(w: Windows, columns: Columns) -> list[pl.Expr]:
    level = pl.col("level")
    out = [level.log().alias("log_level"), *((pl.col(n) / level).alias(f"r_{n}") for n in _shares(w, columns))]
    out += [
        (pl.col("mean_last_year") / pl.col("mean_year")).alias("r_season_of_year"),
        pl.col("since_sale"),
        pl.col("zero_share"),
        pl.col("t").clip(0, w.year).alias("age"),  # serving keeps no more than its tail, so neither may training
        *(pl.col(f"r_{n}_trend") for n in ("product", "store", "all")),
        (pl.col("product_level") / pl.col("all_level")).alias("r_product_size"),
        (pl.col("store_level") / pl.col("all_level")).alias("r_store_size"),
    ]
    out += [pl.col("promotion_share")] if columns.promotion else []
    out += [pl.col("price_mean"), pl.col("price_max")] if columns.price else []
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
        added += [date.dt.weekday().cast(pl.Float32).alias("weekday"), date.dt.day().cast(pl.Float32).alias("day")]
    if columns.price:
        price = pl.col("price")
        added += [(price / pl.col("price_mean")).alias("r_price"), (price / pl.col("price_max")).alias("r_price_max")]
    if columns.promotion:
        # Never lower on promotion than off it, nor unknown: a constraint on it keeps what-if the right way round.
        plain = pl.col("r_mean_unpromoted").fill_null(1.0)
        promoted = pl.max_horizontal("r_mean_promoted", plain)
        added.append(pl.when(pl.col("promotion") > 0).then(promoted).otherwise(plain).alias("r_same_promotion"))
    rows = rows.with_columns(added)
    distance = holiday_distance(rows["date"].unique(), country)
    return rows.join(distance, on="date", how="left", maintain_order="left")


def feature_names(frequency: Frequency, columns: Columns) -> list[str]:
    """The model's inputs, in order."""
    w = WINDOWS[frequency]
    shares = _shares(w, columns) + (["same_promotion"] if columns.promotion else [])
    names = ["log_level", *(f"r_{n}" for n in shares), "r_season_of_year", "since_sale", "zero_share", "age"]
    names += ["r_product_trend", "r_store_trend", "r_all_trend", "r_product_size", "r_store_size"]
    names += ["promotion_share", "promotion"] if columns.promotion else []
    names += ["price", "r_price", "r_price_max"] if columns.price else []
    names += ["month", "week", "year_sin", "year_cos", "holiday", "days_to_holiday", "days_since_holiday"]
    names += ["weekday", "day"] if frequency == "D" else []
    coded = [f"{name}_code" for name in (*columns.text, *columns.static_text)]
    return [*names, *columns.regressors, *columns.static, *coded, *CATEGORICAL]


def to_matrix(rows: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Rows × features as C-ordered float32; null, infinite and unseen categories (-1) become NaN."""

    def column(name: str) -> pl.Expr:
        value = pl.col(name).cast(pl.Float32)
        if name.endswith("_code"):
            return pl.when(value < 0).then(None).otherwise(value).alias(name)
        return pl.when(value.is_infinite()).then(None).otherwise(value).alias(name)

    return rows.select(column(name) for name in names).to_numpy(order="c").astype(np.float32, copy=False)
