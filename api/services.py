"""Everything the routes work with, made once from the settings."""

from __future__ import annotations

import datetime as dt
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from api.alerting import Alerter
from api.champion import Champion
from api.drifting import Drifting
from api.keyring import KeyRing
from api.loading import Loader
from api.metrics import Metrics
from api.parts import Parts, worker_part
from api.published import PublishedFolder
from api.replaying import Replayer
from api.scoring import Scorer
from api.spool import Spool
from api.telling import Teller
from ml.access import Keys
from ml.accounts import Accounts, Sessions
from ml.audit import Audit
from ml.errors import SettingsError
from ml.jobboard import JobBoard
from ml.lake import Lake, open_lake
from ml.registry import Registry
from ml.settings import Settings, variable
from ml.store import Store

if TYPE_CHECKING:
    from ml.orchestration import AirflowClient


class Services:
    """The parts of a running API; :meth:`start` and :meth:`stop` are its life."""

    def __init__(self, settings: Settings) -> None:
        if not settings.database_url:
            raise SettingsError(
                f"{variable('database_url')} is not set: the local start does it; elsewhere name a PostgreSQL.",
                key="database_url",
            )
        self.settings = settings
        self.store = Store(settings.database_url)
        self.board = JobBoard(self.store)
        self.lake: Lake = open_lake(settings.lake_url)
        folder = settings.data_dir / "api"
        self.published = PublishedFolder(self.lake, folder / "snapshots")
        loader = Loader(lambda: self.registry, self.store, folder / "bundles")
        self.champion = Champion(loader, self.published, folder)
        self.metrics = Metrics()
        self.spool = Spool(self.store, folder / "spool")
        self.store.before_reading = self.spool.settle
        self.scorer = Scorer(self.spool, self.metrics.predicted)
        self.keyring = KeyRing(Keys(self.store))
        self.accounts = Accounts(self.store)
        self.audit = Audit(self.store)
        self.sessions = KeyRing(Sessions(self.store, dt.timedelta(minutes=settings.session_idle_minutes)))
        self.alerter = Alerter(self.champion, self.published, self.store)
        self.drifting = Drifting(self.store)
        self.replayer = Replayer(self.champion, self.store, PublishedFolder(self.lake, folder / "replayed"))
        self.parts = Parts(
            {
                "mlflow": lambda: self.registry.check(),
                "airflow": lambda: self.airflow.health(),
                "object store": self.lake.check,
                "database": self.store.check,
                "worker": lambda: worker_part(self.board.queue()),
            }
        )
        self.teller = Teller(self)
        self.metrics.follow(self)
        self._making = threading.Lock()

    # Both clients take a second or more to import: made beside the start, not in it.

    @property
    def registry(self) -> Registry:
        with self._making:
            return self._registry

    @cached_property
    def _registry(self) -> Registry:
        return Registry(self.settings.mlflow)

    @property
    def airflow(self) -> AirflowClient:
        with self._making:
            return self._airflow

    @cached_property
    def _airflow(self) -> AirflowClient:
        from ml.orchestration import AirflowClient

        return AirflowClient(self.settings.airflow, self.settings.airflow_user, self.settings.airflow_password)

    def start(self) -> None:
        self.spool.start()
        self.scorer.start()
        self.champion.start()
        self.teller.start()
        threading.Thread(target=lambda: self.airflow, name="airflow import", daemon=True).start()

    def stop(self) -> None:
        self.teller.stop()
        self.champion.stop()
        self.scorer.stop()
        self.spool.stop()
        self.keyring.note()
        self.sessions.note()
        self.store.close()
