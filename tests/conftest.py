"""Real servers for the tests, each on free ports in a folder of its own, started when first asked for.

Nothing here reaches the network. What cannot be had on a machine (Chromium) is skipped with the reason.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from psycopg2 import sql

from deploy import probes
from deploy.leader import Leader
from deploy.logs import ChildLog
from deploy.ports import PORTS, free_ports
from deploy.postgres import Postgres
from deploy.postgres_files import run_as
from deploy.state import RunNote, read_note
from ml.settings import PREFIX, Settings, load_settings, variable

ROOT = Path(__file__).resolve().parent.parent
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STACK_SECONDS = 900  # three minutes on an idle machine with two cores, ten on a busy one
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that asks for the whole product waits for its first start."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(STACK_SECONDS + 300))


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder that `nobody` may pass, unlike pytest's own: root hands PostgreSQL to that account."""
    folder = Path(tempfile.mkdtemp(prefix=f"control-room-{name}-")).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(
    command: list[str],
    env: Mapping[str, str],
    ready: probes.Probe,
    log: Path,
    seconds: float = 90,
    patience: float = 5.0,
    **how: Any,
) -> Iterator[int]:
    """A server until the end of the block, then it and all it started are ended by their ids.

    ``patience`` is how long it may take to end by itself: SeaweedFS would take 5 s for nothing.
    """
    with log.open("ab") as output:
        leader = Leader(command, env, f"test-{uuid.uuid4().hex}", output=output, **how)
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            if leader.has_exited() or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} did not come up:\n{ChildLog(log).tail(40)}", pytrace=False)
            time.sleep(0.05)
        yield leader.pid
    finally:
        leader.end(patience)


@pytest.fixture(scope="session")
def serving_process() -> Callable[..., Any]:
    """:func:`running`, for tests that start servers of their own: ``with serving_process(command, settings, …)``."""

    @contextmanager
    def serve(command: list[str], settings: Mapping[str, str], url: str, log: Path) -> Iterator[int]:
        with running(command, {**clean_environment(), **settings}, probes.answers(url), log, cwd=ROOT) as pid:
            yield pid

    return serve


def clean_environment() -> dict[str, str]:
    """Ours without anybody's settings of the product."""
    foreign = (PREFIX, "AIRFLOW", "MLFLOW_", "STREAMLIT_", "AWS_", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}


# ---------------------------------------------------------------- PostgreSQL


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The embedded PostgreSQL, with the role `app`."""
    with temporary_folder("postgres") as data:
        server = Postgres.at(data, free_ports(1)[0], secrets.token_hex(8), {"app": secrets.token_hex(8)})
        server.prepare()
        how: dict[str, Any] = {"cwd": data, **run_as(server.place.account)}
        with running(list(server.command), server.env, server.is_ready, data / "postgres.log", **how):
            server.make_databases()
            yield server


@pytest.fixture(scope="session")
def new_database(postgres: Postgres) -> Callable[[], str]:
    """Makes an empty database, owned by the role `app`, and returns its SQLAlchemy URL."""

    def make() -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        _as_superuser(postgres, sql.SQL("CREATE DATABASE {} OWNER app").format(sql.Identifier(name)))
        return postgres.url("app").rpartition("/")[0] + f"/{name}"

    return make


def _as_superuser(server: Postgres, statement: sql.Composable) -> None:
    connection = psycopg2.connect(
        host="127.0.0.1", port=server.port, user="postgres", password=server.password, dbname="postgres"
    )
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


@pytest.fixture
def database_url(postgres: Postgres, new_database: Callable[[], str]) -> Iterator[str]:
    """An empty database for this test alone."""
    url = new_database()
    yield url
    name = sql.Identifier(url.rpartition("/")[2])
    _as_superuser(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


# ---------------------------------------------------------------- S3


@dataclass(frozen=True)
class S3:
    """A real S3 server with one bucket; ``environment`` is what boto3 needs to find it."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """SeaweedFS from its wheel."""
    weed = Path(sys.executable).parent / "weed"
    with temporary_folder("s3") as data:
        master, volume, filer, port, *grpc = free_ports(8)
        server = S3(f"http://127.0.0.1:{port}", "test-key", secrets.token_hex(16), "control-room")
        command = [str(weed), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += ["-master.peers=none", "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=8"]
        command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}"]
        command += [f"-{part}.port.grpc={n}" for part, n in zip(("master", "volume", "filer", "s3"), grpc, strict=True)]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"]
        command += [
            "-s3.allowDeleteBucketNotEmpty=false",
            "-volume.preStopSeconds=0",
            f"-filer.localSocket={data}/filer.sock",
        ]
        env = {**clean_environment(), **server.environment, "GOMEMLIMIT": "200MiB"}
        ready = probes.answers(f"{server.endpoint}/readyz")
        with running(command, env, ready, data / "weed.log", patience=0.2, cwd=data):
            _make_bucket(server)
            yield server


def _make_bucket(server: S3) -> None:
    """The first write takes about a second longer than /readyz says."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=server.bucket)
    deadline = time.monotonic() + 30
    while True:
        try:
            client.put_object(Bucket=server.bucket, Key="probe", Body=b"1")
            break
        except client.exceptions.ClientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    client.delete_object(Bucket=server.bucket, Key="probe")


