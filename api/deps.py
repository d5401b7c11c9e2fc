"""The vocabulary of the routes: what a signature names is there, checked, when the route runs."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator

from api.champion import Champion
from api.errors import request_id_of
from api.published import PublishedFolder
from api.rows import ISO_DATE
from api.services import Services
from api.strict import clean
from ml.lake import Lake
from ml.registry import Registry
from ml.store import HistoryFilter, Store


async def _services(request: Request) -> Services:
    return request.app.state.services


def _ordinary(text: str) -> str:
    if not clean(text):
        raise ValueError("must not hold control characters")
    return text


def _iso_date(text: object) -> object:
    if isinstance(text, str) and not ISO_DATE.fullmatch(text):
        raise ValueError("must be a date as YYYY-MM-DD")  # pydantic would take a number for seconds since 1970
    return text


# ---------------------------------------------------------------- parts

ServicesDep = Annotated[Services, Depends(_services)]


async def _store(services: ServicesDep) -> Store:
    return services.store


async def _lake(services: ServicesDep) -> Lake:
    return services.lake


async def _champion(services: ServicesDep) -> Champion:
    return services.champion


async def _published(services: ServicesDep) -> PublishedFolder:
    return services.published


def _registry(services: ServicesDep) -> Registry:  # in a thread: its first use imports MLflow
    return services.registry


StoreDep = Annotated[Store, Depends(_store)]
LakeDep = Annotated[Lake, Depends(_lake)]
ChampionDep = Annotated[Champion, Depends(_champion)]
PublishedDep = Annotated[PublishedFolder, Depends(_published)]
RegistryDep = Annotated[Registry, Depends(_registry)]


async def _request_id(request: Request) -> str:
    return request_id_of(request)


RequestIdDep = Annotated[str, Depends(_request_id)]

# ---------------------------------------------------------------- words

Name = Annotated[str, Query(min_length=1, max_length=200), AfterValidator(_ordinary)]
MODEL = r"^(champion|challenger|[1-9][0-9]{0,8})$"
ModelName = Annotated[
    str,
    Query(alias="model", pattern=MODEL, description="Which model answers."),
]
Source = Annotated[
    str, Query(pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="Who asks; stands in the history, to filter by.")
]
Version = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,8}$", description="A version of the registry.")]
UploadId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
PredictionId = Annotated[int, Path(ge=1, le=2**63 - 1)]
DagId = Annotated[Literal["process_etl_sales_data", "retrain_sales_model"], Path()]
RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:+~-]{0,199}$")]
From = Annotated[
    dt.date | None, BeforeValidator(_iso_date), Query(alias="from", description="First predicted day, inclusive.")
]
To = Annotated[
    dt.date | None, BeforeValidator(_iso_date), Query(alias="to", description="Last predicted day, inclusive.")
]
MadeFrom = Annotated[
    dt.date | None, BeforeValidator(_iso_date), Query(description="First day of asking (UTC), inclusive.")
]
MadeTo = Annotated[
    dt.date | None, BeforeValidator(_iso_date), Query(description="Last day of asking (UTC), inclusive.")
]
Table = Annotated[Literal["csv", "xlsx"], Query(alias="format")]


async def history_filter(
    from_date: From = None,
    to_date: To = None,
    store: Name | None = None,
    product: Name | None = None,
    version: Annotated[str | None, Query(pattern=r"^[1-9][0-9]{0,8}$")] = None,
    source: Source | None = None,
    has_actual: Annotated[bool | None, Query(description="Only rows whose actual sales are (not) known.")] = None,
    made_from: MadeFrom = None,
    made_to: MadeTo = None,
    supported: Annotated[bool | None, Query(description="Only rows with (without) similar days in history.")] = None,
    outside: Annotated[
        Literal["80", "95"] | None, Query(description="Only rows whose actual sales lie outside this interval.")
    ] = None,
) -> HistoryFilter:
    """The filters of the history, as its store takes them."""
    return HistoryFilter(
        from_date, to_date, store, product, version, source, has_actual, made_from, made_to, supported, outside
    )


HistoryFilterDep = Annotated[HistoryFilter, Depends(history_filter)]
