"""The prediction log in two parts: rows that came alone, and those that came with many others.

Many rows at once are written sorted by series and found by a small index of what each stretch of them spans; entries in
an index of all rows took PostgreSQL most of the time of a large job. What is there already stays where it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE predictions RENAME TO predictions_single;
ALTER TABLE predictions_single ADD COLUMN batch smallint NOT NULL DEFAULT 0,
    ALTER COLUMN prediction_id DROP IDENTITY;
CREATE SEQUENCE predictions_ids;
SELECT setval('predictions_ids', (SELECT coalesce(max(prediction_id), 0) + 1 FROM predictions_single), false);
CREATE TABLE predictions (LIKE predictions_single INCLUDING DEFAULTS) PARTITION BY LIST (batch);
ALTER TABLE predictions ALTER COLUMN prediction_id SET DEFAULT nextval('predictions_ids');
ALTER SEQUENCE predictions_ids OWNED BY predictions.prediction_id;
ALTER TABLE predictions ATTACH PARTITION predictions_single FOR VALUES IN (0);
CREATE TABLE predictions_bulk PARTITION OF predictions FOR VALUES IN (1, 2);
ALTER TABLE predictions_bulk ADD PRIMARY KEY (prediction_id);
"""
DOWNGRADE = """
ALTER TABLE predictions DETACH PARTITION predictions_single;
INSERT INTO predictions_single SELECT * FROM predictions_bulk;
DROP TABLE predictions;
ALTER TABLE predictions_single RENAME TO predictions;
ALTER TABLE predictions DROP COLUMN batch, ALTER COLUMN prediction_id ADD GENERATED ALWAYS AS IDENTITY;
SELECT setval(pg_get_serial_sequence('predictions', 'prediction_id'),
    (SELECT coalesce(max(prediction_id), 0) + 1 FROM predictions), false);
"""


def upgrade() -> None:
    _run(UPGRADE)
    op.create_index(
        "predictions_bulk_parts",
        "predictions_bulk",
        ["created_at", "date", "store", "product", "model_version", "source"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 8, "autosummarize": True},
    )
    op.create_index(
        "predictions_bulk_version",
        "predictions_bulk",
        ["model_version", "prediction_id"],
        postgresql_where=sa.text("batch = 2"),
    )


def downgrade() -> None:
    _run(DOWNGRADE)


def _run(statements: str) -> None:
    for statement in filter(None, map(str.strip, statements.split(";"))):
        op.execute(statement)
