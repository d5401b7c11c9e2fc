"""The predictions of one request, found by its id."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("predictions_request", "predictions", ["request_id"])


def downgrade() -> None:
    op.drop_index("predictions_request")
