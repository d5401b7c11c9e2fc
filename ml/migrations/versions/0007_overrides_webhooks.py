"""What people put in the place of a forecast, and who is told of what happens here."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "overrides",
        sa.Column("override_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("date", sa.Date, nullable=False),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("units", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_at", _Time, nullable=False),
    )
    op.create_index("overrides_series", "overrides", ["store", "product", "date", "override_id"])
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", ARRAY(sa.Text), nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("removed_at", _Time),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", _Time, nullable=False),
        sa.Column("data", JSONB, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("event_id", sa.Text, sa.ForeignKey("events.event_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("webhook_id", sa.Text, sa.ForeignKey("webhooks.webhook_id"), primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", _Time, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("delivered_at", _Time),
    )
    op.create_index("deliveries_due", "deliveries", ["due_at"], postgresql_where=sa.text("state = 'waiting'"))


def downgrade() -> None:
    for name in ("deliveries", "events", "webhooks", "overrides"):
        op.drop_table(name)
