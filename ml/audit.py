"""Who did what, and when: one chain of rows that are only ever added, beside the chain of promotions.

An account, a key or a webhook changes together with its row here, in one transaction.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import hashlib
import json
import logging
import re
import sys
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from ml.errors import ControlRoomError, InputError, ServiceDown, SettingsError
from ml.records import AuditEntry, AuditPage
from ml.settings import load_settings, variable
from ml.store import NO_HASH, Store, metadata, promotions

AUDIT_LOCK = 7_270_003
log = logging.getLogger("audit")
_Time = sa.DateTime(timezone=True)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("audit_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", _Time, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("facts", JSONB, nullable=False),
    sa.Column("prev_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.UniqueConstraint("prev_hash", name="audit_log_chain"),
    sa.Index("audit_log_newest", "at", "audit_id"),
)


@dataclass(frozen=True)
class AuditFilter:
    """What to show of the audit; times are inclusive at the start and exclusive at the end."""

    actor: str | None = None
    action: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


def add(connection: sa.Connection, actor: str, action: str, subject: str, **facts: str | None) -> None:
    """One more row at the end of the chain, within the transaction of what it tells of."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
    last = sa.select(audit_log.c.hash).order_by(audit_log.c.audit_id.desc()).limit(1)
    row: dict[str, Any] = {
        "at": dt.datetime.now(dt.UTC),
        "actor": actor,
        "action": action,
        "subject": subject,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "prev_hash": connection.scalar(last) or NO_HASH,
    }
    connection.execute(audit_log.insert().values(**row, hash=_hash(row)))


def _hash(row: dict[str, Any]) -> str:
    content = {name: row[name] for name in ("actor", "action", "subject", "facts", "prev_hash")}
    content["at"] = row["at"].astimezone(dt.UTC).isoformat()
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Audit:
    """The whole audit, promotions included. Every method raises ServiceDown when the database is away."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def note(self, actor: str, action: str, subject: str, **facts: str | None) -> None:
        """A row about what has been done elsewhere, such as a run that was started; it is not undone for the row."""
        try:
            with self.store.begin() as connection:
                add(connection, actor, action, subject, **facts)
        except ServiceDown as error:
            log.warning("not in the audit, %s: %s %s %s", error, actor, action, subject)

    def page(self, wanted: AuditFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> AuditPage:
        """Newest first; ``cursor`` is the ``next_cursor`` of the page before."""
        rows = _all_rows()
        query = sa.select(rows).where(*_where(rows, wanted or AuditFilter()))
        if cursor is not None:
            query = query.where(sa.tuple_(rows.c.at, rows.c.chain, rows.c.number) < _read_cursor(cursor))
        query = query.order_by(rows.c.at.desc(), rows.c.chain.desc(), rows.c.number.desc()).limit(limit + 1)
        with self.store.begin() as connection:
            found = connection.execute(query).mappings().all()
        more = len(found) > limit
        return AuditPage(
            items=tuple(_entry(row) for row in found[:limit]), next_cursor=_cursor(found[limit - 1]) if more else None
        )

    def words(self) -> tuple[list[str], list[str]]:
        """Every actor and every action that occurs, to filter by."""
        rows = _all_rows()
        with self.store.begin() as connection:
            actors, actions = (
                sorted(connection.scalars(sa.select(column).distinct())) for column in (rows.c.actor, rows.c.action)
            )
        return actors, actions

    def broken(self) -> int | None:
        """The first row whose hash does not follow from its content and the row before; None if all do."""
        before = NO_HASH
        with self.store.begin() as connection:
            for row in connection.execute(sa.select(audit_log).order_by(audit_log.c.audit_id)).mappings():
                if row["prev_hash"] != before or row["hash"] != _hash(dict(row)):
                    return int(row["audit_id"])
                before = row["hash"]
        return None


def _all_rows() -> sa.Subquery:
    """Both chains as one table."""
    a, p = audit_log.c, promotions.c
    ours = sa.select(sa.literal("a").label("chain"), a.audit_id.label("number"), a.at, a.actor, a.action, a.subject)
    told = sa.func.jsonb_strip_nulls(sa.func.jsonb_build_object("reason", p.reason, "previous", p.previous))
    moves = sa.select(
        sa.literal("p"), p.promotion_id, p.at, p.actor, sa.literal("model.").concat(p.action), p.version, told
    )
    return ours.add_columns(a.facts).union_all(moves).subquery()


def _where(rows: sa.Subquery, wanted: AuditFilter) -> list[sa.ColumnElement[bool]]:
    pairs = ((rows.c.actor, wanted.actor), (rows.c.action, wanted.action))
    where: list[sa.ColumnElement[bool]] = [column == value for column, value in pairs if value is not None]
    if wanted.since is not None:
        where.append(rows.c.at >= wanted.since)
    if wanted.until is not None:
        where.append(rows.c.at < wanted.until)
    return where


def _entry(row: sa.RowMapping) -> AuditEntry:
    shown = {name: row[name] for name in ("at", "actor", "action", "subject", "facts")}
    return AuditEntry(entry_id=f"{row['chain']}{row['number']}", **shown)


def _cursor(row: sa.RowMapping) -> str:
    text = f"{row['at'].astimezone(dt.UTC).isoformat()}|{row['chain']}|{row['number']}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> Any:
    """Raises InputError for anything that we did not hand out."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        at, chain, number = re.fullmatch(r"([0-9T:.+-]{25,32})\|([ap])\|(\d{1,18})", text).groups()  # type: ignore[union-attr]
        when = dt.datetime.fromisoformat(at)
    except (ValueError, AttributeError) as error:
        raise InputError(
            "The cursor is not one of ours: take next_cursor of the page before.", field="cursor"
        ) from error
    return sa.tuple_(sa.literal(when, _Time), sa.literal(chain), sa.literal(int(number), sa.BigInteger))


