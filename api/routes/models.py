"""Registered models, and moving the champion with a reason."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.auth import needs
from api.changing import move_champion, reject
from api.deps import RegistryDep, ServicesDep, StoreDep, Version
from api.openapi import json_body
from api.strict import body_of
from ml.records import ChampionsPage, ModelInfo, ModelReport, Promotion

router = APIRouter(prefix="/v1", tags=["models"])


class Refusal(BaseModel):
    """Who does not want a version, and why: both stand in the audit for good."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    actor: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] | None = Field(
        None, description="Whom a program acts for; who has signed in acts as themselves whatever stands here."
    )


class Change(Refusal):
    """Who moves the champion, and why: both stand in the audit for good."""

    expected: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")] | None = Field(
        None,
        description="The version that you saw as champion when you decided (null: there was none). When another is "
        "champion now, nothing is moved and 409 says who moved it. Left out: nothing is compared.",
    )

    @property
    def seen(self) -> tuple[str | None] | None:
        """What was said about the champion, if anything."""
        return (self.expected,) if "expected" in self.model_fields_set else None


ChangeBody = Annotated[Change, body_of(Change)]
RefusalBody = Annotated[Refusal, body_of(Refusal)]


class Models(BaseModel):
    items: list[ModelInfo]


class Promotions(BaseModel):
    items: list[Promotion]


@router.get("/models", dependencies=needs("viewer"), summary="Registered versions, newest first")
def models(registry: RegistryDep) -> Models:
    return Models(items=registry.versions())


@router.get("/models/{version}", dependencies=needs("viewer"), summary="One version with its evaluation and decision")
def model(registry: RegistryDep, version: Version) -> ModelReport:
    return registry.report(version)


@router.post(
    "/models/rollback", dependencies=needs("manager"), summary="Go back to the champion before", **json_body(Change)
)
def rollback(request: Request, services: ServicesDep, change: ChangeBody) -> Promotion:
    """Undoes the promotion that made the present champion; 409 when there is none to undo."""
    seen = change.seen or (services.store.champion(),)  # before the target: what is undone is what was seen
    target = services.store.rollback_target()
    actor = request.scope["caller"].named(change.actor)
    return move_champion(services, target, action="rollback", actor=actor, reason=change.reason, expected=seen)


@router.post(
    "/models/{version}/promote",
    dependencies=needs("manager"),
    summary="Make a version the champion",
    **json_body(Change),
)
def promote(request: Request, services: ServicesDep, version: Version, change: ChangeBody) -> Promotion:
    """The version is loaded and verified first; 409 when it is champion already or someone else was faster."""
    actor = request.scope["caller"].named(change.actor)
    return move_champion(services, version, action="promote", actor=actor, reason=change.reason, expected=change.seen)


@router.post(
    "/models/{version}/reject",
    dependencies=needs("manager"),
    summary="Say that a version is not wanted, and why",
    **json_body(Refusal),
)
def reject_version(request: Request, services: ServicesDep, version: Version, refusal: RefusalBody) -> Promotion:
    """Nothing moves: it stands in the audit, and the version no longer waits for approval. It can still be promoted
    later. 409 for the champion."""
    return reject(services, version, request.scope["caller"].named(refusal.actor), refusal.reason)


@router.get("/promotions", dependencies=needs("viewer"), summary="The audit of promotions, newest first")
def promotions(store: StoreDep) -> Promotions:
    return Promotions(items=store.promotions())


@router.get("/champions", dependencies=needs("viewer"), summary="Who was champion when, newest first")
def champions(
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> ChampionsPage:
    """From when until when each version answered, who made it champion and why; `until` of the present one is null."""
    return store.champions(limit=limit, cursor=cursor)
