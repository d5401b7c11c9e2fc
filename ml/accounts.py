"""People: accounts with a role, their passwords, and the sessions that signing in gives them.

A password is kept as its Argon2id hash, a session as the SHA-256 of 256 random bits. A session says who somebody is;
what they may do is read from their account at each use.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from ml import audit
from ml.access import sha256_of
from ml.errors import Conflict, InputError, NotFound, SignInFailed, TooManySignIns
from ml.records import Account, NewAccount, NewSession, Session, UserRole
from ml.store import Store, metadata

NAME = r"^[\w.@+-]{1,100}$"
SHORTEST, LONGEST = 12, 256  # characters of a password
WINDOW = dt.timedelta(minutes=15)
PER_NAME, PER_ADDRESS = 10, 50  # failures within the window after which nothing is tried any more
KEPT = dt.timedelta(days=30)  # that ended sessions and old failures stay
SESSION = re.compile(r"scs_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
# Each hash takes 64 MB: so many are worked on at once, whoever asks.
_HASHING = threading.BoundedSemaphore(4)
_HASHER = PasswordHasher()
_Time = sa.DateTime(timezone=True)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("folded", sa.Text, nullable=False),  # what tells names apart: case does not
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("issuer", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("changed_at", _Time, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("disabled_at", _Time),
    sa.Column("last_sign_in_at", _Time),
    sa.UniqueConstraint("folded", name="accounts_name"),
    sa.UniqueConstraint("issuer", "subject", name="accounts_identity"),
)
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column(
        "account_id", sa.Text, sa.ForeignKey("accounts.account_id", name="sessions_account"), nullable=False, index=True
    ),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("last_used_at", _Time, nullable=False),
    sa.Column("expires_at", _Time, nullable=False),
    sa.Column("ended_at", _Time),
)
failures = sa.Table(
    "sign_in_failures",
    metadata,
    sa.Column("failure_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", _Time, nullable=False),
    sa.Column("name_sha256", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Index("sign_in_failures_name", "name_sha256", "at"),
    sa.Index("sign_in_failures_address", "address", "at"),
)
SHOWN = [accounts.c[name] for name in Account.model_fields]


@dataclass(frozen=True)
class Identity:
    """Who an identity provider says somebody is."""

    issuer: str
    subject: str
    name: str
    role: UserRole


def folded(name: str) -> str:
    """What two names have in common that are the same to a person."""
    return unicodedata.normalize("NFKC", name).casefold()


def check_password(password: str, name: str) -> str:
    """A password that may be set; raises InputError for one that is too short, too long or the name itself."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(f"A password has {SHORTEST} to {LONGEST} characters.", field="password")
    if folded(name) in folded(password):
        raise InputError("A password must not hold the name of its account.", field="password")
    return password


def session_id_of(token: str) -> str | None:
    """The id within a session's token; None for what is none."""
    found = SESSION.fullmatch(token)
    return found[1] if found else None


def _hashed(password: str) -> str:
    with _HASHING:
        return _HASHER.hash(password)


@cache
def _nobodys() -> str:
    """A hash that no password has, made once: an unknown name takes as long as a known one."""
    return _hashed(secrets.token_urlsafe(32))


def _right(password: str, known: str | None) -> bool:
    nobodys = _nobodys()
    with _HASHING:
        try:
            return _HASHER.verify(known or nobodys, password) and known is not None
        except (VerifyMismatchError, InvalidHashError):
            return False


