"""What a person puts in the place of a forecast, with the reason: kept beside the model's number, never over it."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from ml.records import Judgement, NewJudgement
from ml.store import HistoryFilter, Store, metadata

overrides = sa.Table(
    "overrides",
    metadata,
    sa.Column("override_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("date", sa.Date, nullable=False),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("product", sa.Text, nullable=False),
    sa.Column("units", sa.Double),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
    sa.Index("overrides_series", "store", "product", "date", "override_id"),
)
KEY = (overrides.c.store, overrides.c.product, overrides.c.date)


class Overrides:
    """Rows are only added; of several for a store, product and date the newest counts."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, asked: NewJudgement, by: str) -> Judgement:
        """The override that counts from now on; the same once more adds nothing."""
        key = (overrides.c.date == asked.date, overrides.c.store == asked.store, overrides.c.product == asked.product)
        newest = sa.select(overrides).where(*key).order_by(overrides.c.override_id.desc()).limit(1)
        with self.store.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:key))"), {"key": repr(asked.key)})
            now = connection.execute(newest).mappings().first()
            if now is None or (now["units"], now["reason"]) != (asked.units, asked.reason):
                values = {**asked.model_dump(), "made_by": by, "made_at": dt.datetime.now(dt.UTC)}
                now = connection.execute(overrides.insert().values(**values).returning(overrides)).mappings().one()
        return Judgement.model_validate(dict(now))

    def standing(self, wanted: HistoryFilter, limit: int = 1000) -> list[Judgement]:
        """Those that count, newest day first; what was taken back is not among them."""
        columns = overrides.c
        pairs = ((columns.store, wanted.store), (columns.product, wanted.product))
        where = [column == value for column, value in pairs if value is not None]
        where += [columns.date >= wanted.from_date] if wanted.from_date else []
        where += [columns.date <= wanted.to_date] if wanted.to_date else []
        newest = sa.select(overrides).where(*where).distinct(*KEY).order_by(*KEY, columns.override_id.desc())
        found = newest.subquery()
        query = sa.select(found).where(found.c.units.is_not(None))
        query = query.order_by(found.c.date.desc(), found.c.store, found.c.product).limit(limit)
        with self.store.begin() as connection:
            return [Judgement.model_validate(dict(row)) for row in connection.execute(query).mappings()]
