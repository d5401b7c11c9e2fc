"""What a step of a pipeline is given: settings, run id, parameters, and the services behind them."""

from __future__ import annotations

import datetime as dt
import logging
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ml.errors import ServiceDown
from ml.lake import PROGRESS, Lake, open_lake, run_folder
from ml.records import Progress
from ml.registry import Registry
from ml.settings import Settings
from ml.store import Store

log = logging.getLogger("ml.jobs")
Json = dict[str, Any]


def peak_mb() -> float:
    """The most memory that this process has held at once, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: unlike getrusage, not that of the process it was forked from
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 1024 if found else 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@dataclass(frozen=True)
class Context:
    """The services of one run. Without a database URL there is no prediction log and no audit (command line only)."""

    settings: Settings
    run_id: str
    conf: Json
    step: str = ""

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
        return f"{run_folder(self.run_id)}/{name}"

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

    def progress(
        self, unit: Literal["trial", "fold"], number: int, total: int, share: float, ahead: int | None = None
    ) -> None:
        """Say how far the step is, for a person who watches; a step never fails for that."""
        now = Progress(
            step=self.step, unit=unit, number=number, total=total, share=share, ahead=ahead, at=dt.datetime.now(dt.UTC)
        )
        try:
            self.put(PROGRESS, now.model_dump(mode="json"))
        except ServiceDown as error:
            log.warning("The progress could not be shown: %s", error)

    def logged(self, experiment: str, result: Json, *, finish: bool = False, **what: Any) -> Json:
        """Log to the one MLflow run of this pipeline run (see Registry.log) and hand the result on."""
        if self.step:
            what["metrics"] = (what.get("metrics") or {}) | {f"peak_mb_{self.step}": peak_mb()}
        with self.registry.run(experiment, self.run_id, finish=finish) as mlflow_run:
            self.registry.log(mlflow_run, **what)
        return result