class Accounts:
    """The accounts in the application's database. Every method raises ServiceDown when that is away.

    ``by`` is who does it, for the audit.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    # ---------------------------------------------------------------- accounts

    def all(self) -> list[Account]:
        """By name, disabled ones included."""
        with self.store.begin() as connection:
            found = connection.execute(sa.select(*SHOWN).order_by(accounts.c.folded)).mappings()
            return [Account.model_validate(dict(row)) for row in found]

    def create(self, name: str, role: UserRole, by: str, password: str | None = None) -> NewAccount:
        """A local account; without a password one is made, which the answer alone holds.

        Raises
        ------
        InputError
            The name or the password cannot be one.
        Conflict
            There is an account of this name.
        """
        _refuse_name(name)
        made = secrets.token_urlsafe(12) if password is None else None
        hashed = _hashed(check_password(password or made or "", name))
        with self.store.begin() as connection:
            row = _inserted(connection, by, name=name, kind="local", role=role, password_hash=hashed)
            audit.add(connection, by, "account.created", name, role=role)
        return NewAccount(account=row, password=made)

    def find(self, name: str) -> Account:
        """The account of a name, in any case; raises NotFound."""
        with self.store.begin() as connection:
            row = connection.execute(sa.select(*SHOWN).where(accounts.c.folded == folded(name))).mappings().first()
        if row is None:
            raise NotFound("There is no account of this name.")
        return Account.model_validate(dict(row))

    def change(self, account_id: str, by: str, role: UserRole | None = None, disabled: bool | None = None) -> Account:
        """Another role, or disabled, or enabled again; what is None stays.

        Raises
        ------
        NotFound
            There is no such account.
        Conflict
            No administrator would be left, or the role comes from the identity provider.
        """
        with self.store.begin() as connection:
            before = _locked(connection, account_id)
            if role is not None and role != before.role:
                _change_role(connection, before, role, by)
            if disabled is not None and disabled != (before.disabled_at is not None):
                _change_disabled(connection, before, disabled, by)
            return _account(connection, account_id)

    def reset_password(self, account_id: str, by: str, password: str | None = None) -> NewAccount:
        """A new password, and the end of every session; without one it is made, which the answer alone holds."""
        made = secrets.token_urlsafe(12) if password is None else None
        with self.store.begin() as connection:
            before = _account(connection, account_id)
        _refuse_foreign(before)
        hashed = _hashed(check_password(password or made or "", before.name))
        with self.store.begin() as connection:
            _set(connection, account_id, by, password_hash=hashed)
            _end_sessions(connection, account_id)
            audit.add(connection, by, "account.password_reset", before.name)
            return NewAccount(account=_account(connection, account_id), password=made)

    def change_own_password(self, account_id: str, session_id: str, present: str, new: str) -> None:
        """As the person themselves: the present password is asked for, other sessions end.

        Raises
        ------
        SignInFailed
            The present password is another one.
        TooManySignIns
            It was tried too often.
        """
        with self.store.begin() as connection:
            account = _account(connection, account_id)
            known = connection.scalar(sa.select(accounts.c.password_hash).where(accounts.c.account_id == account_id))
        _refuse_foreign(account)
        failure = self._attempt(account.name, "")
        if not _right(present, known):
            raise SignInFailed("This is not your present password.")
        hashed = _hashed(check_password(new, account.name))
        with self.store.begin() as connection:
            connection.execute(failures.delete().where(failures.c.failure_id == failure))
            _set(connection, account_id, account.name, password_hash=hashed)
            _end_sessions(connection, account_id, but=session_id)
            audit.add(connection, account.name, "account.password_changed", account.name)

    # ---------------------------------------------------------------- signing in

    def sign_in(self, name: str, password: str, address: str, hours: float) -> NewSession:
        """A session of ``hours`` for who knows the password.

        Raises
        ------
        SignInFailed
            Name or password is not right, or the account is disabled: which of them is not said, and takes as long.
        TooManySignIns
            The name or the address has failed too often lately.
        """
        failure = self._attempt(name, address)
        mine = accounts.c.folded == folded(name)
        with self.store.begin() as connection:
            row = connection.execute(sa.select(accounts).where(mine)).mappings().first()
        usable = row is not None and row["disabled_at"] is None
        if not _right(password, row["password_hash"] if row is not None and usable else None) or row is None:
            raise SignInFailed
        fresh = _hashed(password) if _HASHER.check_needs_rehash(row["password_hash"]) else row["password_hash"]
        with self.store.begin() as connection:
            connection.execute(failures.delete().where(failures.c.failure_id == failure))
            connection.execute(accounts.update().where(mine).values(password_hash=fresh))
            return _opened(connection, row["account_id"], address, hours)

    def sign_in_as(self, identity: Identity, address: str, hours: float) -> NewSession:
        """A session for whom an identity provider has named; their account is made or brought up to date.

        Raises
        ------
        SignInFailed
            The account is disabled here.
        Conflict
            A local account has this name.
        """
        who = sa.and_(accounts.c.issuer == identity.issuer, accounts.c.subject == identity.subject)
        with self.store.begin() as connection:
            row = connection.execute(sa.select(*SHOWN).where(who).with_for_update()).mappings().first()
            known = Account.model_validate(dict(row)) if row else _first_seen(connection, identity)
            if known.disabled_at is not None:
                raise SignInFailed("This account is disabled: ask an administrator.")
            if (known.name, known.role) != (identity.name, identity.role):
                _set(connection, known.account_id, identity.issuer, **_named(identity.name), role=identity.role)
                audit.add(
                    connection, identity.issuer, "account.role", identity.name, before=known.role, role=identity.role
                )
            return _opened(connection, known.account_id, address, hours)

    def _attempt(self, name: str, address: str) -> int:
        """Count an attempt before it is made, so that many at once cannot outrun the count; returns its number.

        One that goes well is taken back; one too many is refused, is not counted, and is noted in the audit once.
        """
        now = dt.datetime.now(dt.UTC)
        counted = {"name_sha256": sha256_of(folded(name)), "address": address}  # a name may be a mistyped password
        with self.store.begin() as connection:
            added = failures.insert().values(at=now, **counted).returning(failures.c.failure_id)
            number = int(connection.scalar(added))
        with self.store.begin() as connection:
            waits = _wait(connection, now, counted)
            if waits is None:
                return number
            connection.execute(failures.delete().where(failures.c.failure_id == number))
            _note_burst(connection, now, name, address)
        raise TooManySignIns(retry_after=max(1, round(waits.total_seconds())))

    # ---------------------------------------------------------------- sessions

    def sign_out(self, session_id: str) -> None:
        """The end of one session; done again it changes nothing."""
        ended = sessions.update().where(sessions.c.session_id == session_id, sessions.c.ended_at.is_(None))
        with self.store.begin() as connection:
            row = connection.execute(
                ended.values(ended_at=dt.datetime.now(dt.UTC)).returning(sessions.c.account_id)
            ).first()
            if row is not None:
                name = _account(connection, row[0]).name
                audit.add(connection, name, "session.closed", name)


class Sessions:
    """Whose a token is; what :class:`api.keyring.KeyRing` asks. ``idle``: without use for so long, a session ends."""

    def __init__(self, store: Store, idle: dt.timedelta) -> None:
        self.store = store
        self.idle = idle

    def id_of(self, token: str) -> str | None:
        return session_id_of(token)

    def find(self, session_id: str) -> tuple[Session, str] | None:
        """A session with its account as it is now, and its hash."""
        columns = (sessions.c.sha256, sessions.c.expires_at, sessions.c.last_used_at, sessions.c.ended_at)
        query = (
            sa.select(sessions.c.session_id, accounts.c.account_id, accounts.c.name, accounts.c.role, *columns)
            .join(accounts, accounts.c.account_id == sessions.c.account_id)
            .where(sessions.c.session_id == session_id, accounts.c.disabled_at.is_(None))
        )
        with self.store.begin() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        facts = dict(row)
        sha256, used = facts.pop("sha256"), facts.pop("last_used_at")
        return Session(**facts, idle_at=used + self.idle), sha256

    def used(self, when: Mapping[str, dt.datetime]) -> None:
        """Note when sessions were last used, by their ids."""
        with self.store.begin() as connection:
            for session_id, at in when.items():
                mine = sessions.c.session_id == session_id
                connection.execute(sessions.update().where(mine).values(last_used_at=at))


# ---------------------------------------------------------------- rows


def _refuse_name(name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise InputError(
            "A name has 1 to 100 letters, digits and . _ @ + -, as in ana or ana@shop.example.", field="name"
        )


def _refuse_foreign(account: Account) -> None:
    if account.kind != "local":
        raise Conflict("This account signs in with the identity provider: it has no password and no role of its own.")


def _named(name: str) -> dict[str, str]:
    return {"name": name, "folded": folded(name)}


def _inserted(connection: sa.Connection, by: str, **values: Any) -> Account:
    now = dt.datetime.now(dt.UTC)
    told = {"created_at": now, "created_by": by, "changed_at": now, "changed_by": by}
    row = {"account_id": secrets.token_hex(6), **_named(values.pop("name")), **values, **told}
    try:
        made = connection.execute(accounts.insert().values(**row).returning(*SHOWN)).mappings().one()
    except sa.exc.IntegrityError as error:
        raise Conflict("There is an account of this name.") from error
    return Account.model_validate(dict(made))


def _first_seen(connection: sa.Connection, identity: Identity) -> Account:
    facts = {"kind": "oidc", "issuer": identity.issuer, "subject": identity.subject, "role": identity.role}
    made = _inserted(connection, identity.issuer, name=identity.name, **facts)
    audit.add(connection, identity.issuer, "account.created", identity.name, role=identity.role)
    return made


def _account(connection: sa.Connection, account_id: str) -> Account:
    row = connection.execute(sa.select(*SHOWN).where(accounts.c.account_id == account_id)).mappings().first()
    if row is None:
        raise NotFound("There is no account of this id.")
    return Account.model_validate(dict(row))


def _locked(connection: sa.Connection, account_id: str) -> Account:
    """The account, while nobody else changes any: who is the last administrator must not be decided twice at once."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": audit.AUDIT_LOCK})
    return _account(connection, account_id)