# ---------------------------------------------------------------- MLflow


@pytest.fixture(scope="session")
def mlflow_server(new_database: Callable[[], str]) -> Iterator[str]:
    """URL of a real MLflow server on PostgreSQL."""
    with temporary_folder("mlflow") as data:
        (port,) = free_ports(1)
        env = {
            **clean_environment(),
            "MLFLOW_BACKEND_STORE_URI": new_database(),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-m", "deploy.mlflow_server", str(port), str(data / "artifacts")]
        url = f"http://127.0.0.1:{port}"
        with running(command, env, probes.answers(f"{url}/health"), data / "mlflow.log", cwd=ROOT):
            yield url


# ---------------------------------------------------------------- the whole product


@dataclass(frozen=True)
class Stack:
    """The running product: its settings (with the addresses of its parts), its runner and what that has printed."""

    settings: Settings
    runner: int
    output: Path

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.settings.console_port}"

    @property
    def note(self) -> RunNote:
        """State and pid of every part, now."""
        note = read_note(self.settings.data_dir)
        assert note is not None, f"the product has ended:\n{self.output.read_text()[-4000:]}"
        return note


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole product through the local runner, with a tenth of the demo chain and a champion.

    While a test is being written, STACK names the data folder of a product that runs already (with its settings in the
    environment), and that is used instead.
    """
    if running_already := os.environ.get("STACK"):
        settings = load_settings(os.environ | {variable("data_dir"): running_already})
        yield Stack(settings, read_note(settings.data_dir).pid, Path(os.devnull))  # type: ignore[union-attr]
        return
    with temporary_folder("stack") as folder:
        ports = {variable(name): str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        given = {
            **ports,
            variable("data_dir"): str(folder / "data"),
            variable("demo"): "true",
            variable("demo_scale"): "0.1",
            variable("tuning_trials"): "1",
        }
        settings, output = load_settings(given), folder / "output"
        env = {**clean_environment(), **given}
        command = [sys.executable, "-m", "deploy.local", "up"]

        def ready() -> bool:
            note = read_note(settings.data_dir) if settings.data_dir.exists() else None
            return note is not None and note.phase == "ready"

        try:
            with running(command, env, ready, output, seconds=STACK_SECONDS, patience=45, cwd=ROOT) as runner:
                yield Stack(settings, runner, output)
        finally:
            # the runner has ended its children; this ends what it left if it was killed
            subprocess.run([sys.executable, "-m", "deploy.local", "down"], env=env, cwd=ROOT, timeout=120, check=True)
            _remove_cluster_elsewhere(settings.data_dir)


def _remove_cluster_elsewhere(data: Path) -> None:
    note = data / "postgres-location"
    if note.exists():
        shutil.rmtree(note.read_text().strip(), ignore_errors=True)


# ---------------------------------------------------------------- a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium (a playwright Browser).

    Per module and not per session: playwright's loop keeps running and would break every later `asyncio.run`.
    """
    found = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"NO BROWSER: none of {', '.join(CHROMIUMS)} on PATH; `deploy/bootstrap.sh --dev` installs one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, headless=True, args=list(CHROMIUM_FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()


@pytest.fixture
def store(database_url: str) -> Iterator[Any]:
    """The application's tables in a database of the test's own."""
    from ml.store import Store

    made = Store(database_url)
    made.migrate()
    yield made
    made.close()
