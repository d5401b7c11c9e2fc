"""A forecast request as rows: the next days of the chosen series with what the person plans for them."""

from __future__ import annotations

import math

import polars as pl

from api.loading import Loaded
from api.rows import MAX_PRICE
from ml.cleaning import step
from ml.errors import InputError, TooLarge
from ml.records import ForecastRequest, Override, ScenarioPlan, Variant

MAX_ROWS = 20_000


def planned_rows(loaded: Loaded, asked: ForecastRequest) -> pl.DataFrame:
    """Rows for the forecaster; raises InputError for unknown series and impossible plans, TooLarge."""
    for index, override in enumerate(asked.overrides, 1):
        _refuse_impossible(index, override)
    _refuse_unknown("stores", asked.stores, loaded.stores)
    _refuse_unknown("products", asked.products, loaded.products)
    rows = loaded.forecaster.next_days(list(asked.stores), list(asked.products), asked.horizon)
    if rows.is_empty():
        raise InputError("None of these series is sold now.", field="stores")
    if rows.height > MAX_ROWS:
        raise TooLarge(f"These are {rows.height:,} rows, at most {MAX_ROWS:,}: choose stores, products or fewer days.")
    for override in asked.overrides:
        rows = _applied(rows, override)
    return rows


def variant_rows(loaded: Loaded, plan: ScenarioPlan, variant: Variant) -> pl.DataFrame:
    """The days of one variant; what is not planned is left to what is known. Raises as :func:`planned_rows`."""
    for index, override in enumerate(variant.days, 1):
        _refuse_impossible(index, override)
    _refuse_unknown("stores", (plan.store,), loaded.stores)
    _refuse_unknown("products", (plan.product,), loaded.products)
    one = step(loaded.forecaster.frequency)
    dates = [plan.date_from + one * k for k in range(plan.periods)]
    if dates[-1] > loaded.last_date:
        raise InputError(f"The last day that can be answered is {loaded.last_date}.", field="periods")
    empty = {name: pl.lit(None, pl.Float64).alias(name) for name in ("price", "promotion")}
    rows = pl.DataFrame({"date": dates}).with_columns(
        *empty.values(), store=pl.lit(plan.store), product=pl.lit(plan.product)
    )
    for override in variant.days:
        rows = _applied(rows, override)
    return rows


def _refuse_unknown(field: str, asked: tuple[str, ...], known: frozenset[str]) -> None:
    unknown = sum(name not in known for name in asked)
    if unknown:
        raise InputError(f"{unknown} of the {len(asked)} {field} are not in the data: see /v1/catalog.", field=field)


def _refuse_impossible(index: int, override: Override) -> None:
    price, promotion = override.price, override.promotion
    if price is not None and not (math.isfinite(price) and 0 < price <= MAX_PRICE):
        raise InputError(f"price must be above 0 and at most {MAX_PRICE:,.0f}.", field="overrides.price", row=index)
    if promotion is not None and not 0 <= promotion <= 1:
        raise InputError("promotion is 0 or 1, or a share between them.", field="overrides.promotion", row=index)


def _applied(rows: pl.DataFrame, override: Override) -> pl.DataFrame:
    """The override on the rows that it means; a later one wins. What the model does not use is left aside."""
    keys = [(name, getattr(override, name)) for name in ("date", "store", "product")]
    mine = pl.all_horizontal(pl.lit(True), *(pl.col(name) == value for name, value in keys if value is not None))
    planned = {name: getattr(override, name) for name in ("price", "promotion") if name in rows.columns}
    return rows.with_columns(
        pl.when(mine).then(pl.lit(value, pl.Float64)).otherwise(pl.col(name)).alias(name)
        for name, value in planned.items()
        if value is not None
    )
