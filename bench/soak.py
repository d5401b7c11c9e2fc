"""Mixed load for a long time: ``python -m bench.soak --minutes 30 --json out.json``.

The API as it is deployed and a worker, on PostgreSQL, MLflow and an S3 server; single rows, batches, pages of the
history, forecasts, jobs of whole files, and the champion moved to and fro. What counts: no answer of 500 or above,
every acknowledged row in the log once, and memory that does not grow once everything has been used.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
import sqlalchemy as sa

from bench.serving import JOB_SECONDS, ServingWorld
from bench.world import ROOT, wait_for
from deploy import probes
from ml.forecasting import Forecaster
from ml.store import predictions

BATCH, FILE_ROWS = 200, 4000
SAMPLE_SECONDS = 5.0
SETTLED = 0.25  # of the time: caches fill, and so does what was never asked for before
JOB_EVERY, MOVE_EVERY = 20.0, 30.0  # seconds
PAUSE = 0.01  # between the requests of one asker: for hours, not as fast as it goes
Ask = Callable[[requests.Session], requests.Response]


class SoakWorld(ServingWorld):
    """The serving benchmark's product, with a worker."""

    def _worker(self) -> Any:
        env = self.environment(direct=True)
        return [sys.executable, "-m", "api.worker"], env, probes.beats(self.folder / "data"), {"cwd": ROOT}

    def train_another(self) -> None:
        """Version 2, which waits for approval."""
        process = self.job("retrain", "soak-2", {"policy": "approval", "seed": 11, "window_days": 400})
        said, _ = process.communicate(timeout=JOB_SECONDS)
        if "2" not in {info.version for info in self.registry.versions()}:
            raise RuntimeError(f"no second version was made: {said[-2000:]}")

    def megabytes(self, name: str) -> float:
        """Memory that a service and its children hold for themselves."""
        leader = psutil.Process(self._running[name].pid)
        used = 0
        for process in (leader, *leader.children(recursive=True)):
            try:
                used += process.memory_full_info().uss
            except psutil.NoSuchProcess:
                continue
        return used / 2**20


class Asker:
    """Counts what it was answered; ``acknowledged``: rows by request id that the log must have."""

    def __init__(self, world: SoakWorld, rows: list[dict[str, Any]]) -> None:
        self.url, self.rows = f"http://127.0.0.1:{world.api_port}", rows
        self.answered: Counter[tuple[str, int]] = Counter()
        self.acknowledged: dict[str, int] = {}
        self.jobs: list[str] = []
        self._draw = random.Random(7)
        self._stop = threading.Event()

    def run(self, seconds: float) -> list[threading.Thread]:
        """Threads that ask until the time is over."""
        kinds: dict[str, tuple[Ask, float]] = {
            "row": (lambda s: self._predicted(s, self._draw.choices(self.rows)), PAUSE),
            "rows": (lambda s: self._predicted(s, self._draw.choices(self.rows, k=BATCH)), 0.2),
            "history": (self._page, 0.1),
            "forecast": (self._forecast, 0.5),
            "job": (self._job, JOB_EVERY),
            "model": (self._move, MOVE_EVERY),
        }
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._ask, args=(kind, *how, end)) for kind, how in kinds.items()]
        for thread in threads:
            thread.start()
        return threads

    def _ask(self, kind: str, ask: Ask, pause: float, end: float) -> None:
        with requests.Session() as session:
            while time.monotonic() < end:
                try:
                    self.answered[kind, ask(session).status_code] += 1
                except requests.RequestException:
                    self.answered[kind, 0] += 1
                time.sleep(min(pause, max(0.0, end - time.monotonic())))

    def _predicted(self, session: requests.Session, rows: list[dict[str, Any]]) -> requests.Response:
        request_id = uuid.uuid4().hex
        body: Any = rows[0] if len(rows) == 1 else {"instances": rows}
        reply = session.post(f"{self.url}/predict", json=body, headers={"X-Request-ID": request_id}, timeout=60)
        if reply.ok:
            self.acknowledged[request_id] = len(rows)
        return reply

    def _page(self, session: requests.Session) -> requests.Response:
        row = self._draw.choice(self.rows)
        query = {"store": row["store"], "product": row["product"], "limit": "100"}
        return session.get(f"{self.url}/historical-predictions", params=query, timeout=60)

    def _forecast(self, session: requests.Session) -> requests.Response:
        body: Any = {"stores": [self._draw.choice(self.rows)["store"]], "horizon": 14}
        return session.post(f"{self.url}/v1/forecast", json=body, timeout=60)

    def _job(self, session: requests.Session) -> requests.Response:
        # a price of its own makes it a file of its own: the same one would be the same job
        price = 1 + len(self.jobs) / 64
        lines = [
            f"{row['date']},{row['store']},{row['product']},{price}"
            for row in self._draw.choices(self.rows, k=FILE_ROWS)
        ]
        text = "\n".join(["date,store,product,price", *lines])
        reply = session.post(f"{self.url}/v1/jobs", data=text, headers={"Content-Type": "text/csv"}, timeout=60)
        if reply.ok:
            self.jobs.append(reply.json()["job_id"])
        return reply

    def _move(self, session: requests.Session) -> requests.Response:
        """The challenger becomes champion, and back: each is loaded, proved and swapped in."""
        moves = sum(count for (kind, _), count in self.answered.items() if kind == "model")
        path = "2/promote" if moves % 2 == 0 else "rollback"
        body = {"reason": f"soak {moves}", "actor": "bench.soak"}
        return session.post(f"{self.url}/v1/models/{path}", json=body, timeout=60)


