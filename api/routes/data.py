"""The published sales."""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.auth import needs
from api.deps import From, Name, PublishedDep, ServicesDep, To
from api.published import Selection
from ml.errors import NoData, NotFound
from ml.records import Frequency, SalesPoint, SeriesInfo, Snapshot

router = APIRouter(prefix="/v1", tags=["data"])


class Catalog(BaseModel):
    """What can be asked for."""

    stores: tuple[str, ...]
    products: tuple[str, ...]
    series: tuple[SeriesInfo, ...]
    regressors: tuple[str, ...]
    date_to: dt.date | None
    horizon: int
    frequency: Frequency


class Points(BaseModel):
    points: list[SalesPoint]


@router.get("/catalog", dependencies=needs("viewer"), summary="Stores, products and series")
def catalog(services: ServicesDep) -> Catalog:
    """From the published data; without any (the object store is away since the start) from the champion."""
    published, loaded = services.published.current, services.champion.current
    if published is None and loaded is None:
        raise NoData
    if published is not None:
        series, known = published.series, published.snapshot
        facts: dict[str, Any] = known.model_dump(include={"regressors", "date_to", "horizon", "frequency"})
    else:
        assert loaded is not None
        forecaster = loaded.forecaster
        series = tuple(SeriesInfo(**row) for row in forecaster.catalog().iter_rows(named=True))
        facts = {"regressors": forecaster.manifest.regressors, "date_to": forecaster.origin}
        facts |= {"horizon": forecaster.horizon, "frequency": forecaster.frequency}
    return Catalog(
        stores=tuple(sorted({one.store for one in series})),
        products=tuple(sorted({one.product for one in series})),
        series=series,
        **facts,
    )


@router.get("/sales", dependencies=needs("viewer"), summary="Actual sales, summed over a selection")
def sales(
    published: PublishedDep,
    store: Name | None = None,
    product: Name | None = None,
    from_date: From = None,
    to_date: To = None,
) -> Points:
    """One point per period; `sales` is null where nothing is known, price and promotion are means of the selection."""
    return Points(points=published.require().points(Selection(store, product, from_date, to_date)))


@router.get("/snapshot", dependencies=needs("viewer"), summary="What is published")
def snapshot(published: PublishedDep) -> Snapshot:
    if published.current is None:
        raise NotFound("No sales data has been published yet: upload a file and run process_etl_sales_data.")
    return published.current.snapshot