def _set(connection: sa.Connection, account_id: str, by: str, **values: Any) -> None:
    told = {"changed_at": dt.datetime.now(dt.UTC), "changed_by": by}
    change = accounts.update().where(accounts.c.account_id == account_id).values(**values, **told)
    try:
        connection.execute(change)
    except sa.exc.IntegrityError as error:
        raise Conflict("There is an account of this name.") from error


def _change_role(connection: sa.Connection, before: Account, role: UserRole, by: str) -> None:
    _refuse_foreign(before)
    _refuse_last(connection, before)
    _set(connection, before.account_id, by, role=role)
    audit.add(connection, by, "account.role", before.name, before=before.role, role=role)


def _change_disabled(connection: sa.Connection, before: Account, disabled: bool, by: str) -> None:
    if disabled:
        _refuse_last(connection, before)
        _end_sessions(connection, before.account_id)
    _set(connection, before.account_id, by, disabled_at=dt.datetime.now(dt.UTC) if disabled else None)
    audit.add(connection, by, "account.disabled" if disabled else "account.enabled", before.name)


def _refuse_last(connection: sa.Connection, account: Account) -> None:
    """One local administrator who can sign in stays, whatever happens."""
    if account.role != "admin" or account.kind != "local" or account.disabled_at is not None:
        return
    others = sa.select(sa.func.count()).where(
        accounts.c.role == "admin",
        accounts.c.kind == "local",
        accounts.c.disabled_at.is_(None),
        accounts.c.account_id != account.account_id,
    )
    if not connection.scalar(others):
        raise Conflict("This is the last administrator: make another one first.")


