"""People who sign in, their sessions and failed attempts; and the audit of what is changed besides the champion."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _accounts()
    _sessions()
    _failures()
    _audit()


def downgrade() -> None:
    for table in ("audit_log", "sign_in_failures", "sessions", "accounts"):
        op.drop_table(table)
    op.execute("DROP FUNCTION audit_is_final()")


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=nullable)


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text, primary_key=True),
        *(_text(name) for name in ("name", "folded", "kind")),
        *(_text(name, nullable=True) for name in ("issuer", "subject")),
        _text("role"),
        _text("password_hash", nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        _text("created_by"),
        sa.Column("changed_at", TIME, nullable=False),
        _text("changed_by"),
        *(sa.Column(name, TIME) for name in ("disabled_at", "last_sign_in_at")),
        sa.UniqueConstraint("folded", name="accounts_name"),
        sa.UniqueConstraint("issuer", "subject", name="accounts_identity"),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.account_id", name="sessions_account"), nullable=False),
        _text("sha256"),
        *(sa.Column(name, TIME, nullable=False) for name in ("created_at", "last_used_at", "expires_at")),
        sa.Column("ended_at", TIME),
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])


def _failures() -> None:
    op.create_table(
        "sign_in_failures",
        sa.Column("failure_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", TIME, nullable=False),
        *(_text(name) for name in ("name_sha256", "address")),
    )
    op.create_index("sign_in_failures_name", "sign_in_failures", ["name_sha256", "at"])
    op.create_index("sign_in_failures_address", "sign_in_failures", ["address", "at"])


def _audit() -> None:
    op.create_table(
        "audit_log",
        sa.Column("audit_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", TIME, nullable=False),
        *(_text(name) for name in ("actor", "action", "subject")),
        sa.Column("facts", JSONB, nullable=False),
        *(_text(name) for name in ("prev_hash", "hash")),
        sa.UniqueConstraint("prev_hash", name="audit_log_chain"),
    )
    op.create_index("audit_log_newest", "audit_log", ["at", "audit_id"])
    # Rows of the audit can be added and read, nothing else, whoever asks.
    op.execute(
        "CREATE FUNCTION audit_is_final() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'rows of the audit are never changed'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_final BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_final()"
    )
