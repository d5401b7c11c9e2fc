"""First tables: uploads, predictions, actuals, bundles, promotions (insert only)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _uploads()
    _predictions()
    _actuals_and_bundles()
    _promotions()


def downgrade() -> None:
    for table in ("promotions", "bundles", "actuals", "predictions", "uploads"):
        op.drop_table(table)
    op.execute("DROP FUNCTION promotions_are_final()")


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=nullable)


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_id", sa.Text, primary_key=True),
        *(_text(name) for name in ("sha256", "purpose", "status")),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("record", JSONB, nullable=False),
        sa.UniqueConstraint("sha256", "purpose", name="uploads_content"),
    )
    op.create_index("uploads_newest", "uploads", ["created_at"])


def _predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("prediction_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("date", sa.Date, nullable=False),
        *(_text(name) for name in ("store", "product")),
        sa.Column("inputs", JSONB, nullable=False),
        sa.Column("prediction", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("low_80", "high_80", "low_95", "high_95")),
        *(_text(name) for name in ("unit", "model_version")),
        _text("model_alias", nullable=True),
        *(_text(name) for name in ("run_id", "data_version", "source", "request_id")),
        sa.Column("similar_days", sa.BigInteger, nullable=False),
        sa.Column("warnings", JSONB, nullable=False),
    )
    op.create_index("predictions_series", "predictions", ["store", "product", "prediction_id"])
    op.create_index("predictions_date", "predictions", ["date", "prediction_id"])
    op.create_index("predictions_version", "predictions", ["model_version", "prediction_id"])
    op.create_index("predictions_source", "predictions", ["source", "prediction_id"])


def _actuals_and_bundles() -> None:
    op.create_table(
        "actuals",
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("product", sa.Text, primary_key=True),
        sa.Column("sales", sa.Double, nullable=False),
        _text("data_version"),
    )
    op.create_table(
        "bundles",
        sa.Column("version", sa.Text, primary_key=True),
        _text("manifest_sha256"),
        sa.Column("recorded_at", TIME, nullable=False, server_default=sa.func.now()),
    )


def _promotions() -> None:
    op.create_table(
        "promotions",
        sa.Column("promotion_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", TIME, nullable=False),
        *(_text(name) for name in ("action", "version")),
        _text("previous", nullable=True),
        *(_text(name) for name in ("actor", "reason")),
        sa.Column("decision", JSONB),
        *(_text(name) for name in ("prev_hash", "hash")),
        sa.UniqueConstraint("prev_hash", name="promotions_chain"),
    )
    # Rows of the audit can be added and read, nothing else, whoever asks.
    op.execute(
        "CREATE FUNCTION promotions_are_final() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'rows of the promotion audit are never changed'; END $$"
    )
    op.execute(
        "CREATE TRIGGER promotions_final BEFORE UPDATE OR DELETE OR TRUNCATE ON promotions"
        " FOR EACH STATEMENT EXECUTE FUNCTION promotions_are_final()"
    )
