"""Jobs that write the log into a file: they are of no model, and not of one version of the data."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OF_A_FILE = ("model", "model_version", "data_version")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.Text, nullable=False, server_default="predict"))
    for name in OF_A_FILE:
        op.alter_column("jobs", name, nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM job_chunks WHERE job_id IN (SELECT job_id FROM jobs WHERE kind <> 'predict')")
    op.execute("DELETE FROM jobs WHERE kind <> 'predict'")
    for name in OF_A_FILE:
        op.alter_column("jobs", name, nullable=False)
    op.drop_column("jobs", "kind")
