"""Who is told of what happens here: events, each once, and their deliveries, tried until they arrive.

Signatures follow the specification "Standard Webhooks": HMAC-SHA256 of ``id.timestamp.body`` under a secret of its own.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ml.errors import NotFound
from ml.records import Delivery, Event, EventKind, NewWebhook, Webhook
from ml.store import Store, causes, metadata, note_cause
from ml.tracing import Trace, continued

LEASE = dt.timedelta(seconds=60)  # a delivery that was taken up and never ended is taken up again
FIRST_WAIT, LONGEST_WAIT = dt.timedelta(seconds=10), dt.timedelta(hours=1)
MOST_ATTEMPTS = 14  # over some eight hours; then it waits for a person who asks for it again
KEPT = dt.timedelta(days=30)
_Time = sa.DateTime(timezone=True)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("webhook_id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("events", ARRAY(sa.Text), nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("removed_at", _Time),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", _Time, nullable=False),
    sa.Column("data", JSONB, nullable=False),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("event_id", sa.Text, sa.ForeignKey("events.event_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("webhook_id", sa.Text, sa.ForeignKey("webhooks.webhook_id"), primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", _Time, nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("delivered_at", _Time),
    sa.Index("deliveries_due", "due_at", postgresql_where=sa.text("state = 'waiting'")),
)
SHOWN = [column for column in webhooks.c if column.name not in ("secret", "removed_at")]


@dataclass(frozen=True)
class Due:
    """One delivery to be tried now."""

    event: Event
    webhook_id: str
    url: str
    secret: str
    attempts: int
    trace: Trace


def signature(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature`` of a delivery.

    Examples
    --------
    >>> signature("whsec_c2VjcmV0", "e1", 1767225600, b"{}")
    'v1,O0wEfVT/oY0sS+ZFhVtqEyFkvqJWPT38nF1TchnIO74='
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def body_of(event: Event) -> bytes:
    """What is sent: ``{"id", "type", "timestamp", "data"}``, the same bytes at each attempt."""
    sent = {"id": event.event_id, "type": event.kind, "timestamp": event.at.isoformat(), "data": event.data}
    return json.dumps(sent, sort_keys=True, ensure_ascii=False).encode()


class Webhooks:
    """Webhooks, events and deliveries in the database. Every method raises ServiceDown when that is away."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(self, url: str, kinds: Sequence[EventKind], by: str) -> NewWebhook:
        """The secret is shown to its maker only."""
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        values = {
            "webhook_id": secrets.token_hex(6),
            "url": url,
            "events": sorted(set(kinds)),
            "created_by": by,
            "created_at": dt.datetime.now(dt.UTC),
        }
        with self.store.begin() as connection:
            connection.execute(webhooks.insert().values(**values, secret=secret))
        return NewWebhook(secret=secret, webhook=Webhook.model_validate(values))

    def all(self) -> list[Webhook]:
        """Newest first."""
        query = sa.select(*SHOWN).where(webhooks.c.removed_at.is_(None)).order_by(webhooks.c.created_at.desc())
        with self.store.begin() as connection:
            return [Webhook.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def remove(self, webhook_id: str) -> None:
        """Nothing is sent to it any more; raises NotFound."""
        mine = sa.and_(webhooks.c.webhook_id == webhook_id, webhooks.c.removed_at.is_(None))
        with self.store.begin() as connection:
            changed = connection.execute(webhooks.update().where(mine).values(removed_at=dt.datetime.now(dt.UTC)))
            if not changed.rowcount:
                raise NotFound("There is no webhook of this id.", webhook_id=webhook_id)
            waiting = sa.and_(deliveries.c.webhook_id == webhook_id, deliveries.c.state == "waiting")
            connection.execute(deliveries.update().where(waiting).values(state="dropped"))

    # -- events

    def emit(self, found: Iterable[Event]) -> int:
        """Note events that are new, each once by its id, for every webhook that was there when it happened."""
        count = 0
        for event in found:
            with self.store.begin() as connection:
                values = event.model_dump(exclude={"traceparent"})
                if connection.execute(pg_insert(events).values(**values).on_conflict_do_nothing()).rowcount:
                    connection.execute(_wanted(event))
                    note_cause(connection, event.event_id, continued([event.traceparent]))
                    count += 1
        return count

    def due(self, limit: int = 20) -> list[Due]:
        """Deliveries to try now, leased to the caller: nobody else gets them for a minute."""
        now = dt.datetime.now(dt.UTC)
        waiting = (deliveries.c.state == "waiting", deliveries.c.due_at <= now)
        chosen = sa.select(deliveries.c.event_id, deliveries.c.webhook_id).where(*waiting)
        chosen = chosen.order_by(deliveries.c.due_at).limit(limit).with_for_update(skip_locked=True)
        ids = sa.tuple_(deliveries.c.event_id, deliveries.c.webhook_id)
        leased = deliveries.update().where(ids.in_(chosen)).values(
            due_at=now + LEASE, attempts=deliveries.c.attempts + 1
        ).returning(*ids, deliveries.c.attempts)  # fmt: skip
        with self.store.begin() as connection:
            taken = {(row[0], row[1]): row[2] for row in connection.execute(leased)}
            if not taken:
                return []
            cause = (causes.c.traceparent, causes.c.request_id)
            query = sa.select(events, webhooks.c.webhook_id, webhooks.c.url, webhooks.c.secret, *cause)
            joined = events.join(deliveries).join(webhooks).outerjoin(causes, causes.c.event_id == events.c.event_id)
            query = query.select_from(joined).where(ids.in_(list(taken)))
            return [_due(dict(row), taken) for row in connection.execute(query).mappings()]

    def settle(self, due: Due, *, arrived: bool, answer: str) -> None:
        """Note how an attempt ended; one that failed waits twice as long as the last time."""
        now = dt.datetime.now(dt.UTC)
        if arrived:
            values: dict[str, Any] = {"state": "delivered", "delivered_at": now}
        elif due.attempts >= MOST_ATTEMPTS:
            values = {"state": "given up"}
        else:
            values = {"due_at": now + min(FIRST_WAIT * 2 ** (due.attempts - 1), LONGEST_WAIT)}
        mine = sa.and_(deliveries.c.event_id == due.event.event_id, deliveries.c.webhook_id == due.webhook_id)
        with self.store.begin() as connection:
            connection.execute(
                deliveries.update().where(mine, deliveries.c.state == "waiting").values(**values, answer=answer)
            )

    def deliveries(self, webhook_id: str, limit: int = 100) -> list[Delivery]:
        """What was and is to be sent to a webhook, newest first."""
        query = sa.select(events.c.kind, events.c.at, *deliveries.c).select_from(deliveries.join(events))
        query = query.where(deliveries.c.webhook_id == webhook_id).order_by(events.c.at.desc()).limit(limit)
        with self.store.begin() as connection:
            return [Delivery.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def again(self, webhook_id: str, event_id: str) -> None:
        """Send an event once more, delivered or not; raises NotFound."""
        mine = sa.and_(deliveries.c.event_id == event_id, deliveries.c.webhook_id == webhook_id)
        known = sa.exists().where(webhooks.c.webhook_id == webhook_id, webhooks.c.removed_at.is_(None))
        values = {"state": "waiting", "attempts": 0, "due_at": dt.datetime.now(dt.UTC)}
        with self.store.begin() as connection:
            if not connection.execute(deliveries.update().where(mine, known).values(**values)).rowcount:
                raise NotFound("There is no delivery of this event to this webhook.", event_id=event_id)

    def forget_old(self) -> int:
        """Remove events of more than a month ago, with their deliveries and causes; how many that were."""
        before = dt.datetime.now(dt.UTC) - KEPT
        with self.store.begin() as connection:
            connection.execute(causes.delete().where(causes.c.at < before))
            return connection.execute(events.delete().where(events.c.at < before)).rowcount


def _wanted(event: Event) -> sa.Executable:
    """A delivery for each webhook that asks for this kind and was made before it happened."""
    now = sa.literal(dt.datetime.now(dt.UTC), _Time)
    listening = sa.select(
        sa.literal(event.event_id), webhooks.c.webhook_id, sa.literal("waiting"), sa.literal(0), now
    ).where(
        webhooks.c.removed_at.is_(None), webhooks.c.events.any(event.kind), webhooks.c.created_at <= event.at
    )  # fmt: skip
    return deliveries.insert().from_select(["event_id", "webhook_id", "state", "attempts", "due_at"], listening)


def _due(row: dict[str, Any], taken: dict[tuple[str, str], int]) -> Due:
    event = Event.model_validate({name: row[name] for name in Event.model_fields if name in row})
    trace = continued([row["traceparent"] or ""], request_id=row["request_id"] or "")
    return Due(event, row["webhook_id"], row["url"], row["secret"], taken[event.event_id, row["webhook_id"]], trace)
