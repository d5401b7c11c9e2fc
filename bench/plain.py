"""What a competent polars user would write by hand: the features of one block, and nothing of the product around it.

The peer of ``bench.engine``: the same windows and the same columns out for daily data, straight down, all series at
once. Nothing is imported from the product but the calendar of holidays (a lookup of dates).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from ml.calendar import holiday_distance

SERIES = ["store", "product"]
YEAR, LEVEL, LONG = 364, 28, 112
MEANS = (3, 7, 14, 56)
WEEKDAYS = (4, 8, 26)
Matrix = tuple[np.ndarray, np.ndarray, np.ndarray]  # features float32, level, sales


def matrix(
    panel: pl.DataFrame,
    offset: int,
    names: list[str],
    country: str,
    *,
    wanted: pl.Expr,
    effects: Callable[[pl.DataFrame], pl.Series] | None = None,
) -> Matrix:
    """Features of the rows that are wanted and have a level, in the order of ``names``.

    ``effects``: of days; what has been learnt is looked up by the product's own code. Without it they are unknown.

    ``panel``: as the product's, sorted by store, product, date. Columns ``x_code`` are places in the alphabet of ``x``.
    """
    groups = [c for c in panel.columns if c.startswith("product.")][:2]
    alphabets = {n: _alphabet(panel[n.removesuffix("_code")]) for n in names if n.endswith("_code")}
    rows = windows(panel.with_columns(_wanted=wanted), offset, groups)
    rows = rows.filter(pl.col("_wanted"), pl.col("level").is_not_null())
    rows = pointwise(rows, country, alphabets)
    of_days = effects(rows) if effects else pl.lit(None, pl.Float32)
    rows = rows.with_columns(of_days.alias("day_effect")).select(*names, "level", "sales")
    value = pl.col(names).cast(pl.Float32)
    x = rows.select(pl.when(value.is_finite()).then(value)).to_numpy(order="c")  # XGBoost takes no infinities
    return x, rows["level"].to_numpy(), rows["sales"].to_numpy()


def windows(panel: pl.DataFrame, offset: int, groups: list[str]) -> pl.DataFrame:
    """Everything that looks back by at least ``offset`` days."""
    places = {name: pl.Enum(_alphabet(panel[name])) for name in SERIES}
    rows = panel.with_columns(
        pl.col("sales").cast(pl.Float64).alias("y"), *(pl.col(name).cast(kind) for name, kind in places.items())
    ).with_columns(t=pl.int_range(pl.len(), dtype=pl.Int32).over(SERIES))
    promoted = "promotion" in panel.columns and bool((panel["promotion"] > 0).any())
    rows = rows.with_columns(_of_series(offset, "price" in panel.columns, promoted))
    rows = rows.with_columns(_of_weekday(offset, promoted))
    keys = {"product": ["product"], "store": ["store"], "all": [], **{f"store_{g}": ["store", g] for g in groups}}
    for name, by in keys.items():
        rows = rows.join(_of_group(rows, name, by, offset), on=[*by, "date"], how="left", maintain_order="left")
    level = pl.coalesce("mean_level", "mean_long", "product_level", "store_level", "all_level").clip(0.01)
    rows = rows.with_columns(level=level)
    return rows.with_columns(_shares(rows.columns)).drop("y", "t")


def _back(value: pl.Expr, offset: int, days: int) -> pl.Expr:
    return value.shift(offset).rolling_mean(days, min_samples=1)


def _of_series(offset: int, price: bool, promoted: bool) -> list[pl.Expr]:
    y, t = pl.col("y"), pl.col("t")
    found = {f"mean_{n}": _back(y, offset, n) for n in MEANS}
    found |= {
        "mean_level": _back(y, offset, LEVEL),
        "mean_long": _back(y, offset, LONG),
        "mean_year": _back(y, offset, YEAR),
        "zero_share": _back((y == 0).cast(pl.Float64), offset, LEVEL),
        "std_level": y.shift(offset).rolling_std(LEVEL, min_samples=4),
        "lag": y.shift(offset),
        "lag_season": y.shift(-(-offset // 7) * 7),
        "mean_last_year": _back(y, max(YEAR - 3, offset), 7),
        "since_sale": (t - pl.when(y > 0).then(t).forward_fill().shift(offset)).clip(0, YEAR).fill_null(YEAR),
    }
    if promoted:
        found |= {
            "mean_promoted": _back(pl.when(pl.col("promotion") > 0).then(y), offset, LONG),
            "mean_unpromoted": _back(pl.when(pl.col("promotion") <= 0).then(y), offset, LONG),
            "promotion_share": _back(pl.col("promotion"), offset, LEVEL),
        }
    if price:
        past = pl.col("price").cast(pl.Float64).shift(offset)  # a mean of equal prices is that price
        found |= {"price_level": past.rolling_mean(LEVEL, min_samples=1), "price_last": past}
        found |= {
            "price_mean": past.rolling_mean(LONG, min_samples=1),
            "price_max": past.rolling_max(LONG, min_samples=1),
        }
    return [value.over(SERIES).alias(name) for name, value in found.items()]


def _of_weekday(offset: int, promoted: bool) -> list[pl.Expr]:
    y, weeks = pl.col("y"), -(-offset // 7)
    found = {f"weekday_{n}": _back(y, weeks, n) for n in WEEKDAYS}
    if promoted:
        found["weekday_promoted"] = _back(pl.when(pl.col("promotion") > 0).then(y), weeks, WEEKDAYS[-1])
        found["weekday_unpromoted"] = _back(pl.when(pl.col("promotion") <= 0).then(y), weeks, WEEKDAYS[-1])
    return [value.over(*SERIES, pl.col("date").dt.weekday()).alias(name) for name, value in found.items()]


def _of_group(rows: pl.DataFrame, name: str, by: list[str], offset: int) -> pl.DataFrame:
    """Level, trend, last year's and the weekday's share of the mean sales of a group."""
    daily = rows.group_by([*by, "date"]).agg(pl.col("y").mean()).sort([*by, "date"])

    def over(value: pl.Expr, *more: pl.Expr) -> pl.Expr:
        return value.over(*by, *more) if by or more else value

    y, level = pl.col("y"), pl.col(f"{name}_level")
    daily = daily.with_columns(over(_back(y, offset, LEVEL)).alias(f"{name}_level"))
    weekday = over(_back(y, -(-offset // 7), WEEKDAYS[1]), pl.col("date").dt.weekday())
    return daily.select(
        *by,
        "date",
        level,
        (over(_back(y, offset, 7)) / level).alias(f"r_{name}_trend"),
        (over(_back(y, offset, LONG)) / level).alias(f"r_{name}_long"),
        over((y / level).shift(YEAR)).alias(f"r_{name}_last_year"),
        (weekday / level).alias(f"r_{name}_weekday"),
    )


def _shares(present: list[str]) -> list[pl.Expr]:
    level = pl.col("level")
    names = [
        *(f"mean_{n}" for n in MEANS),
        "mean_long",
        "mean_year",
        "mean_last_year",
        "std_level",
        "lag",
        "lag_season",
    ]
    names += [f"weekday_{n}" for n in WEEKDAYS]
    names += ["mean_promoted", "mean_unpromoted", "weekday_promoted", "weekday_unpromoted"]
    return [
        level.log().alias("log_level"),
        *((pl.col(name) / level).alias(f"r_{name}") for name in names if name in present),
        (pl.col("mean_last_year") / pl.col("mean_year")).alias("r_season_of_year"),
        pl.col("t").clip(0, YEAR).alias("age"),
        (pl.col("product_level") / pl.col("all_level")).alias("r_product_size"),
        (pl.col("store_level") / pl.col("all_level")).alias("r_store_size"),
    ]


def pointwise(rows: pl.DataFrame, country: str, alphabets: dict[str, pl.Series]) -> pl.DataFrame:
    """Calendar, price and promotion of the row itself; codes of what is text."""
    date, angle = pl.col("date"), pl.col("date").dt.ordinal_day() * (2 * np.pi / 365.25)
    found = {
        "month": date.dt.month(),
        "week": date.dt.week(),
        "year_sin": angle.sin(),
        "year_cos": angle.cos(),
        "weekday": date.dt.weekday(),
        "day": date.dt.day(),
        "days_left_in_month": date.dt.days_in_month() - date.dt.day(),
    }
    if "price" in rows.columns:
        past = {"r_price": "mean", "r_price_max": "max", "r_price_level": "level", "r_price_last": "last"}
        found |= {name: pl.col("price") / pl.col(f"price_{kind}") for name, kind in past.items()}
    for name, kind in {"r_same_promotion": "mean", "r_same_weekday_promotion": "weekday"}.items():
        if f"r_{kind}_promoted" in rows.columns:
            without = pl.col(f"r_{kind}_unpromoted").fill_null(1.0)
            promoted = pl.max_horizontal(f"r_{kind}_promoted", without)
            found[name] = pl.when(pl.col("promotion") > 0).then(promoted).otherwise(without)
    codes = {name: _code(name.removesuffix("_code"), alphabet) for name, alphabet in alphabets.items()}
    rows = rows.with_columns(**found, **codes)
    return rows.join(holiday_distance(rows["date"].unique(), country), on="date", how="left", maintain_order="left")


def _alphabet(values: pl.Series) -> pl.Series:
    return values.unique().drop_nulls().cast(pl.String).sort()


def _code(name: str, alphabet: pl.Series) -> pl.Expr:
    return pl.col(name).cast(pl.String).cast(pl.Enum(alphabet)).to_physical()
