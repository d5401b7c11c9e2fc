"""What was answered is in the log, once, whatever happens to the process that answered, or to the database."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter

import httpx
import pytest
import sqlalchemy as sa

from ml.settings import Settings, variable
from ml.store import Store, predictions

ROUNDS = int(os.environ.get("API_KILLS", "3"))


@pytest.fixture
def killable(served, trained):
    """Starts the API as a process of its own; returns it with its address."""
    given = {name: getattr(trained, name) for name in Settings.model_fields}
    env = os.environ | {variable(name): str(value) for name, value in given.items() if value not in (None, "")}
    started = []

    def start():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "api", "--port", str(port)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_ready(url, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the API did not become ready")


def ask_until_dead(url, rows, acknowledged):
    with httpx.Client(base_url=url, timeout=10) as client:
        while True:
            request_id = uuid.uuid4().hex
            try:
                reply = client.post("/predict", json={"instances": rows}, headers={"X-Request-ID": request_id})
            except httpx.TransportError:
                return
            assert reply.status_code == 200
            acknowledged[request_id] = len(reply.json()["predictions"])


@pytest.mark.timeout(120 + 30 * ROUNDS)
def test_acknowledged_predictions_survive_a_kill(killable, trained, many):
    acknowledged: dict[str, int] = {}
    for turn in range(ROUNDS):
        process, url = killable()
        wait_ready(url)
        sizes = (1, 1, 3, 120)
        threads = [threading.Thread(target=ask_until_dead, args=(url, many[:size], acknowledged)) for size in sizes]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(turn).uniform(0.5, 1.5))
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
    print(f"{ROUNDS} kills, {len(acknowledged)} acknowledged requests, {sum(acknowledged.values())} rows")
    assert len(acknowledged) > 20
    _, url = killable()
    wait_ready(url)
    assert httpx.get(f"{url}/historical-predictions", params={"limit": 1}).status_code == 200
    assert in_log(trained, acknowledged) == acknowledged


def in_log(settings, asked):
    store = Store(settings.database_url)
    with store.engine.connect() as connection:
        found = Counter(connection.scalars(sa.select(predictions.c.request_id)).all())
    store.close()
    return {request_id: found[request_id] for request_id in asked}


def test_acknowledged_predictions_survive_connections_that_the_database_breaks(killable, trained, many):
    """Its backends are ended at any moment, in the middle of a COPY too; then the API is killed with what waits."""
    process, url = killable()
    wait_ready(url)
    acknowledged: dict[str, int] = {}
    sizes = (1, 1, 3, 120)
    threads = [threading.Thread(target=ask_until_dead, args=(url, many[:size], acknowledged)) for size in sizes]
    for thread in threads:
        thread.start()
    store = Store(trained.database_url)
    query = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    broken = 0
    for turn in range(8 * ROUNDS):
        time.sleep(random.Random(turn).uniform(0.02, 0.15))
        with store.engine.connect() as connection:
            broken += connection.scalar(query)
    store.close()
    process.send_signal(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert broken > 0
    assert len(acknowledged) > 20
    _, url = killable()
    wait_ready(url)
    assert httpx.get(f"{url}/historical-predictions", params={"limit": 1}).status_code == 200
    assert in_log(trained, acknowledged) == acknowledged
