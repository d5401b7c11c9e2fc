"""Public holidays by country."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import holidays
import polars as pl

from ml.errors import InputError


def public_holidays(years: range, country: str) -> set[dt.date]:
    """The national public holidays of a country.

    Parameters
    ----------
    years : range
        Calendar years.
    country : str
        ISO 3166 two-letter code, such as ``"ES"``.

    Raises
    ------
    InputError
        The ``holidays`` package does not know the country.

    Examples
    --------
    >>> dt.date(2025, 12, 25) in public_holidays(range(2025, 2026), "ES")
    True
    """
    try:
        return set(holidays.country_holidays(country.upper(), years=years))
    except NotImplementedError as error:
        raise InputError(
            f"Public holidays of country {country!r} are not known; use an ISO 3166 two-letter code such as ES or US.",
            field="country",
        ) from error


def holiday_flags(dates: pl.Series | pl.DataFrame, country: str) -> pl.DataFrame:
    """Say which days are national public holidays.

    Regional holidays are left out: a store's region is not known.

    Parameters
    ----------
    dates : polars.Series or polars.DataFrame
        Days (type Date), or a frame with a column ``date``; repeated and missing values are allowed.
    country : str
        ISO 3166 two-letter code.

    Returns
    -------
    polars.DataFrame
        One row per distinct day, in order: ``date`` (Date), ``holiday`` (Int8, 1 on a public holiday).

    Raises
    ------
    InputError
        Unknown country.

    Examples
    --------
    >>> holiday_flags(pl.Series([dt.date(2025, 12, 25), dt.date(2025, 12, 26)]), "ES")["holiday"].to_list()
    [1, 0]
    """
    days = (dates["date"] if isinstance(dates, pl.DataFrame) else dates).cast(pl.Date).drop_nulls().unique().sort()
    if days.is_empty():
        return pl.DataFrame(schema={"date": pl.Date, "holiday": pl.Int8})
    known = public_holidays(range(days[0].year, days[-1].year + 1), country)
    flags = days.is_in(pl.Series(sorted(known), dtype=pl.Date).implode()).cast(pl.Int8)
    return pl.DataFrame({"date": days, "holiday": flags})


FAR = 21  # days; further from a holiday it has no pull on sales


def holiday_distance(dates: pl.Series, country: str) -> pl.DataFrame:
    """Days to the next and since the last public holiday, capped at ``FAR``.

    Returns
    -------
    polars.DataFrame
        One row per distinct day, in order: ``date``, ``days_to_holiday``, ``days_since_holiday`` (Float32, 0 on the
        holiday itself).
    """
    days = dates.cast(pl.Date).drop_nulls().unique().sort().to_frame("date")
    if days.is_empty():
        return days.with_columns(days_to_holiday=pl.lit(0.0), days_since_holiday=pl.lit(0.0))
    years = range(days["date"][0].year - 1, days["date"][-1].year + 2)
    known = pl.DataFrame({"_holiday": sorted(public_holidays(years, country))}, schema={"_holiday": pl.Date})
    for name, forward in (("days_to_holiday", True), ("days_since_holiday", False)):
        strategy: Literal["forward", "backward"] = "forward" if forward else "backward"
        sign = 1 if forward else -1
        days = days.join_asof(known, left_on="date", right_on="_holiday", strategy=strategy, coalesce=False)
        gap = (pl.col("_holiday") - pl.col("date")).dt.total_days() * sign
        days = days.with_columns(gap.fill_null(FAR).clip(0, FAR).cast(pl.Float32).alias(name)).drop("_holiday")
    return days
