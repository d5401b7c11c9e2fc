"""The prediction log costs less to write: text where nobody asks for a key of it, a small index for three large ones.

Who asks for a day, a request or the rows of jobs finds the parts of the log that may hold them: rows lie in the order
in which they were made, so each part spans little.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BEFORE = {
    "date": ["date", "prediction_id"],
    "source": ["source", "prediction_id"],
    "request": ["request_id"],
}


def upgrade() -> None:
    for name in BEFORE:
        op.drop_index(f"predictions_{name}", "predictions")
    # One statement, so that the rows are written anew once. Warnings are words of ours, without brackets.
    op.execute(
        "ALTER TABLE predictions ALTER COLUMN inputs TYPE json,"
        " ALTER COLUMN warnings DROP NOT NULL,"
        " ALTER COLUMN warnings TYPE text[] USING nullif(translate(warnings::text, '[]', '{}'), '{}')::text[]"
    )
    others = sa.text("source <> 'job'")
    op.create_index("predictions_source", "predictions", ["source", "prediction_id"], postgresql_where=others)
    op.create_index(
        "predictions_parts",
        "predictions",
        ["created_at", "date", "source"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 32, "autosummarize": True},
    )


def downgrade() -> None:
    for name in ("parts", "source"):
        op.drop_index(f"predictions_{name}", "predictions")
    op.execute(
        "ALTER TABLE predictions ALTER COLUMN inputs TYPE jsonb,"
        " ALTER COLUMN warnings TYPE jsonb USING to_jsonb(coalesce(warnings, '{}'))"
    )
    op.alter_column("predictions", "warnings", existing_type=sa.JSON, nullable=False)
    for name, columns in BEFORE.items():
        op.create_index(f"predictions_{name}", "predictions", columns)
