"""How long the local product takes to come up, twice on the same data folder, and what it holds in memory.

Starts the real runner on free ports and a scratch folder. Times are of this machine at this moment: read them beside
the load, and as first against second start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local import memory
from deploy.ports import PORTS, free_ports
from deploy.state import RunNote, read_note
from ml.settings import PREFIX, Settings, load_settings, variable

LIMIT_SECONDS = 1800


def start(environment: dict[str, str], data: Path) -> dict[str, Any]:
    """One start to `ready`, measured by the runner itself, then a clean stop."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "deploy.local"]
    with (data.parent / "output").open("ab") as output:
        runner = subprocess.Popen([*command, "up"], env=environment, stdout=output, stderr=output)
        try:
            note = _until_ready(runner, data)
            time.sleep(5)  # what a start has allocated and given back is not what it holds
            used = memory(data)
        finally:
            stopping = time.monotonic()
            subprocess.run([*command, "down"], env=environment, check=True, capture_output=True, timeout=120)
            runner.wait(60)
    return {
        "healthy_seconds": note.healthy_after,
        "champion_seconds": note.first_start_after,
        "ready_seconds": stopping - begin - 5,
        "stop_seconds": time.monotonic() - stopping,
        "memory_mb": used,
        "memory_mb_in_all": sum(used.values()),
        "load_1m": os.getloadavg()[0],
    }


def _until_ready(runner: subprocess.Popen[bytes], data: Path) -> RunNote:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        note = read_note(data) if data.exists() else None
        if note is not None and note.phase == "ready":
            return note
        if runner.poll() is not None:
            raise SystemExit(
                f"the runner ended with {runner.returncode}:\n{(data.parent / 'output').read_text()[-4000:]}"
            )
        time.sleep(0.2)
    raise SystemExit(f"not ready after {LIMIT_SECONDS} s")


@contextmanager
def scratch_environment() -> Iterator[tuple[dict[str, str], Path]]:
    """Free ports and a data folder that is gone afterwards; other settings as they are."""
    with tempfile.TemporaryDirectory(prefix="control-room-bench-") as folder:
        Path(folder).chmod(0o711)
        data = Path(folder) / "data"
        ports = {variable(name): str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        given = {
            k: v for k, v in os.environ.items() if k.startswith(PREFIX) and k not in (variable("data_dir"), *ports)
        }
        load_settings(given | ports)
        yield {**os.environ, **ports, variable("data_dir"): str(data)}, data


@contextmanager
def running_product() -> Iterator[Settings]:
    """The product with data and a champion, until the end of the block."""
    with scratch_environment() as (environment, data):
        command = [sys.executable, "-m", "deploy.local"]
        with (data.parent / "output").open("ab") as output:
            runner = subprocess.Popen([*command, "up"], env=environment, stdout=output, stderr=output)
            try:
                _until_ready(runner, data)
                yield load_settings(environment)
            finally:
                subprocess.run([*command, "down"], env=environment, check=True, capture_output=True, timeout=120)
                runner.wait(60)


def measure() -> dict[str, Any]:
    with scratch_environment() as (environment, data):
        return {name: start(environment, data) for name in ("first", "second")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    found = measure()
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text)


if __name__ == "__main__":
    main()
