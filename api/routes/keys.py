"""Keys of the API, and who one is."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.auth import Caller, needs
from api.deps import ServicesDep
from api.openapi import json_body
from api.strict import body_of
from ml.records import ApiKey, Me, NewApiKey, UserRole

router = APIRouter(prefix="/v1", tags=["access"])
log = logging.getLogger("api")
MOST_DAYS = 3650

KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]


class KeyRequest(BaseModel):
    """What a new key is for."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        examples=["Cash registers"]
    )
    role: UserRole = Field(description="Each role may do what those before it may.", examples=["planner"])
    days: Annotated[int, Field(ge=1, le=MOST_DAYS)] | None = Field(
        None, description="Days until it ends; left out: it does not.", examples=[365]
    )


KeyBody = Annotated[KeyRequest, body_of(KeyRequest)]


class ApiKeys(BaseModel):
    items: list[ApiKey]


@router.get("/me", summary="Who the API takes you for", dependencies=needs("viewer"))
async def me(request: Request) -> Me:
    caller: Caller = request.scope["caller"]
    return Me(name=caller.name, role=caller.role, key_id=caller.key_id, account_id=caller.account_id)


@router.get("/keys", summary="The keys, newest first", dependencies=needs("admin"))
def keys(services: ServicesDep) -> ApiKeys:
    """Without their secrets, which are kept nowhere. The last use is written down within a minute."""
    services.keyring.note()
    return ApiKeys(items=services.keyring.keys.all())


@router.post("/keys", status_code=201, summary="Make a key", dependencies=needs("admin"), **json_body(KeyRequest))
def make_key(request: Request, services: ServicesDep, asked: KeyBody) -> NewApiKey:
    """`secret` is shown this once: send it as `X-API-Key` or `Authorization: Bearer`."""
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=asked.days) if asked.days else None
    made = services.keyring.keys.create(asked.name, asked.role, request.scope["caller"].name, ends)
    log.info("key %s with the role %s was made by %s", made.key.key_id, made.key.role, made.key.created_by)
    return made


@router.delete("/keys/{key_id}", summary="Revoke a key, for good", dependencies=needs("admin"))
def revoke_key(request: Request, services: ServicesDep, key_id: KeyId) -> ApiKey:
    """It stops counting at once here, and within seconds in other processes of the API. 409: it was revoked before."""
    revoked = services.keyring.keys.revoke(key_id, request.scope["caller"].name)
    services.keyring.forget(key_id)
    log.info("key %s was revoked by %s", key_id, revoked.revoked_by)
    return revoked