def _end_sessions(connection: sa.Connection, account_id: str, but: str = "") -> None:
    mine = sa.and_(sessions.c.account_id == account_id, sessions.c.session_id != but, sessions.c.ended_at.is_(None))
    connection.execute(sessions.update().where(mine).values(ended_at=dt.datetime.now(dt.UTC)))


def _opened(connection: sa.Connection, account_id: str, address: str, hours: float) -> NewSession:
    now = dt.datetime.now(dt.UTC)
    session_id = secrets.token_hex(6)
    token = f"scs_{session_id}_{secrets.token_urlsafe(32)}"
    connection.execute(sessions.delete().where(sessions.c.expires_at < now - KEPT))
    ends = now + dt.timedelta(hours=hours)
    facts = {"account_id": account_id, "created_at": now, "last_used_at": now, "expires_at": ends}
    connection.execute(sessions.insert().values(session_id=session_id, sha256=sha256_of(token), **facts))
    mine = accounts.c.account_id == account_id
    connection.execute(accounts.update().where(mine).values(last_sign_in_at=now))
    account = _account(connection, account_id)
    audit.add(connection, account.name, "session.opened", account.name, address=address or None)
    return NewSession(token=token, account=account, expires_at=ends)


# ---------------------------------------------------------------- failures


def _wait(connection: sa.Connection, now: dt.datetime, counted: Mapping[str, str]) -> dt.timedelta | None:
    """How long nothing is tried for this name and address; None: it may be tried."""
    waits = [
        _wait_for(connection, now, failures.c[name] == counted[name], most)
        for name, most in (("name_sha256", PER_NAME), ("address", PER_ADDRESS))
        if counted[name]
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _wait_for(
    connection: sa.Connection, now: dt.datetime, mine: sa.ColumnElement[bool], most: int
) -> dt.timedelta | None:
    recent = sa.select(failures.c.at).where(mine, failures.c.at > now - WINDOW).order_by(failures.c.at.desc())
    last = connection.scalars(recent.limit(most + 1)).all()
    return last[-1] + WINDOW - now if len(last) > most else None


def _note_burst(connection: sa.Connection, now: dt.datetime, name: str, address: str) -> None:
    """One row of the audit for each name and address within the window; old failures go."""
    log = audit.audit_log.c
    known = sa.select(accounts.c.name).where(accounts.c.folded == folded(name))
    shown = connection.scalar(known) or "an unknown name"
    noted = sa.select(sa.func.count()).where(
        log.action == "session.refused", log.subject == shown, log.at > now - WINDOW
    )
    if not connection.scalar(noted):
        audit.add(connection, "sign-in", "session.refused", shown, address=address or None)
    connection.execute(failures.delete().where(failures.c.at < now - KEPT))
