"""Addresses that are told of what happens here."""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from api.auth import needs
from api.deps import ServicesDep
from api.openapi import json_body
from api.strict import body_of
from ml.records import Delivery, EventKind, NewWebhook, Webhook

router = APIRouter(prefix="/v1/webhooks", tags=["access"])
log = logging.getLogger("api")

WebhookId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]
EventId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:+~-]{0,299}$")]


class WebhookRequest(BaseModel):
    """Where to, and of what."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, examples=["https://erp.example/hooks/sales"])
    events: list[EventKind] = Field(min_length=1, max_length=20, examples=[["model.promoted", "run.finished"]])

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not url.isprintable():
            raise ValueError("must be an http or https address without a user name")
        return url


WebhookBody = Annotated[WebhookRequest, body_of(WebhookRequest)]


class WebhookList(BaseModel):
    items: list[Webhook]


class Deliveries(BaseModel):
    items: list[Delivery]


@router.get("", summary="The webhooks, newest first", dependencies=needs("admin"))
def webhooks(services: ServicesDep) -> WebhookList:
    return WebhookList(items=services.teller.webhooks.all())


@router.post("", status_code=201, summary="Be told of events", dependencies=needs("admin"), **json_body(WebhookRequest))
def make_webhook(request: Request, services: ServicesDep, asked: WebhookBody) -> NewWebhook:
    """Each event that happens from now on is posted to `url` as `{"id", "type", "timestamp", "data"}`, within seconds,
    and again with growing pauses over some eight hours until a 2xx answers; an event may therefore come twice: its `id`
    tells. `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `webhook-id.webhook-timestamp.body` (Standard
    Webhooks) under `secret`, which is shown this once."""
    made = services.teller.webhooks.create(asked.url, asked.events, request.scope["caller"].name)
    services.audit.note(made.webhook.created_by, "webhook.created", asked.url, webhook_id=made.webhook.webhook_id)
    log.info("webhook %s was made by %s", made.webhook.webhook_id, made.webhook.created_by)
    return made


@router.delete("/{webhook_id}", status_code=204, summary="Be told no more", dependencies=needs("admin"))
def remove_webhook(request: Request, services: ServicesDep, webhook_id: WebhookId) -> None:
    services.teller.webhooks.remove(webhook_id)
    services.audit.note(request.scope["caller"].name, "webhook.removed", webhook_id)
    log.info("webhook %s was removed by %s", webhook_id, request.scope["caller"].name)


@router.get("/{webhook_id}/deliveries", summary="What was sent, newest first", dependencies=needs("admin"))
def deliveries(services: ServicesDep, webhook_id: WebhookId) -> Deliveries:
    return Deliveries(items=services.teller.webhooks.deliveries(webhook_id))


@router.post(
    "/{webhook_id}/deliveries/{event_id}", status_code=202, summary="Send an event again", dependencies=needs("admin")
)
def again(services: ServicesDep, webhook_id: WebhookId, event_id: EventId) -> Deliveries:
    services.teller.webhooks.again(webhook_id, event_id)
    return Deliveries(items=services.teller.webhooks.deliveries(webhook_id))
