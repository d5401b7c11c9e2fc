"""Scenarios that people keep: the plan of each, and who made it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "scenarios",
        sa.Column("scenario_id", sa.Text, primary_key=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("plan", JSONB, nullable=False),
    )
    op.create_index("scenarios_newest", "scenarios", ["updated_at"])


def downgrade() -> None:
    op.drop_table("scenarios")
