"""What a step of a pipeline is given: settings, run id, parameters, and the services behind them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from ml.lake import Lake, open_lake
from ml.registry import Registry
from ml.settings import Settings
from ml.store import Store

log = logging.getLogger("ml.jobs")
Json = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """The services of one run. Without a database URL there is no prediction log and no audit (command line only)."""

    settings: Settings
    run_id: str
    conf: Json

    @cached_property
    def lake(self) -> Lake:
        return open_lake(self.settings.lake_url)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.settings.mlflow_url or self.settings.mlflow)

    @cached_property
    def store(self) -> Store | None:
        if not self.settings.database_url:
            log.warning("No CONTROL_ROOM_DATABASE_URL: actuals and the audit of promotions are not written.")
            return None
        store = Store(self.settings.database_url)
        store.migrate()
        return store

    def key(self, name: str) -> str:
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.run_id)
        return f"runs/{safe}/{name}"

    def put(self, name: str, value: Any) -> None:
        if isinstance(value, pl.DataFrame):
            self.lake.put_frame(self.key(name), value)
        else:
            self.lake.put_json(self.key(name), value)

    def frame(self, name: str) -> pl.DataFrame:
        return self.lake.get_frame(self.key(name))

    def json(self, name: str) -> Any:
        return self.lake.get_json(self.key(name))

    def option(self, name: str, default: Any) -> Any:
        value = self.conf.get(name)
        return default if value in (None, "") else value

    def logged(self, experiment: str, result: Json, *, finish: bool = False, **what: Any) -> Json:
        """Log to the one MLflow run of this pipeline run (see Registry.log) and hand the result on."""
        with self.registry.run(experiment, self.run_id, finish=finish) as mlflow_run:
            self.registry.log(mlflow_run, **what)
        return result
