"""PostgreSQL goes away and comes back while requests run: each is answered, and is in the log once.

Three restarts here; ``DATABASE_RESTARTS=20 pytest tests/api/test_database_restarts.py -s`` for more, with the counts.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from deploy.leader import Leader
from deploy.ports import free_ports
from deploy.postgres import Postgres
from deploy.postgres_files import run_as
from ml.store import predictions

RESTARTS = int(os.environ.get("DATABASE_RESTARTS", "3"))
AWAY = "http://127.0.0.1:9"


class Server:
    """A PostgreSQL of this test alone, that is stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres.at(folder, free_ports(1)[0], secrets.token_hex(8), {"app": secrets.token_hex(8)})
        self.leader: Leader | None = None

    def start(self, seconds: float = 60) -> None:
        self.postgres.prepare()
        how = {"cwd": self.folder, **run_as(self.postgres.place.account), "postgres_in": self.postgres.place.cluster}
        with (self.folder / "log").open("ab") as output:
            self.leader = Leader(list(self.postgres.command), self.postgres.env, uuid.uuid4().hex, output=output, **how)
        end = time.monotonic() + seconds
        while not self.postgres.is_ready():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, number: signal.Signals) -> None:
        if self.leader is not None:
            self.leader.signal(number, group=number == signal.SIGKILL)
            self.leader.end(10)
            self.leader = None


@pytest.fixture
def server():
    folder = Path(tempfile.mkdtemp(prefix="control-room-restarts-")).resolve()
    folder.chmod(0o711)
    made = Server(folder)
    made.start()
    made.postgres.make_databases()
    yield made
    made.stop(signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def settings(trained, move_champion, server, tmp_path):
    """The champion on this disk and a database of its own; nothing else is there."""
    url = move_champion(tmp_path, server.postgres.url("app"))
    return trained.model_copy(update={"data_dir": tmp_path, "database_url": url, "mlflow_url": AWAY})


def counted(url):
    """How many rows the log has of each request."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return Counter(connection.scalars(sa.select(predictions.c.request_id)).all())
    except sa.exc.OperationalError:
        return Counter()
    finally:
        engine.dispose()


def test_answers_go_on_and_each_is_in_the_log_once(serve, settings, server, many, under_load):
    acknowledged: dict[str, int] = {}
    sizes = (1, 1, 3, 120)

    def ask(client: httpx.Client, number: int) -> None:
        request_id = uuid.uuid4().hex
        rows = many[: sizes[number]]
        reply = client.post("/predict", json={"instances": rows}, headers={"X-Request-ID": request_id})
        assert reply.status_code == 200, reply.text
        acknowledged[request_id] = len(reply.json()["predictions"])

    draw = random.Random(1)
    with serve(settings) as api:
        api.ready()
        with under_load(api.url, ask, len(sizes)) as load:
            for turn in range(RESTARTS):
                load.go_on()
                server.stop((signal.SIGINT, signal.SIGKILL)[turn % 2])
                load.go_on()
                time.sleep(draw.uniform(0, 1))
                server.start()
        api.wait_for(lambda: counted(settings.database_url) == Counter(acknowledged), seconds=120)
    rows = sum(acknowledged.values())
    print(f"{RESTARTS} restarts, {len(acknowledged)} requests answered with 200, {rows} rows, each in the log once")
