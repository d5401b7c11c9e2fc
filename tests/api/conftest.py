"""A trained champion in real MLflow, PostgreSQL and a lake, and the API on it, served by uvicorn."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import sqlalchemy as sa
import uvicorn

from api.main import create_app
from api.worker import Worker
from ml import jobs
from ml.bundle import MANIFEST, sha256
from ml.records import ETL_DAG, RETRAIN_DAG
from ml.settings import Settings, load_settings, variable
from ml.store import Store


@pytest.fixture(scope="session")
def make_settings(new_database: Callable[[], str], tmp_path_factory: Any) -> Callable[..., Settings]:
    """Settings with an empty database, an empty lake, and every service away unless it is given."""

    def make(**given: Any) -> Settings:
        folder = tmp_path_factory.mktemp("api")
        values = {
            "data_dir": folder / "data",
            "lake": folder / "lake",
            "database_url": new_database(),
            "mlflow_url": "http://127.0.0.1:9",
            "airflow_url": "http://127.0.0.1:9",
            "upload_limit_mb": 2,
            "tuning_trials": 0,
            "backtest_folds": 1,
            "demo_scale": 0.05,
        } | given
        return load_settings({variable(name): str(value) for name, value in values.items()})

    return make


def run_dag(settings: Settings, dag_id: str, run_id: str, **conf: Any) -> None:
    """A pipeline in this process, up to the point where it would ask the API."""
    context = jobs.Context(settings, run_id, conf)
    for name in jobs.STEPS[dag_id]:
        if name != "confirm":
            jobs.step_of(dag_id, name)(context)


@pytest.fixture(scope="session")
def trained(make_settings: Callable[..., Settings], mlflow_server: str) -> Settings:
    """The demo published and two versions registered: 1 is champion, 2 (the same trees again) the challenger."""
    settings = make_settings(mlflow_url=mlflow_server)
    run_dag(settings, ETL_DAG, "etl-1", source="demo")
    run_dag(settings, RETRAIN_DAG, "train-1", window_days=150)
    register_again(settings, "again-1")
    return settings


def register_again(settings: Settings, run_id: str) -> str:
    """The champion's bundle as one more version, which becomes the challenger."""
    context = jobs.Context(settings, run_id, {})
    registry, store = context.registry, context.store
    assert store is not None
    with tempfile.TemporaryDirectory() as folder:
        path = registry.download("1", Path(folder) / "bundle")
        with registry.run(RETRAIN_DAG, run_id, finish=True) as mlflow_run:
            example = pl.DataFrame({"store": ["S01"], "price": [1.0]}).to_pandas()
            version = registry.register(mlflow_run, path, {"kind": "xgboost"}, example)
        store.record_bundle(version, sha256((path / MANIFEST).read_bytes()))
    registry.set_alias("challenger", version)
    store.close()
    return version


@pytest.fixture(scope="session")
def register() -> Callable[[Settings, str], str]:
    """Registers the champion's bundle once more and returns the new version."""
    return register_again


class Served:
    """A client of one running API, and its inside."""

    def __init__(self, url: str, app: Any) -> None:
        self.url, self.app = url, app
        self.http = httpx.Client(base_url=url, timeout=60)

    @property
    def services(self) -> Any:
        return self.app.state.services

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.http.get(path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.http.post(path, **how)

    def wait_for(self, true: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.get("/health").text
            time.sleep(0.05)

    def ready(self) -> Served:
        self.wait_for(lambda: self.get("/readyz").status_code == 200, seconds=60)
        return self


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """The API in a thread of this process, under uvicorn as in production."""
    app = create_app(settings)
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
        try:
            yield served
        finally:
            served.http.close()
            server.should_exit = True
            thread.join()


class Load:
    """Threads that ask again and again until the block ends; what goes wrong in one of them is raised then.

    ``ask`` is given a client and the thread's number.
    """

    def __init__(self, url: str, ask: Callable[[httpx.Client, int], None], threads: int) -> None:
        self.url, self.ask, self.asked = url, ask, 0
        self._stop, self._errors = threading.Event(), list[BaseException]()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def _run(self, number: int) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=60) as client:
                while not self._stop.is_set():
                    self.ask(client, number)
                    self.asked += 1
        except BaseException as error:
            self._errors.append(error)

    def go_on(self, more: int = 20, seconds: float = 60) -> None:
        """Wait until so many more have been answered."""
        until, end = self.asked + more, time.monotonic() + seconds
        while self.asked < until and not self._errors:
            assert time.monotonic() < end, "nobody is answered any more"
            time.sleep(0.01)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


@pytest.fixture(scope="session")
def under_load() -> Callable[..., Load]:
    """`with under_load(url, ask, threads) as load:` while something happens to what they ask."""
    return Load


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], Any]:
    """`with serve(settings) as api:` for tests that need an API of their own."""
    return serving


