"""Requests under a key of the caller's own: answered once, and from then on by the answer that was given.

The header is that of the IETF draft "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ml.errors import InProgress, KeyReused
from ml.store import Store, metadata

KEPT = dt.timedelta(hours=24)
LEASE = dt.timedelta(minutes=5)  # no request takes so long: a claim without an answer is of a process that was killed

requests = sa.Table(
    "idempotent_requests",
    metadata,
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("headers", JSONB),
    sa.Column("body", sa.LargeBinary),
    sa.Index("idempotent_requests_age", "claimed_at"),
)


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as it went out."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Claim:
    """One caller's key, for one request: ``fingerprint`` is of its method, address and body."""

    caller: str
    key: str
    fingerprint: str

    @property
    def mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(requests.c.caller == self.caller, requests.c.key == self.key)


class Idempotency:
    """The claims in the application's database. Every method raises ServiceDown when that is away."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def claim(self, claim: Claim) -> KeptAnswer | None:
        """None: the request is to be worked on now, by this caller alone; else its answer of before.

        Raises
        ------
        KeyReused
            The key stands for another request.
        InProgress
            The same request is being worked on.
        """
        with self.store.begin() as connection:
            if connection.execute(_taken(claim)).first():
                return None
            known = connection.execute(sa.select(requests).where(claim.mine)).mappings().one()
        if known["fingerprint"] != claim.fingerprint:
            raise KeyReused
        if known["status"] is None:
            raise InProgress
        return KeptAnswer(known["status"], known["headers"], known["body"])

    def finish(self, claim: Claim, answer: KeptAnswer) -> None:
        """Keep the answer for a day."""
        values = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
        with self.store.begin() as connection:
            connection.execute(requests.update().where(claim.mine).values(**values))

    def release(self, claim: Claim) -> None:
        """Give the key free: what came out was no answer."""
        with self.store.begin() as connection:
            connection.execute(requests.delete().where(claim.mine, requests.c.status.is_(None)))

    def forget_old(self) -> int:
        """Remove what is older than a day; how many that were."""
        old = requests.c.claimed_at < dt.datetime.now(dt.UTC) - KEPT
        with self.store.begin() as connection:
            return connection.execute(requests.delete().where(old)).rowcount


def _taken(claim: Claim) -> sa.Executable:
    """A row of this claim's own: new, or in the place of one that is too old or was left without an answer."""
    now = dt.datetime.now(dt.UTC)
    values = {"caller": claim.caller, "key": claim.key, "fingerprint": claim.fingerprint, "claimed_at": now}
    left = sa.and_(
        requests.c.status.is_(None),
        requests.c.claimed_at < now - LEASE,
        requests.c.fingerprint == claim.fingerprint,
    )
    return (
        pg_insert(requests)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["caller", "key"],
            set_={**values, "status": None, "headers": None, "body": None},
            where=sa.or_(requests.c.claimed_at < now - KEPT, left),
        )
        .returning(requests.c.key)
    )
