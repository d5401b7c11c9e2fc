"""PostgreSQL: the prediction log, the actuals, the uploads, the known bundles and the audit of promotions.

SQLAlchemy Core over psycopg2. Every method raises ServiceDown("database") when PostgreSQL is away. The schema is
made by Alembic (``ml/migrations``) through :meth:`Store.migrate`.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import json
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import psycopg2
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ml import tracing
from ml.copying import LAST, WRITTEN, Layout, Logged, LogRows, frame_rows, log_rows
from ml.errors import BundleDamaged, Conflict, InputError, NotFound, ServiceDown
from ml.records import (
    WHAT_IF,
    ChampionsPage,
    Decision,
    HistoryItem,
    HistoryPage,
    Promotion,
    Purpose,
    Reign,
    Upload,
    UploadStatus,
)

HEAD = "0012"  # newest revision in ml/migrations/versions; a test compares
VERSION_TABLE = "control_room_revision"  # not Alembic's default: Airflow and MLflow use that one
MIGRATION_LOCK = 7_270_001
PROMOTION_LOCK = 7_270_002
REQUEST_ROWS = 100_000  # no request is answered with more rows, and no chunk of a job has more
STREAMED = 2_000  # rows that are fetched at once where many are handed on
COPY_BYTES = 1 << 18  # handed over at once; psycopg2's own 8 KB are many calls
NO_HASH = "0" * 64
# What an exported prediction consists of.
EXPORTED = {
    "prediction_id": pl.Int64, "created_at": pl.String, "date": pl.Date, "store": pl.String, "product": pl.String,
    "prediction": pl.Float64, "unit": pl.String, "model_version": pl.String, "data_version": pl.String,
    "source": pl.String, "request_id": pl.String, "support": pl.Int64, "actual": pl.Float64, "error": pl.Float64,
    "low_80": pl.Float64, "high_80": pl.Float64, "low_95": pl.Float64, "high_95": pl.Float64, "inputs": pl.String,
}  # fmt: skip
MOVES = ("promote", "rollback")  # the actions that make a champion
AUDIT_SCHEMA = "audit"  # where deploy/sealing.py moves what the application may only add to

metadata = sa.MetaData()
_Time = sa.DateTime(timezone=True)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("upload_id", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("record", JSONB, nullable=False),
    sa.UniqueConstraint("sha256", "purpose", name="uploads_content"),
    sa.Index("uploads_newest", "created_at"),
)


def _log_table(name: str, *more: Any, **options: Any) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column(
            "prediction_id", sa.BigInteger, primary_key=True, server_default=sa.text("nextval('predictions_ids')")
        ),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("date", sa.Date, nullable=False),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("prediction", sa.Double, nullable=False),
        sa.Column("low_80", sa.Double),
        sa.Column("high_80", sa.Double),
        sa.Column("low_95", sa.Double),
        sa.Column("high_95", sa.Double),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("model_alias", sa.Text),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("data_version", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("similar_days", sa.BigInteger, nullable=False),
        sa.Column("warnings", ARRAY(sa.Text)),  # null where there are none
        sa.Column("batch", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        *more,
        **options,
    )


# The log in two parts. Which one a row is in follows from how many came with it: see ml.copying.
predictions = _log_table("predictions", postgresql_partition_by="LIST (batch)")
_single = _log_table(
    "predictions_single",
    sa.Index("predictions_series", "store", "product", "prediction_id"),
    sa.Index("predictions_version", "model_version", "prediction_id"),
    # Those of jobs from before there were two parts are found by the next index: they lie together.
    sa.Index("predictions_source", "source", "prediction_id", postgresql_where=sa.text("source <> 'job'")),
    # Rows lie as they were made: what each part of the table spans is enough, and costs nothing to keep.
    sa.Index(
        "predictions_parts",
        "created_at",
        "date",
        "source",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 32, "autosummarize": True},
    ),
)
# An entry in an index for each of many rows would take longer than the rows themselves: they come sorted by series, so
# that a stretch of the table spans few of them.
_bulk = _log_table(
    "predictions_bulk",
    sa.Index(
        "predictions_bulk_parts",
        "created_at",
        "date",
        "store",
        "product",
        "model_version",
        "source",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 8, "autosummarize": True},
    ),
    sa.Index("predictions_bulk_version", "model_version", "prediction_id", postgresql_where=sa.text("batch = 2")),
)
actuals = sa.Table(
    "actuals",
    metadata,
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("product", sa.Text, primary_key=True),
    sa.Column("sales", sa.Double, nullable=False),
    sa.Column("data_version", sa.Text, nullable=False),
)
bundles = sa.Table(
    "bundles",
    metadata,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("manifest_sha256", sa.Text, nullable=False),
    sa.Column("recorded_at", _Time, nullable=False, server_default=sa.func.now()),
)
promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("promotion_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", _Time, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("previous", sa.Text),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decision", JSONB(none_as_null=True)),
    sa.Column("prev_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.UniqueConstraint("prev_hash", name="promotions_chain"),
)
causes = sa.Table(
    "causes",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.now()),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("expires_at", _Time),
    sa.Column("last_used_at", _Time),
    sa.Column("revoked_at", _Time),
    sa.Column("revoked_by", sa.Text),
)

job_table = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("upload_id", sa.Text),
    sa.Column("file_key", sa.Text, nullable=False),
    sa.Column("reading", JSONB, nullable=False),
    sa.Column("model", JSONB),  # null, as the next three, for an export
    sa.Column("model_version", sa.Text),
    sa.Column("model_alias", sa.Text),
    sa.Column("data_version", sa.Text),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("started_at", _Time),
    sa.Column("ended_at", _Time),
    sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", _Time),
    sa.Column("attempts", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rows_total", sa.BigInteger),
    sa.Column("rows_refused", sa.BigInteger),
    sa.Column("rows_done", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("chunks_total", sa.BigInteger),
    sa.Column("chunks_done", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("kind", sa.Text, nullable=False, server_default="predict"),
    sa.Index("jobs_newest", "created_at", "job_id"),
    sa.Index(
        "jobs_content",
        "sha256",
        "reading",
        "model_version",
        "data_version",
        unique=True,
        postgresql_where=sa.text("state NOT IN ('failed', 'cancelled')"),
    ),
)
job_chunks = sa.Table(
    "job_chunks",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", name="job_chunks_job"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("finished_at", _Time, nullable=False),
)
job_workers = sa.Table(
    "job_workers",
    metadata,
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("started_at", _Time, nullable=False),
    sa.Column("seen_at", _Time, nullable=False),
)


@dataclass(frozen=True)
class HistoryFilter:
    """What to show of the log; ``from_date``/``to_date`` bound the predicted day, ``made_from``/``made_to`` the day of
    asking (UTC), all inclusive. ``supported``: whether history has similar days; ``outside``: rows whose actual sales
    lie outside the interval of this level."""

    from_date: dt.date | None = None
    to_date: dt.date | None = None
    store: str | None = None
    product: str | None = None
    version: str | None = None
    source: str | None = None
    has_actual: bool | None = None
    made_from: dt.date | None = None
    made_to: dt.date | None = None
    supported: bool | None = None
    outside: Literal["80", "95"] | None = None


class Store:
    """The application's database.

    Parameters
    ----------
    url : SQLAlchemy URL of a PostgreSQL database, with or without a driver name.

    Examples
    --------
    >>> store = Store("postgresql://app:secret@127.0.0.1:5442/app")  # doctest: +SKIP
    >>> store.migrate()  # doctest: +SKIP
    """

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        # SQLAlchemy 2.1 takes psycopg 3 for a bare postgresql://
        address = sa.make_url(url).set(drivername="postgresql+psycopg2")
        self.engine = sa.create_engine(
            address,
            pool_size=pool_size,
            max_overflow=15,
            pool_timeout=5,
            connect_args={
                "connect_timeout": 3,
                "application_name": "sales-control-room",
                # A server that vanished without a word is noticed after about ten seconds, not two hours.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
                "options": f"-c timezone=UTC -c search_path={AUDIT_SCHEMA},public",
            },
        )
        # Called before the log is read: whoever has rows for it puts them in first.
        self.before_reading: Callable[[], object] = lambda: None
        # SQLAlchemy's own ping costs a round trip at every use; an idle socket tells a lost server for nothing.
        sa.event.listen(self.engine, "checkout", _refuse_lost)

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction; raises ServiceDown when PostgreSQL is away."""
        with _translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading_log(self) -> Iterator[sa.Connection]:
        """As :meth:`begin`, with every prediction that was acknowledged until now in the log."""
        self.before_reading()
        with self.begin() as connection:
            yield connection

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A bare psycopg2 cursor: every statement is one transaction, without the round trips of BEGIN and COMMIT."""
        with _translated():
            connection = self.engine.raw_connection()
            driver: Any = connection.driver_connection
            try:
                driver.autocommit = True
                with driver.cursor() as cursor:
                    yield cursor
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                connection.invalidate()
                raise
            finally:
                if not driver.closed:
                    driver.autocommit = False
                connection.close()

    # -- schema

    def migrate(self) -> None:
        """Bring the schema up to date; several processes may do this at once, and doing it again costs one query."""
        if self.revision() == HEAD:
            return
        with self.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            upgrade(connection)

    def revision(self) -> str | None:
        """The revision of the schema, None in an empty database."""
        with self.begin() as connection:
            if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": VERSION_TABLE}) is None:
                return None
            return connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))

    def check(self) -> float:
        """One round trip in milliseconds; raises ServiceDown."""
        begin = time.perf_counter()
        with self._cursor() as cursor:
            cursor.execute("SELECT 1")
        return (time.perf_counter() - begin) * 1000

    # -- predictions

    def log_predictions(self, rows: Sequence[Logged]) -> None:
        """Write answers to the log: all or none, durable on return."""
        self.log_rows([log_rows(rows)])

    def log_rows(self, batches: Sequence[LogRows], layout: Layout = WRITTEN) -> int:
        """As :meth:`log_predictions`, for rows as COPY takes them; how many rows that were.

        Raises
        ------
        InputError
            PostgreSQL does not take these values: it never will.
        """
        with self._cursor() as cursor, _values_checked():
            return _copied(cursor, batches, layout)

    def log_missing(self, batches: Sequence[LogRows], layout: Layout = WRITTEN) -> int:
        """As :meth:`log_rows`, without what was answered together and is in the log already.

        Returns
        -------
        How many rows were written.
        """
        keys = {(request_id, dt.datetime.fromisoformat(at)) for batch in batches for request_id, at in batch.keys}
        ids, moments = zip(*keys, strict=True)
        seen = predictions.c.request_id, predictions.c.created_at
        with self.begin() as connection, _values_checked():
            query = sa.select(*seen).where(seen[0].in_(ids), seen[1].between(min(moments), max(moments))).distinct()
            there = {(request_id, at.isoformat()) for request_id, at in connection.execute(query)}
            new = [batch for batch in batches if there.isdisjoint(batch.keys)]
            return _copied(connection.connection.cursor(), new, layout)

    def history(
        self, wanted: HistoryFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> HistoryPage:
        """The log, newest first, with the actual sales where they are known.

        ``cursor`` is the ``next_cursor`` of the page before. It holds the identity of the last row shown, so rows
        that arrive meanwhile neither repeat nor shift a page.
        """
        query = _newest_first(wanted or HistoryFilter(), limit + 1, None if cursor is None else read_cursor(cursor))
        with self.reading_log() as connection:
            found = connection.execute(query).mappings().all()
        items = tuple(_history_item(row) for row in found[:limit])
        return HistoryPage(
            items=items, next_cursor=_make_cursor(items[-1].prediction_id) if len(found) > limit else None
        )

    def history_rows(self, wanted: HistoryFilter, *, limit: int) -> Iterator[HistoryItem]:
        """As :meth:`history`, all rows one by one from a cursor of the server: memory does not grow with their number.

        The connection is held until the last row is taken or the iterator is closed.
        """
        with self.reading_log() as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=STREAMED)
            for row in streamed.execute(_newest_first(wanted, limit)).mappings():
                yield _history_item(row)

    def newest_prediction(self) -> int:
        """The identity of the row that is the last one of the log now; 0 for an empty log."""
        with self.reading_log() as connection:
            return connection.scalar(sa.select(sa.func.coalesce(sa.func.max(predictions.c.prediction_id), 0))) or 0

    def history_extent(self, wanted: HistoryFilter, newest: int) -> tuple[int, int]:
        """How many rows up to this one fit, and the first of them (``newest`` + 1 for none)."""
        chosen = _history_query().where(*_history_where(wanted), predictions.c.prediction_id <= newest).subquery()
        with self.begin() as connection:
            rows, first = connection.execute(sa.select(sa.func.count(), sa.func.min(chosen.c.prediction_id))).one()
        return rows, newest + 1 if first is None else first

    def history_frame(self, wanted: HistoryFilter, first: int, last: int) -> pl.DataFrame:
        """The rows that fit between these two (inclusive), newest first, one column per entry of ``EXPORTED``.

        ``created_at`` is text (ISO 8601, UTC) and ``inputs`` JSON text; ``error`` is prediction minus actual.
        """
        found = predictions.c
        made = sa.func.to_char(sa.func.timezone("UTC", found.created_at), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        given = {
            "created_at": made,
            "support": found.similar_days,
            "actual": actuals.c.sales,
            "error": found.prediction - actuals.c.sales,
            "inputs": sa.cast(found.inputs, sa.Text),
        }
        query = (
            _history_query()
            .with_only_columns(*((given[name] if name in given else found[name]).label(name) for name in EXPORTED))
            .where(*_history_where(wanted), found.prediction_id.between(first, last))
            .order_by(found.prediction_id.desc())
        )
        with self.begin() as connection:
            return pl.DataFrame(connection.execute(query).all(), schema=EXPORTED, orient="row")

    def prediction(self, prediction_id: int) -> HistoryItem:
        """One logged prediction; raises NotFound."""
        query = _history_query().where(predictions.c.prediction_id == prediction_id)
        with self.reading_log() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no prediction {prediction_id}.")
        return _history_item(row)

    def prediction_context(self, prediction_id: int) -> list[HistoryItem]:
        """The rows that were answered in the same request as this one, in their order; raises NotFound.

        A request's rows are written at once, so they lie close together: only those around it are looked at.
        """
        one = self.prediction(prediction_id)
        near = predictions.c.prediction_id.between(prediction_id - REQUEST_ROWS, prediction_id + REQUEST_ROWS)
        same = sa.and_(near, predictions.c.request_id == one.request_id, predictions.c.created_at == one.created_at)
        query = _history_query().where(same).order_by(predictions.c.prediction_id)
        with self.begin() as connection:
            return [_history_item(row) for row in connection.execute(query).mappings()]

    def named_by_predictions(self, versions: Sequence[str]) -> frozenset[str]:
        """Which of these versions have answered something that is in the log."""
        if not versions:
            return frozenset()
        asked = sa.func.unnest(sa.cast(list(versions), ARRAY(sa.Text))).table_valued("version").render_derived()
        ends = sa.exists().where(_bulk.c.model_version == asked.c.version, _bulk.c.batch == LAST)
        used = sa.exists().where(_single.c.model_version == asked.c.version) | ends
        with self.reading_log() as connection:
            return frozenset(connection.scalars(sa.select(asked.c.version).where(used)))

    def live_errors(self, version: str, since: dt.date) -> pl.DataFrame:
        """Errors of a model's predictions whose day has come: per date ``error, sold`` (sums, in units) and ``rows``.

        Of several predictions for one store, product and date the last counts; none that was made for a day whose
        sales were known already or lay beyond the horizon that a backtest judges, none that was only tried out.
        """
        p, a = predictions.c, actuals.c
        key = ("date", "store", "product")
        made = (
            sa.select(p.date, p.store, p.product, p.prediction)
            .distinct(*(p[name] for name in key))
            .where(
                p.model_version == version,
                p.date >= since,
                p.source != WHAT_IF,
                p.warnings.overlap(["past_date", "beyond_horizon"]).is_not(True),
            )
            .order_by(*(p[name] for name in key), p.prediction_id.desc())
            .subquery()
        )
        error = sa.func.sum(sa.func.abs(made.c.prediction - a.sales)).label("error")
        query = (
            sa.select(made.c.date, error, sa.func.sum(a.sales).label("sold"), sa.func.count().label("rows"))
            .join(actuals, sa.and_(*(made.c[name] == a[name] for name in key)))
            .group_by(made.c.date)
            .order_by(made.c.date)
        )
        schema = {"date": pl.Date, "error": pl.Float64, "sold": pl.Float64, "rows": pl.Int64}
        with self.reading_log() as connection:
            return pl.DataFrame(connection.execute(query).all(), schema=schema, orient="row")

    def upsert_actuals(self, frame: pl.DataFrame, data_version: str = "") -> int:
        """Insert or correct what really sold; returns the number of rows that are new or changed.

        ``frame`` needs date, store, product, sales (and may have data_version); rows without sales are skipped, of
        rows with the same key the last one counts.
        """
        keys = ["date", "store", "product"]
        if "data_version" not in frame.columns:
            frame = frame.with_columns(pl.lit(data_version).alias("data_version"))
        rows = frame.select(*keys, "sales", "data_version").filter(pl.col("sales").is_not_null())
        rows = rows.unique(keys, keep="last", maintain_order=True)
        with self.begin() as connection:
            cursor = connection.connection.cursor()
            cursor.execute("CREATE TEMP TABLE incoming (LIKE actuals) ON COMMIT DROP")
            cursor.copy_expert(
                "COPY incoming (date, store, product, sales, data_version) FROM STDIN (FORMAT csv)", _csv(rows)
            )
            cursor.execute(
                "INSERT INTO actuals (date, store, product, sales, data_version)"
                " SELECT date, store, product, sales, data_version FROM incoming"
                " ON CONFLICT (date, store, product) DO UPDATE"
                " SET sales = excluded.sales, data_version = excluded.data_version"
                " WHERE actuals.sales IS DISTINCT FROM excluded.sales"
            )
            return int(cursor.rowcount)

    # -- uploads

    def add_upload(self, upload: Upload) -> Upload:
        """Record a new file. A file with the same content and purpose is not added: that one is returned, with
        ``duplicate_of`` naming it."""
        statement = pg_insert(uploads).values(**_upload_values(upload)).on_conflict_do_nothing()
        with self.begin() as connection:
            if connection.execute(statement).rowcount:
                return upload
        known = self.find_upload(upload.sha256, upload.purpose)
        if known is None:
            raise Conflict(f"Upload {upload.upload_id} exists already.")
        return known.model_copy(update={"duplicate_of": known.upload_id})

    def save_upload(self, upload: Upload) -> None:
        """Replace the record of a known upload; raises NotFound."""
        values = _upload_values(upload)
        statement = sa.update(uploads).where(uploads.c.upload_id == upload.upload_id).values(**values)
        with self.begin() as connection:
            if not connection.execute(statement).rowcount:
                raise NotFound(f"There is no upload {upload.upload_id}.")

    def upload(self, upload_id: str) -> Upload:
        """One upload; raises NotFound."""
        with self.begin() as connection:
            record = connection.scalar(sa.select(uploads.c.record).where(uploads.c.upload_id == upload_id))
        if record is None:
            raise NotFound("There is no upload with this id.", upload_id=upload_id)
        return Upload.model_validate(record)

    def find_upload(self, sha256: str, purpose: Purpose) -> Upload | None:
        """The upload with this content, if there is one."""
        query = sa.select(uploads.c.record).where(uploads.c.sha256 == sha256, uploads.c.purpose == purpose)
        with self.begin() as connection:
            record = connection.scalar(query)
        return None if record is None else Upload.model_validate(record)

    def uploads(
        self, *, status: UploadStatus | None = None, purpose: Purpose | None = None, limit: int = 200
    ) -> list[Upload]:
        """Uploads, newest first."""
        query = sa.select(uploads.c.record).order_by(uploads.c.created_at.desc(), uploads.c.upload_id).limit(limit)
        if status is not None:
            query = query.where(uploads.c.status == status)
        if purpose is not None:
            query = query.where(uploads.c.purpose == purpose)
        with self.begin() as connection:
            return [Upload.model_validate(record) for record in connection.scalars(query)]

    def set_upload_status(
        self, upload_ids: Sequence[str], status: UploadStatus, data_version: str | None = None
    ) -> None:
        """Move uploads to a status, with its time; ``data_version`` is the snapshot that has them."""
        now = dt.datetime.now(dt.UTC)
        changes: dict[str, Any] = {"status": status}
        if status in ("accepted", "processed"):
            changes[f"{status}_at"] = now.isoformat()
        if data_version is not None:
            changes["data_version"] = data_version
        statement = (
            sa.update(uploads)
            .where(uploads.c.upload_id.in_(upload_ids))
            .values(status=status, record=uploads.c.record.op("||")(sa.cast(changes, JSONB)))
        )
        with self.begin() as connection:
            connection.execute(statement)
            for upload_id in upload_ids if status == "accepted" else ():
                note_cause(connection, f"upload-{upload_id}")

    # -- bundles

    def record_bundle(self, version: str, manifest_sha256: str) -> None:
        """Note the manifest hash of a registered version. A version keeps its first hash: raises BundleDamaged when
        another one is given."""
        statement = pg_insert(bundles).values(version=version, manifest_sha256=manifest_sha256).on_conflict_do_nothing()
        with self.begin() as connection:
            connection.execute(statement)
        self.require_bundle(version, manifest_sha256)

    def bundle_sha256(self, version: str) -> str | None:
        """The recorded manifest hash of a version."""
        with self.begin() as connection:
            return connection.scalar(sa.select(bundles.c.manifest_sha256).where(bundles.c.version == version))

    def require_bundle(self, version: str, manifest_sha256: str) -> None:
        """Raises BundleDamaged unless this manifest is the one that was recorded for the version."""
        known = self.bundle_sha256(version)
        if known != manifest_sha256:
            seen = "no manifest was recorded at its registration" if known is None else f"recorded was {known[:12]}…"
            raise BundleDamaged(
                f"The manifest of version {version} is {manifest_sha256[:12]}…, {seen}.", version=version
            )

    # -- causes

    def cause(self, event_id: str) -> tracing.Trace:
        """The trace of the request that something was done for, continued here; a new one where nobody noted it."""
        query = sa.select(causes.c.traceparent, causes.c.request_id).where(causes.c.event_id == event_id)
        with self.begin() as connection:
            found = connection.execute(query).one_or_none()
        return tracing.new() if found is None else tracing.continued([found[0]], request_id=found[1])

    # -- promotions

    def champion(self) -> str | None:
        """The version that the audit says is champion."""
        last = self.last_move()
        return None if last is None else last.version

    def last_move(self) -> Promotion | None:
        """The audit row that made the present champion."""
        with self.begin() as connection:
            return _last_move(connection)

    def promotions(self, limit: int = 200) -> list[Promotion]:
        """The audit, newest first."""
        query = sa.select(promotions).order_by(promotions.c.promotion_id.desc()).limit(limit)
        with self.begin() as connection:
            return [_promotion(row) for row in connection.execute(query).mappings()]

    def promote(
        self,
        version: str,
        *,
        expected_previous: str | None,
        actor: str,
        reason: str,
        decision: Decision | None = None,
        action: Literal["promote", "rollback", "reject"] = "promote",
        move: Callable[[], object] = lambda: None,
        once: bool = False,
    ) -> Promotion:
        """Move the champion alias and write the audit row, as one step under a lock.

        The row is written, then ``move`` moves the alias, then the row is committed: until then nothing has happened,
        and :meth:`settle` puts an alias back that a killed process has moved. If ``move`` raises, nothing is recorded.
        Promoting what is already champion moves again and returns the row that made it so: a retried step leaves one
        row. With ``once`` a version that was promoted before is not promoted again: a late retry does not undo what
        was decided after it.

        Raises
        ------
        Conflict
            The champion is no longer ``expected_previous``: someone else was faster. Or the version is retired.
        """
        with self._locked() as connection:
            last = _last_move(connection)
            if action in MOVES:
                known = _already(connection, last, version, once)
                if known is not None:
                    if last is not None and last.version == version:
                        move()
                    return known
                _refuse_retired(connection, version)
                if last is not None:
                    _refuse_stale(last, expected_previous)
            previous = expected_previous if last is None else last.version
            made = _added(connection, action, version, previous, actor, reason, decision)
            if action in MOVES:
                move()
            return made

    def settle(self, seen: Callable[[], str | None], move: Callable[[str], object]) -> tuple[str | None, str] | None:
        """Put the alias back to what the audit says, which is the truth; returns (was, is now) if it had to.

        ``seen`` says where the alias is, ``move`` moves it; both under the lock. While somebody else holds the lock
        the alias is on its way, and nothing is done.
        """
        with self.begin() as connection:
            if not connection.scalar(sa.text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": PROMOTION_LOCK}):
                return None
            last, found = _last_move(connection), seen()
            if last is None or last.version == found:
                return None
            move(last.version)
            return found, last.version

    def retire(self, version: str, *, actor: str, reason: str) -> Promotion:
        """Note in the audit that the files of a version are given up; from now on it cannot be promoted.

        Done again it returns the row that is there. Raises Conflict for the champion.
        """
        with self._locked() as connection:
            last, known = _last_move(connection), _retirement(connection, version)
            if known is not None:
                return known
            if last is not None and last.version == version:
                raise Conflict(f"Version {version} is the champion: it cannot be retired.", version=version)
            return _added(connection, "retire", version, None, actor, reason, None)

    def retired_versions(self) -> frozenset[str]:
        """The versions whose files the audit says are given up."""
        with self.begin() as connection:
            found = connection.scalars(sa.select(promotions.c.version).where(promotions.c.action == "retire"))
            return frozenset(found)

    @contextmanager
    def _locked(self) -> Iterator[sa.Connection]:
        """A transaction that holds the lock of the audit."""
        with self.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": PROMOTION_LOCK})
            yield connection

    def champions(self, *, limit: int = 100, cursor: str | None = None) -> ChampionsPage:
        """Who was champion when, by whom and why, newest first; ``cursor`` as in :meth:`history`."""
        after = promotions.c.at.label("since")
        until = sa.func.lead(promotions.c.at).over(order_by=promotions.c.promotion_id).label("until")
        moves = sa.select(promotions, after, until).where(promotions.c.action.in_(MOVES)).subquery()
        query = sa.select(moves).order_by(moves.c.promotion_id.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(moves.c.promotion_id < read_cursor(cursor))
        with self.begin() as connection:
            found = connection.execute(query).mappings().all()
        items = tuple(_reign(row) for row in found[:limit])
        return ChampionsPage(
            items=items, next_cursor=_make_cursor(items[-1].promotion_id) if len(found) > limit else None
        )

    def rollback_target(self) -> str:
        """The version that was champion before the present one was promoted; raises Conflict when there is none."""
        with self.begin() as connection:
            last = _last_move(connection)
            made = None if last is None else _made_champion(connection, last.version)
        if made is None or made.previous is None:
            raise Conflict("There is no earlier champion to go back to.")
        return made.previous

    def broken_promotion(self) -> int | None:
        """The first audit row whose hash does not follow from its content and the row before; None if all do."""
        before = NO_HASH
        with self.begin() as connection:
            for row in connection.execute(sa.select(promotions).order_by(promotions.c.promotion_id)).mappings():
                if row["prev_hash"] != before or row["hash"] != _audit_hash(dict(row)):
                    return int(row["promotion_id"])
                before = row["hash"]
        return None


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Run the Alembic migrations on an open transaction."""
    from alembic import command

    # New tables are the application's own; deploy/sealing.py's function then takes those that are only added to.
    connection.execute(sa.text(f"SET LOCAL search_path = public, {AUDIT_SCHEMA}"))
    command.upgrade(_alembic(connection), revision)
    if connection.scalar(sa.text(f"SELECT to_regprocedure('{AUDIT_SCHEMA}.seal()') IS NOT NULL")):
        connection.execute(sa.text(f"SELECT {AUDIT_SCHEMA}.seal()"))


