"""The local runner with the real product: what a person sees at the first start, and what it survives."""

import json
import os
import signal
import time
import urllib.request
from types import SimpleNamespace

import psutil
import pytest

from deploy import probes
from deploy.local import memory

pytestmark = pytest.mark.e2e

PARTS = (
    "postgres",
    "mlflow",
    "airflow-api-server",
    "airflow-scheduler",
    "airflow-dag-processor",
    "api",
    "worker",
    "console",
)


def child(stack, name):
    return next(one for one in stack.note.children if one.name == name)


def health(stack):
    return SimpleNamespace(**json.loads(urllib.request.urlopen(f"{stack.settings.api}/health", timeout=10).read()))


def wait_until(look, seconds):
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)


def test_the_first_start_ends_with_data_and_a_champion(stack):
    seen = health(stack)
    assert seen.status == "ok"
    assert seen.champion["version"] == "1"
    assert seen.data_version
    printed = stack.output.read_text()
    for words in ("every part is healthy after", "process_etl_sales_data has ended", "retrain_sales_model has ended"):
        assert words in printed
    for address in (stack.console, f"{stack.settings.api}/docs", stack.settings.airflow, stack.settings.mlflow):
        assert address in printed
        assert probes.get(address.split("  ")[0]) is not None


def test_secrets_are_not_printed_and_not_in_the_logs(stack):
    keys = json.loads((stack.settings.data_dir / "secrets.json").read_text())
    data = stack.settings.data_dir
    files = [stack.output, *(data / "logs").glob("*.log"), *(data / "airflow" / "logs").rglob("*.log")]
    assert not [(file.name, name) for file in files for name, key in keys.items() if key in file.read_text()]


def test_memory_is_known_for_every_part(stack):
    used = memory(stack.settings.data_dir)
    assert set(used) >= {*PARTS, "runner"}
    assert all(used[name] > 5 for name in PARTS)
    assert sum(used.values()) < 4000


@pytest.mark.parametrize("name", PARTS)
def test_a_killed_part_comes_back_and_the_product_is_whole_again(stack, name):
    before, champion = child(stack, name), health(stack).champion["version"]
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: child(stack, name).pid != before.pid and child(stack, name).state == "ready", seconds=120)
    assert child(stack, name).restarts == before.restarts + 1
    # parts that live on the killed one may fall and come back a little later
    wait_until(lambda: {one.state for one in stack.note.children} <= {"ready", "done"}, seconds=120)
    wait_until(lambda: health(stack).status == "ok", seconds=60)
    assert health(stack).champion["version"] == champion


def test_all_listen_on_this_machine_only(stack):
    ours = psutil.Process(stack.runner).children(recursive=True)
    listening = [c.laddr.ip for process in ours for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 5
    assert set(listening) == {"127.0.0.1"}
