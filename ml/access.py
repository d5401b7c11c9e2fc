"""Keys of the API: 256 random bits each, of which only the SHA-256 is kept, with a role, an end and a last use.

A key reads ``scr_<key_id>_<secret>``: the id finds its row, the hash of the whole proves it. A fast hash is enough, for
nobody guesses 256 random bits.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

import sqlalchemy as sa

from ml import audit
from ml.errors import Conflict, NotFound
from ml.records import USER_ROLES, ApiKey, NewApiKey, UserRole
from ml.store import Store, api_keys

SHAPE = re.compile(r"scr_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
SHOWN = [column for column in api_keys.c if column.name != "sha256"]


def allows(role: UserRole, needed: UserRole) -> bool:
    """Whether a role may do what another may."""
    return USER_ROLES.index(role) >= USER_ROLES.index(needed)


def key_id_of(secret: str) -> str | None:
    """The id within a key; None for what is no key of this kind."""
    found = SHAPE.fullmatch(secret)
    return found[1] if found else None


def proves(secret: str, sha256: str) -> bool:
    """Whether this is the key with that hash, in constant time."""
    return hmac.compare_digest(sha256_of(secret), sha256)


def sha256_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """The keys in the application's database. Every method raises ServiceDown when that is away."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(self, name: str, role: UserRole, by: str, expires_at: dt.datetime | None = None) -> NewApiKey:
        key_id = secrets.token_hex(6)
        secret = f"scr_{key_id}_{secrets.token_urlsafe(32)}"
        now = dt.datetime.now(dt.UTC)
        made = ApiKey(key_id=key_id, name=name, role=role, created_at=now, created_by=by, expires_at=expires_at)
        with self.store.begin() as connection:
            connection.execute(api_keys.insert().values(**made.model_dump(), sha256=sha256_of(secret)))
            audit.add(connection, by, "key.created", name, key_id=key_id, role=role)
        return NewApiKey(secret=secret, key=made)

    def all(self) -> list[ApiKey]:
        """Newest first, those that no longer count included."""
        query = sa.select(*SHOWN).order_by(api_keys.c.created_at.desc(), api_keys.c.key_id)
        with self.store.begin() as connection:
            return [ApiKey.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def id_of(self, secret: str) -> str | None:
        return key_id_of(secret)

    def find(self, key_id: str) -> tuple[ApiKey, str] | None:
        """A key and its hash."""
        with self.store.begin() as connection:
            row = connection.execute(sa.select(api_keys).where(api_keys.c.key_id == key_id)).mappings().first()
        if row is None:
            return None
        facts = dict(row)
        sha256 = facts.pop("sha256")
        return ApiKey.model_validate(facts), sha256

    def revoke(self, key_id: str, by: str) -> ApiKey:
        """Refuse a key from now on, for good; its row stays.

        Raises
        ------
        NotFound
            There is no such key.
        Conflict
            It was revoked before.
        """
        now = dt.datetime.now(dt.UTC)
        mine = api_keys.c.key_id == key_id
        change = api_keys.update().where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=now, revoked_by=by)
        with self.store.begin() as connection:
            changed = connection.execute(change.returning(*SHOWN)).mappings().first()
            if changed is not None:
                audit.add(connection, by, "key.revoked", changed["name"], key_id=key_id)
            known = changed or connection.execute(sa.select(*SHOWN).where(mine)).mappings().first()
        if known is None:
            raise NotFound("There is no key of this id.", key_id=key_id)
        if changed is None:
            raise Conflict(f"This key was revoked on {known['revoked_at']:%Y-%m-%d %H:%M} by {known['revoked_by']}.")
        return ApiKey.model_validate(dict(changed))

    def used(self, when: Mapping[str, dt.datetime]) -> None:
        """Note when keys were last used, by their ids."""
        with self.store.begin() as connection:
            for key_id, at in when.items():
                connection.execute(api_keys.update().where(api_keys.c.key_id == key_id).values(last_used_at=at))
