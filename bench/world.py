"""A product of one's own to break: PostgreSQL, MLflow, an S3 server and the API, behind proxies, and two businesses.

Two tiny businesses take turns, so that every retraining has a champion to replace: one of another business is judged
against seasonal naive alone, and loses.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import polars as pl

from bench.proxy import Proxy, Trap
from deploy import probes
from deploy.leader import Leader
from deploy.ports import free_ports
from deploy.postgres import Postgres
from deploy.postgres_files import run_as
from ml import demo
from ml.lake import Lake, open_lake
from ml.registry import Registry
from ml.settings import PREFIX, load_settings, variable
from ml.store import Store

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "faults"
READY_SECONDS = 60
FOREIGN = (PREFIX, "AIRFLOW", "MLFLOW_", "AWS_", "PYTHONDONTWRITEBYTECODE")


class World:
    """The services in one folder; :meth:`open` starts them. What the product talks to are the proxies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # root hands PostgreSQL to an account that must pass
        database, mlflow, api, *s3 = free_ports(11)
        roles = {name: secrets.token_hex(8) for name in ("app", "mlflow")}
        self.postgres = Postgres.at(folder / "postgres", database, secrets.token_hex(8), roles)
        self.mlflow_port, self.api_port, self.s3_ports = mlflow, api, s3
        self.keys = {"AWS_ACCESS_KEY_ID": "faults", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
        self.proxies = {
            "postgres": Proxy(database, "sql", "postgres"),
            "mlflow": Proxy(mlflow, "http", "mlflow"),
            "s3": Proxy(s3[0], "http", "s3"),
        }
        self._running: dict[str, Leader] = {}

    @contextmanager
    def open(self) -> Iterator[World]:
        """Everything running, both businesses as files, until the end of the block."""
        try:
            (self.folder / "postgres").mkdir(exist_ok=True)
            (self.folder / "postgres").chmod(0o711)
            self.postgres.prepare()
            self.start("postgres")
            self.postgres.make_databases()
            self.start("s3")
            self._make_bucket()
            self.start("mlflow")
            self.connect()
            for number, name in enumerate(("a", "b")):
                write_business(self.folder / f"{name}.csv", name.upper(), seed=number + 1)
            yield self
        finally:
            for proxy in self.proxies.values():
                proxy.close()
            for name in ("api", "mlflow", "s3", "postgres"):
                self.stop(name)

    def connect(self) -> None:
        """Our own eyes, past the proxies."""
        self.store = Store(self.postgres.url("app"))
        self.store.migrate()
        self.registry = Registry(f"http://127.0.0.1:{self.mlflow_port}")
        with _variables(self.s3_environment(self.s3_ports[0])):  # boto3 reads them when the client is made
            self.lake: Lake = open_lake(f"s3://{BUCKET}/lake")

    # -- services

    def start(self, name: str) -> None:
        command, env, ready, how = getattr(self, f"_{name}")()
        with (self.folder / f"{name}.log").open("ab") as output:
            self._running[name] = Leader(command, env, f"faults-{uuid.uuid4().hex}", output=output, **how)
        wait_for(ready, f"{name} is ready", READY_SECONDS)

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End a service; ``kill``: with kill -9, as a crash would."""
        leader = self._running.pop(name, None)
        if leader is None:
            return
        if kill:
            leader.signal(signal.SIGKILL, group=True)
        elif name == "postgres":
            leader.signal(signal.SIGINT)  # "fast"
        leader.end(5.0)

    def restart(self, name: str) -> None:
        """A crash and a new start."""
        self.stop(name, kill=True)
        if name == "postgres":
            self.postgres.prepare()
        self.start(name)

    def _postgres(self) -> tuple[list[str], Mapping[str, str], Callable[[], bool], dict[str, Any]]:
        how: dict[str, Any] = {"cwd": self.folder, **run_as(self.postgres.place.account)}
        how["postgres_in"] = self.postgres.place.cluster
        return list(self.postgres.command), self.postgres.env, self.postgres.is_ready, how

    def _mlflow(self) -> tuple[list[str], Mapping[str, str], Callable[[], bool], dict[str, Any]]:
        env = {
            **clean_environment(),
            "MLFLOW_BACKEND_STORE_URI": self.postgres.url("mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-m", "deploy.mlflow_server", str(self.mlflow_port), str(self.folder / "artifacts")]
        return command, env, probes.answers(f"http://127.0.0.1:{self.mlflow_port}/health"), {"cwd": ROOT}

    def _s3(self) -> tuple[list[str], Mapping[str, str], Callable[[], bool], dict[str, Any]]:
        port, master, volume, filer, *grpc = self.s3_ports
        data = self.folder / "s3"
        data.mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).parent / "weed"),
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-filer",
            "-s3",
        ]
        command += ["-ip.bind=127.0.0.1", "-master.peers=none", "-master.telemetry=false", "-volume.max=8"]
        command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}"]
        command += [f"-{part}.port.grpc={n}" for part, n in zip(("master", "volume", "filer", "s3"), grpc, strict=True)]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.preStopSeconds=0", "-s3.autoCreateBucket=false"]
        command += ["-master.volumeSizeLimitMB=64", f"-filer.localSocket={data}/filer.sock"]
        env = {**clean_environment(), **self.s3_environment(port), "GOMEMLIMIT": "200MiB"}
        return command, env, probes.answers(f"http://127.0.0.1:{port}/readyz"), {"cwd": data}

    def _api(self) -> tuple[list[str], Mapping[str, str], Callable[[], bool], dict[str, Any]]:
        at = ["--host", "127.0.0.1", "--port", str(self.api_port)]
        command = [sys.executable, "-m", "api", *at]
        env = self.environment(direct=True)
        return command, env, probes.answers(f"http://127.0.0.1:{self.api_port}/livez"), {"cwd": ROOT}

    def s3_environment(self, port: int) -> dict[str, str]:
        region = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", **self.keys, **region}

    def _make_bucket(self) -> None:
        env = self.s3_environment(self.s3_ports[0])
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)

        def writes() -> bool:
            try:
                client.put_object(Bucket=BUCKET, Key="probe", Body=b"1")
            except client.exceptions.ClientError:
                return False
            return True

        wait_for(writes, "the object store takes a write", READY_SECONDS)

    # -- the product

    def environment(self, *, direct: bool = False) -> dict[str, str]:
        """Of a process of the product; ``direct``: past the proxies."""
        ports = {
            "postgres": self.postgres.port if direct else self.proxies["postgres"].port,
            "mlflow": self.mlflow_port if direct else self.proxies["mlflow"].port,
            "s3": self.s3_ports[0] if direct else self.proxies["s3"].port,
        }
        values = {
            "data_dir": str(self.folder / "data"),
            "lake": f"s3://{BUCKET}/lake",
            "database_url": self.postgres.url("app").replace(f":{self.postgres.port}/", f":{ports['postgres']}/"),
            "mlflow_url": f"http://127.0.0.1:{ports['mlflow']}",
            "api_url": f"http://127.0.0.1:{self.api_port}",
            "airflow_url": "http://127.0.0.1:9",
            "tuning_trials": "0",
            "backtest_folds": "1",
            "keep_models": "1000",
        }
        given = {variable(name): value for name, value in values.items()}
        load_settings(given)
        return {**clean_environment(), **self.s3_environment(ports["s3"]), **given, "OMP_NUM_THREADS": "1"}

    def job(self, pipeline: str, run_id: str, conf: dict[str, Any], step: str | None = None) -> subprocess.Popen[str]:
        """``python -m ml.jobs`` in a session of its own, so that all of it can be killed."""
        command = [sys.executable, "-m", "ml.jobs", pipeline, *([step] if step else [])]
        command += ["--run-id", run_id, "--conf", json.dumps(conf)]
        return subprocess.Popen(
            command, env=self.environment(), cwd=ROOT, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def set_trap(self, trap: Trap | None) -> None:
        for proxy in self.proxies.values():
            proxy.trap = trap

    def business(self, number: int) -> dict[str, Any]:
        """What an ETL run is asked for to publish one of the two businesses."""
        path = self.folder / f"{'ab'[number % 2]}.csv"
        return {"source": str(path), "only_this": True, "publish_anyway": True}


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 of the job and whatever it has started; it leads its session and is not reaped yet."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(true: Callable[[], bool], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:g} s it is not so that {what}")
        time.sleep(0.05)


@contextmanager
def _variables(given: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}


def write_business(path: Path, name: str, seed: int) -> None:
    """A shop with two products and 300 days, whose names belong to it alone."""
    until = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    frame = demo.generate(until, days=300, stores=1, products=2, seed=seed)
    renamed = frame.with_columns(pl.lit(f"{name} ").add(pl.col(key)).alias(key) for key in ("store", "product"))
    renamed.select("date", "store", "product", "sales", "price", "promotion").write_csv(path)
