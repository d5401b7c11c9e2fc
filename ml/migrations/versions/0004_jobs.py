"""Jobs for large files: what was asked, which chunks are finished, and which workers are alive."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OPEN = "state NOT IN ('failed', 'cancelled')"


def upgrade() -> None:
    _jobs()
    op.create_table(
        "job_chunks",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", name="job_chunks_job"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("finished_at", TIME, nullable=False),
    )
    op.create_table(
        "job_workers",
        sa.Column("worker", sa.Text, primary_key=True),
        *(sa.Column(name, TIME, nullable=False) for name in ("started_at", "seen_at")),
    )


def downgrade() -> None:
    for table in ("job_workers", "job_chunks", "jobs"):
        op.drop_table(table)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("state", "filename", "sha256", "file_key")),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        *(sa.Column(name, JSONB, nullable=False) for name in ("reading", "model")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("model_version", "data_version", "created_by")),
        *(sa.Column(name, sa.Text) for name in ("upload_id", "model_alias", "worker", "error_code", "error")),
        sa.Column("created_at", TIME, nullable=False),
        *(sa.Column(name, TIME) for name in ("started_at", "ended_at", "lease_until")),
        sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()),
        *(sa.Column(name, sa.BigInteger) for name in ("rows_total", "rows_refused", "chunks_total")),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
            for name in ("attempts", "rows_done", "chunks_done")
        ),
    )
    op.create_index("jobs_newest", "jobs", ["created_at", "job_id"])
    content = ["sha256", "reading", "model_version", "data_version"]
    op.create_index("jobs_content", "jobs", content, unique=True, postgresql_where=sa.text(OPEN))
