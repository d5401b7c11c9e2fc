"""The scenarios that people keep, in the application's database."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ml.errors import NotFound
from ml.records import Scenario, ScenarioPlan
from ml.store import Store, metadata

_Time = sa.DateTime(timezone=True)

scenarios = sa.Table(
    "scenarios",
    metadata,
    sa.Column("scenario_id", sa.Text, primary_key=True),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    sa.Column("plan", JSONB, nullable=False),
    sa.Index("scenarios_newest", "updated_at"),
)


class Scenarios:
    """Every method raises ServiceDown when the database is away."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def keep(self, scenario_id: str, plan: ScenarioPlan, by: str) -> Scenario:
        """Keep a plan under this id; who made it first and when stays."""
        now = dt.datetime.now(dt.UTC)
        values = {"plan": plan.model_dump(mode="json"), "updated_at": now}
        statement = pg_insert(scenarios).values(scenario_id=scenario_id, created_at=now, created_by=by, **values)
        statement = statement.on_conflict_do_update(index_elements=["scenario_id"], set_=values)
        with self.store.begin() as connection:
            row = connection.execute(statement.returning(scenarios)).mappings().one()
        return Scenario.model_validate(dict(row))

    def find(self, scenario_id: str) -> Scenario:
        """One scenario; raises NotFound."""
        query = sa.select(scenarios).where(scenarios.c.scenario_id == scenario_id)
        with self.store.begin() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound("There is no scenario with this id.", scenario_id=scenario_id)
        return Scenario.model_validate(dict(row))

    def all(self, limit: int = 200) -> list[Scenario]:
        """Those that were kept or changed last come first."""
        query = sa.select(scenarios).order_by(scenarios.c.updated_at.desc(), scenarios.c.scenario_id).limit(limit)
        with self.store.begin() as connection:
            return [Scenario.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def delete(self, scenario_id: str) -> None:
        """Forget one; raises NotFound."""
        statement = sa.delete(scenarios).where(scenarios.c.scenario_id == scenario_id)
        with self.store.begin() as connection:
            if not connection.execute(statement).rowcount:
                raise NotFound("There is no scenario with this id.", scenario_id=scenario_id)