def rows_of(found: Forecaster) -> list[dict[str, Any]]:
    frame = found.next_days([], []).select("store", "product", "date")
    return [row | {"date": str(row["date"]), "promotion": k % 2} for k, row in enumerate(frame.to_dicts())]


def growth(samples: list[tuple[float, float]]) -> float:
    """Megabytes per hour, by a straight line through the samples after the first quarter of the time."""
    settled = np.array(samples[int(len(samples) * SETTLED) :])
    return float(np.polyfit(settled[:, 0] / 3600, settled[:, 1], 1)[0])


def lost_or_doubled(world: SoakWorld, asked: dict[str, int]) -> int:
    """Acknowledged requests whose rows are not in the log exactly as often as they were answered."""
    count = sa.select(predictions.c.request_id, sa.func.count()).group_by(predictions.c.request_id)
    with world.store.begin() as connection:
        logged: dict[str, int] = dict(connection.execute(count).all())
    return sum(logged.get(request_id) != rows for request_id, rows in asked.items())


def measure(folder: Path, minutes: float) -> dict[str, Any]:
    """The whole soak in one folder."""
    world = SoakWorld(folder)
    with world.open():
        found = world.train()
        world.train_another()
        world.start("worker")
        try:
            asker = Asker(world, rows_of(found))
            threads, began = asker.run(minutes * 60), time.monotonic()
            samples: dict[str, list[tuple[float, float]]] = {"api": [], "worker": []}
            while any(thread.is_alive() for thread in threads):
                for name, seen in samples.items():
                    seen.append((time.monotonic() - began, world.megabytes(name)))
                time.sleep(SAMPLE_SECONDS)
            done = _jobs_done(asker)
            acknowledged = asker.acknowledged | dict.fromkeys(asker.jobs, FILE_ROWS)
            with suppress(TimeoutError):
                wait_for(lambda: not lost_or_doubled(world, acknowledged), "every row is in the log once", 120)
            missing = lost_or_doubled(world, acknowledged)
        finally:
            world.stop("worker")
    return {
        "minutes": minutes,
        "answers": {f"{kind} {status}": count for (kind, status), count in sorted(asker.answered.items())},
        "broken": sum(count for (_, status), count in asker.answered.items() if status == 0 or status >= 500),
        "acknowledged_rows": sum(acknowledged.values()),
        "lost_or_doubled": missing,
        "jobs_done": done,
        "memory": {name: memory(seen) for name, seen in samples.items()},
        "ended": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _jobs_done(asker: Asker, seconds: float = 300) -> int:
    states: list[str] = []

    def ended() -> bool:
        states[:] = [requests.get(f"{asker.url}/v1/jobs/{job}", timeout=60).json()["state"] for job in asker.jobs]
        return not {"queued", "running"} & set(states)

    wait_for(ended, "all jobs have ended", seconds)
    return states.count("done")


def memory(samples: list[tuple[float, float]]) -> dict[str, Any]:
    """Ten points over the time, the most, and the growth."""
    every = max(1, len(samples) // 10)
    return {
        "mb": [round(mb) for _, mb in itertools.islice(samples, 0, None, every)],
        "most_mb": round(max(mb for _, mb in samples)),
        "mb_per_hour": round(growth(samples), 1),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="control-room-soak-") as folder:
        found = measure(Path(folder), asked.minutes)
    print(json.dumps(found, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["broken"] or found["lost_or_doubled"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