@pytest.fixture(scope="session")
def served(trained: Settings) -> Iterator[Served]:
    """The API with a champion. Shared: tests that change the champion make their own."""
    with serving(trained) as made:
        yield made.ready()


@pytest.fixture(scope="module")
def bare(make_settings: Callable[..., Settings]) -> Iterator[Served]:
    """The API with a database and a lake, without any data, with MLflow and Airflow away."""
    with serving(make_settings()) as made:
        made.wait_for(lambda: made.services.store.revision() is not None)
        yield made


@pytest.fixture(scope="session")
def row(served: Served) -> dict[str, Any]:
    """A row that is answered: the first series, three days ahead."""
    catalog = served.get("/v1/catalog").json()
    series = catalog["series"][0]
    date = dt.date.fromisoformat(catalog["date_to"]) + dt.timedelta(days=3)
    return {"store": series["store"], "product": series["product"], "date": str(date), "price": 1.5, "promotion": 1}


@pytest.fixture(scope="session")
def many(served: Served) -> list[dict[str, Any]]:
    """Rows for every series over the horizon."""
    catalog = served.get("/v1/catalog").json()
    until = dt.date.fromisoformat(catalog["date_to"])
    return [
        {"store": s["store"], "product": s["product"], "date": str(until + dt.timedelta(days=k)), "promotion": k % 2}
        for s in catalog["series"]
        for k in range(1, catalog["horizon"] + 1)
    ]


@pytest.fixture(scope="session")
def move_champion(served: Served) -> Callable[[Path, str], str]:
    """Gives the champion, as an API has left it on its disk, to a data folder and an empty database of one's own."""

    def move(data_dir: Path, database_url: str) -> str:
        kept = served.ready().services.settings.data_dir / "api"
        shutil.copytree(kept, data_dir / "api", ignore=shutil.ignore_patterns("spool"))
        store = Store(database_url)
        store.migrate()
        store.record_bundle("1", sha256((data_dir / "api" / "bundles" / "1" / MANIFEST).read_bytes()))
        store.close()
        return database_url

    return move


@pytest.fixture(scope="module")
def alone(
    trained: Settings, move_champion: Any, new_database: Callable[[], str], tmp_path_factory: Any
) -> Iterator[Served]:
    """An API with a champion, whose database and lake nobody else uses: everything is tried on it."""
    folder = tmp_path_factory.mktemp("schema")
    shutil.copytree(trained.lake_url, folder / "lake")
    url = move_champion(folder / "data", new_database())
    changed = {"data_dir": folder / "data", "lake": str(folder / "lake"), "database_url": url}
    with serving(trained.model_copy(update=changed)) as api:
        yield api.ready()


@pytest.fixture
def worker(trained: Settings) -> Iterator[Worker]:
    """A worker that works when it is told to."""
    made = Worker(trained)
    yield made
    made.store.close()


@pytest.fixture
def forgetful(served):
    """Before and afterwards nobody knows what sold on days to come."""

    def forget():
        until = served.get("/v1/catalog").json()["date_to"]
        with served.services.store.begin() as connection:
            connection.exec_driver_sql("DELETE FROM actuals WHERE date > %s", (until,))

    forget()
    yield served
    forget()


class Gone:
    """The test's database accepts nobody, for a while."""

    def __init__(self, postgres, url):
        self.name = url.rpartition("/")[2]
        address = f"postgresql+psycopg2://postgres:{postgres.password}@127.0.0.1:{postgres.port}/postgres"
        self.engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")

    def _say(self, *statements):
        with self.engine.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def __enter__(self):
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'"
        self._say(f"ALTER DATABASE {self.name} WITH ALLOW_CONNECTIONS false", end)

    def __exit__(self, *_):
        self._say(f"ALTER DATABASE {self.name} WITH ALLOW_CONNECTIONS true")
        self.engine.dispose()


@pytest.fixture
def gone(postgres):
    """Makes the context in which the database of a URL accepts nobody."""
    return lambda url: Gone(postgres, url)