# ---------------------------------------------------------------- whether it is whole


def verified(store: Store, known: str = "") -> tuple[str, str]:
    """The last hashes of the audit and of the promotions, of chains that are whole; one of them holds ``known``.

    Raises
    ------
    ControlRoomError
        They are not, or do not; the message says where.
    """
    for name, broken in (("audit", Audit(store).broken()), ("promotions", store.broken_promotion())):
        if broken is not None:
            raise ControlRoomError(f"Row {broken} of the {name} was changed, or a row before it is missing.")
    chains = (audit_log.c.hash, audit_log.c.audit_id), (promotions.c.hash, promotions.c.promotion_id)
    with store.begin() as connection:
        ours, moves = (connection.scalars(sa.select(found).order_by(number)).all() for found, number in chains)
    if known and known not in (*ours, *moves):
        raise ControlRoomError(f"No row has the hash {known}: rows at the end are missing, or all were written anew.")
    return (ours or [NO_HASH])[-1], (moves or [NO_HASH])[-1]


def main(arguments: list[str] | None = None) -> int:
    """Whether both chains are as they were written: ``python -m ml.audit [--head HASH]``.

    Each row holds a hash of its content and of the row before. A row that was changed, or taken out from between
    others, is found. What is missing at the end, or a chain that somebody has made anew from the start, only a hash
    shows that was noted elsewhere before: this command prints the last ones, and ``--head`` looks for one.
    """
    parser = argparse.ArgumentParser(prog="python -m ml.audit", description=main.__doc__)
    parser.add_argument("--head", default="", help="the hash of a row that was the last one once")
    asked = parser.parse_args(arguments)
    try:
        url = load_settings().database_url
        if not url:
            raise SettingsError(f"{variable('database_url')} is not set.", key="database_url")
        store = Store(url)
        try:
            audit, moves = verified(store, asked.head)
        finally:
            store.close()
    except ControlRoomError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 1
    print(f"The audit is whole. Last hashes: {audit} (audit), {moves} (promotions)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
