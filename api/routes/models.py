"""Registered models, and moving the champion with a reason."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints

from api.changing import move_champion
from api.deps import RegistryDep, ServicesDep, StoreDep, Version
from api.openapi import json_body
from api.strict import body_of
from ml.records import ModelInfo, ModelReport, Promotion

router = APIRouter(prefix="/v1", tags=["models"])


class Change(BaseModel):
    """Who moves the champion, and why: both stand in the audit for good."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    actor: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


ChangeBody = Annotated[Change, body_of(Change)]


class Models(BaseModel):
    items: list[ModelInfo]


class Promotions(BaseModel):
    items: list[Promotion]


@router.get("/models", summary="Registered versions, newest first")
def models(registry: RegistryDep) -> Models:
    return Models(items=registry.versions())


@router.get("/models/{version}", summary="One version with its evaluation and decision")
def model(registry: RegistryDep, version: Version) -> ModelReport:
    return registry.report(version)


@router.post("/models/rollback", summary="Go back to the champion before", **json_body(Change))
def rollback(services: ServicesDep, change: ChangeBody) -> Promotion:
    """Undoes the promotion that made the present champion; 409 when there is none to undo."""
    target = services.store.rollback_target()
    return move_champion(services, target, action="rollback", actor=change.actor, reason=change.reason)


@router.post("/models/{version}/promote", summary="Make a version the champion", **json_body(Change))
def promote(services: ServicesDep, version: Version, change: ChangeBody) -> Promotion:
    """The version is loaded and verified first; 409 when it is champion already or someone else was faster."""
    return move_champion(services, version, action="promote", actor=change.actor, reason=change.reason)


@router.get("/promotions", summary="The audit of promotions, newest first")
def promotions(store: StoreDep) -> Promotions:
    return Promotions(items=store.promotions())