def _alembic(connection: sa.Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _translated() -> Iterator[None]:
    """What the driver or the pool says when PostgreSQL is away, as ServiceDown."""
    lost = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
    try:
        yield
    except (*lost, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise _down(error) from error
    except (sa.exc.ProgrammingError, psycopg2.errors.UndefinedTable) as error:
        if isinstance(getattr(error, "orig", error), psycopg2.errors.UndefinedTable):
            raise ServiceDown("database", "its tables are still being made") from error
        raise


def _refuse_lost(connection: Any, record: object, proxy: object) -> None:
    """Something to read on an idle connection is nearly always its end: make sure, and let the pool replace it."""
    try:
        poll = select.poll()  # not select.select, which ends at file 1024
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.rollback()
    except (OSError, ValueError, psycopg2.Error) as error:
        raise sa.exc.DisconnectionError from error


def _down(error: Exception) -> ServiceDown:
    # The driver's own text may name host, user and database: only its kind goes out.
    kind = type(getattr(error, "orig", None) or error).__name__
    return ServiceDown("database", f"PostgreSQL cannot be used now ({kind})")


# ---------------------------------------------------------------- rows


def _json(value: Any) -> str:
    # PostgreSQL's JSONB has no NUL character.
    return json.dumps(_without_nul(value), ensure_ascii=False, separators=(",", ":"), default=str)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value


def _csv(frame: pl.DataFrame) -> io.BytesIO:
    """The rows as CSV for COPY: null is empty, an empty text is quoted."""
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False, quote_style="non_numeric")
    buffer.seek(0)
    return buffer


def copy_predictions(cursor: Any, frame: pl.DataFrame) -> None:
    """A frame, as :func:`ml.copying.frame_rows` takes it, into the log within whatever transaction the cursor is in."""
    cursor.copy_expert(WRITTEN.statement, io.BytesIO(frame_rows(frame)), size=COPY_BYTES)


def _copied(cursor: Any, batches: Sequence[LogRows], layout: Layout) -> int:
    cursor.copy_expert(layout.statement, io.BytesIO(layout.stream(batches)), size=COPY_BYTES)
    return int(cursor.rowcount)


@contextmanager
def _values_checked() -> Iterator[None]:
    try:
        yield
    except psycopg2.DataError as error:
        raise InputError(f"The log does not take these values: {str(error).splitlines()[0]}") from error


def _history_query(log: sa.Table = predictions) -> sa.Select[Any]:
    same = sa.and_(*(actuals.c[key] == log.c[key] for key in ("date", "store", "product")))
    columns = [c for c in log.c if c.name not in ("model_alias", "run_id", "warnings", "batch")]
    return sa.select(*columns, actuals.c.sales.label("actual")).select_from(log.outerjoin(actuals, same))


def _newest_first(wanted: HistoryFilter, limit: int, before: int | None = None) -> sa.Select[Any]:
    """What fits, from below ``before`` on: the newest rows of each part of the log, and of these the newest."""
    parts = [_newest_of(log, wanted, limit, before).subquery().select() for log in (_single, _bulk)]
    both = sa.union_all(*parts).subquery()
    return sa.select(both).order_by(both.c.prediction_id.desc()).limit(limit)


def _newest_of(log: sa.Table, wanted: HistoryFilter, limit: int, before: int | None) -> sa.Select[Any]:
    newest = log.c.prediction_id
    query = _history_query(log).where(*_history_where(wanted, log))
    if before is not None:
        query = query.where(newest < before)
    if log is _bulk and wanted.version is not None:  # not through all newer rows of other versions
        ends = _bulk.alias("ends").c
        last = sa.select(sa.func.max(ends.prediction_id)).where(
            ends.model_version == wanted.version, ends.batch == LAST
        )
        query = query.where(newest <= last.scalar_subquery())
    # PostgreSQL would go through all newer rows of other series, where few stretches of the table have this one at all.
    by_parts = log is _bulk and wanted.store is not None and wanted.product is not None
    return query.order_by((newest + 0 if by_parts else newest).desc()).limit(limit)


def _history_where(wanted: HistoryFilter, log: sa.Table = predictions) -> list[sa.ColumnElement[bool]]:
    columns = log.c
    pairs = ((columns.store, wanted.store), (columns.product, wanted.product), (columns.source, wanted.source))
    where: list[sa.ColumnElement[bool]] = [column == value for column, value in pairs if value is not None]
    if wanted.version is not None:
        where.append(columns.model_version == wanted.version)
    if wanted.from_date is not None:
        where.append(columns.date >= wanted.from_date)
    if wanted.to_date is not None:
        where.append(columns.date <= wanted.to_date)
    if wanted.has_actual is not None:
        where.append(actuals.c.sales.is_not(None) if wanted.has_actual else actuals.c.sales.is_(None))
    return where + _further_where(wanted, log)


def _further_where(wanted: HistoryFilter, log: sa.Table) -> list[sa.ColumnElement[bool]]:
    columns = log.c
    where: list[sa.ColumnElement[bool]] = []
    if wanted.made_from is not None:
        where.append(columns.created_at >= _midnight(wanted.made_from))
    if wanted.made_to is not None:
        where.append(columns.created_at < _midnight(wanted.made_to + dt.timedelta(days=1)))
    if wanted.supported is not None:
        where.append(columns.similar_days > 0 if wanted.supported else columns.similar_days == 0)
    if wanted.outside is not None:
        bounds = columns[f"low_{wanted.outside}"], columns[f"high_{wanted.outside}"]
        where.append(~actuals.c.sales.between(*bounds))
    return where


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _history_item(row: sa.RowMapping) -> HistoryItem:
    values = dict(row)
    interval = {
        level: (values[f"low_{level}"], values[f"high_{level}"])
        for level in ("80", "95")
        if values[f"low_{level}"] is not None
    }
    actual = values["actual"]
    return HistoryItem(
        **{name: values[name] for name in HistoryItem.model_fields if name in values},
        interval=interval,
        support=values["similar_days"],
        error=None if actual is None else values["prediction"] - actual,
    )


def _make_cursor(prediction_id: int) -> str:
    return base64.urlsafe_b64encode(f"p{prediction_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The identity in a cursor; raises InputError for anything that we did not hand out."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    if not re.fullmatch(r"p\d{1,18}", text) or _make_cursor(int(text[1:])) != cursor:
        raise InputError("The cursor is not one of ours: take next_cursor of the page before.", field="cursor")
    return int(text[1:])


def _upload_values(upload: Upload) -> dict[str, Any]:
    return {
        "upload_id": upload.upload_id,
        "sha256": upload.sha256,
        "purpose": upload.purpose,
        "status": upload.status,
        "created_at": upload.created_at,
        "record": _without_nul(json.loads(upload.model_dump_json())),
    }


# ---------------------------------------------------------------- causes


def note_cause(connection: sa.Connection, event_id: str, trace: tracing.Trace | None = None) -> None:
    """Note which request something was done for (by default the present one), to tell those who hear of it later."""
    trace = trace or tracing.current()
    if trace is not None:
        values = {"event_id": event_id, "traceparent": trace.traceparent, "request_id": trace.request_id}
        connection.execute(pg_insert(causes).values(**values).on_conflict_do_nothing())


# ---------------------------------------------------------------- audit


def _promotion(row: sa.RowMapping) -> Promotion:
    return Promotion(**{name: row[name] for name in Promotion.model_fields})


def _last_move(connection: sa.Connection) -> Promotion | None:
    return _newest(connection, promotions.c.action.in_(MOVES))


def _made_champion(connection: sa.Connection, version: str) -> Promotion | None:
    return _newest(connection, promotions.c.action == "promote", promotions.c.version == version)


def _retirement(connection: sa.Connection, version: str) -> Promotion | None:
    return _newest(connection, promotions.c.action == "retire", promotions.c.version == version)


def _newest(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Promotion | None:
    query = sa.select(promotions).where(*where).order_by(promotions.c.promotion_id.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _promotion(row)


def _already(connection: sa.Connection, last: Promotion | None, version: str, once: bool) -> Promotion | None:
    """The row by which this version is champion; with ``once`` also the one by which it has been."""
    if last is not None and last.version == version:
        return last
    return _made_champion(connection, version) if once else None


def _reign(row: sa.RowMapping) -> Reign:
    decision = row["decision"] or {}
    names = (name for name in Reign.model_fields if name in row)
    return Reign(**{name: row[name] for name in names}, verdict=decision.get("verdict"), gain=decision.get("gain"))


def _refuse_retired(connection: sa.Connection, version: str) -> None:
    gone = _retirement(connection, version)
    if gone is not None:
        raise Conflict(
            f"The files of version {version} were given up at {gone.at:%Y-%m-%d %H:%M} UTC ({gone.reason}): "
            "promote a version that is kept, or train anew.",
            version=version,
        )


def _refuse_stale(last: Promotion, expected: str | None) -> None:
    if last.version != expected:
        seen = "no champion" if expected is None else f"version {expected}"
        raise Conflict(
            f"The champion is version {last.version} since {last.at:%Y-%m-%d %H:%M:%S} UTC (by {last.actor}), "
            f"but this decision was made against {seen}: look again and decide anew.",
            champion=last.version,
            expected=expected,
        )


def _audit_hash(row: dict[str, Any]) -> str:
    names = ("action", "version", "previous", "actor", "reason", "decision", "prev_hash")
    content = {name: row[name] for name in names} | {"at": row["at"].astimezone(dt.UTC).isoformat()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _added(
    connection: sa.Connection,
    action: str,
    version: str,
    previous: str | None,
    actor: str,
    reason: str,
    decision: Decision | None,
) -> Promotion:
    """One more row at the end of the chain."""
    row = _chained(
        connection,
        at=dt.datetime.now(dt.UTC),
        action=action,
        version=version,
        previous=previous,
        actor=actor,
        reason=reason,
        decision=None if decision is None else json.loads(decision.model_dump_json()),
    )
    made = _promotion(connection.execute(sa.insert(promotions).values(**row).returning(promotions)).mappings().one())
    note_cause(connection, f"promotion-{made.promotion_id}")
    return made


def _chained(connection: sa.Connection, **row: Any) -> dict[str, Any]:
    query = sa.select(promotions.c.hash).order_by(promotions.c.promotion_id.desc()).limit(1)
    row["prev_hash"] = connection.scalar(query) or NO_HASH
    return row | {"hash": _audit_hash(row)}
