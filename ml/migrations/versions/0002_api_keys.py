"""Keys of the API: the hash of each, its role, and when it was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "role", "sha256", "created_by")),
        sa.Column("created_at", TIME, nullable=False),
        *(sa.Column(name, TIME) for name in ("expires_at", "last_used_at", "revoked_at")),
        sa.Column("revoked_by", sa.Text),
    )


def downgrade() -> None:
    op.drop_table("api_keys")
