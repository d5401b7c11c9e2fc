"""Who did what, and when."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel

from api.auth import needs
from api.deps import From, Name, ServicesDep, To
from ml.audit import AuditFilter
from ml.records import AuditPage

router = APIRouter(prefix="/v1", tags=["access"])

Action = Annotated[str, Query(pattern=r"^[a-z]+\.[a-z_]+$", description="As `account.created`, `model.promote`.")]


class AuditWords(BaseModel):
    """What there is to filter by."""

    actors: list[str]
    actions: list[str]


def _start(day: dt.date | None) -> dt.datetime | None:
    return None if day is None else dt.datetime.combine(day, dt.time(), dt.UTC)


def _storable(day: dt.date | None) -> dt.date | None:
    if day is not None and not 1970 <= day.year < 9999:
        raise ValueError("must be between 1970 and 9998")
    return day


@router.get("/audit", summary="The audit, newest first", dependencies=needs("admin"))
def audit(
    services: ServicesDep,
    actor: Name | None = None,
    action: Action | None = None,
    from_date: Annotated[From, AfterValidator(_storable)] = None,
    to_date: Annotated[To, AfterValidator(_storable)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=96, description="`next_cursor` of the page before.")] = None,
) -> AuditPage:
    """Accounts, sign-ins, keys, webhooks, runs that were started, uploads that were accepted, and every move of the
    champion. `from` and `to` are days in UTC, both inclusive. Rows are chained by their hashes and never changed."""
    until = None if to_date is None else _start(to_date + dt.timedelta(days=1))
    return services.audit.page(AuditFilter(actor, action, _start(from_date), until), limit=limit, cursor=cursor)


@router.get("/audit/words", summary="Who and what occurs in the audit", dependencies=needs("admin"))
def words(services: ServicesDep) -> AuditWords:
    actors, actions = services.audit.words()
    return AuditWords(actors=actors, actions=actions)
