"""kill -9 of a worker at any moment loses no finished chunk and doubles no row.

Eight kills here; ``JOB_KILLS=50 pytest tests/api/test_jobs_killed.py -s`` for more, with the counts printed.
"""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
import sqlalchemy as sa

from ml.records import Job
from ml.settings import Settings, variable
from ml.store import job_chunks, predictions

KILLS = int(os.environ.get("JOB_KILLS", "8"))
LEASE = 1.0
CHUNK = 100  # rows, so that a job has many
# A worker as `python -m api.worker` is, with small chunks.
CODE = f"import sys, api.jobwork; api.jobwork.CHUNK_ROWS = {CHUNK}; from api.worker import main; sys.exit(main())"
JOB_SECONDS = 120


@pytest.fixture
def start_worker(served, trained):
    """Starts a worker as a process of its own; whoever is left is ended."""
    given = {name: getattr(trained, name) for name in Settings.model_fields}
    env = os.environ | {variable(name): str(value) for name, value in given.items() if value not in (None, "")}
    started = []

    def start():
        command = [sys.executable, "-c", CODE, "--lease", str(LEASE)]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def asked(api, many, number):
    """A job of 28 prices for every row: no two jobs ask for the same."""
    prices = pl.DataFrame({"price": [2 + number + k / 64 for k in range(28)]})
    frame = pl.DataFrame(many).select("date", "store", "product", "promotion").join(prices, how="cross")
    reply = api.post("/v1/jobs", content=frame.write_csv().encode(), headers={"Content-Type": "text/csv"})
    assert reply.status_code == 202, reply.text
    return Job.model_validate(reply.json()), frame


def now(api, job):
    return Job.model_validate(api.get(f"/v1/jobs/{job.job_id}").json())


def finished_chunks(api, job):
    with api.services.store.begin() as connection:
        return set(connection.scalars(sa.select(job_chunks.c.number).where(job_chunks.c.job_id == job.job_id)))


def problems(api, job, frame):
    """What is not as it must be: every row once, in the log and in the result, with the same number."""
    found = []
    asked_for = frame.select("store", "product", "date", "price").sort(pl.all()).rows()
    c = predictions.c
    price = c.inputs["price"].as_float()
    query = sa.select(c.store, c.product, sa.cast(c.date, sa.Text), price, c.prediction)
    with api.services.store.begin() as connection:
        logged = sorted(tuple(row) for row in connection.execute(query.where(c.request_id == job.job_id)))
    if [row[:4] for row in logged] != asked_for:
        found.append(f"{len(logged)} rows are in the log, {len(asked_for)} were asked for")
    made = pl.read_parquet(io.BytesIO(api.get(f"/v1/jobs/{job.job_id}/result?format=parquet").content))
    if made["row"].to_list() != list(range(2, 2 + frame.height)):
        found.append("the result's rows are not those of the file, in its order")
    told = made.select("store", "product", pl.col("date").cast(pl.String), "price", "prediction").sort(pl.all()).rows()
    if told != logged:
        found.append("the result says something else than the log")
    return found


def taken(api, job):
    """Whether somebody works on the job (again, after the last kill), or has ended it."""
    with api.services.store.begin() as connection:
        query = sa.text("SELECT state NOT IN ('queued', 'running') OR lease_until > now() FROM jobs WHERE job_id = :id")
        return connection.scalar(query, {"id": job.job_id})


def far(api, job, chunks):
    seen = now(api, job)
    return seen.progress.chunks_done >= chunks or not seen.active


def killed(api, job, worker, chance, finished):
    """Kill a worker that has taken the job: while it loads and reads, or some chunks later; whether it was at work."""
    api.wait_for(lambda: taken(api, job), seconds=JOB_SECONDS)
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0.0, 2.0))
    else:
        chunks = finished + chance.randint(1, 15)
        api.wait_for(lambda: far(api, job, chunks), seconds=JOB_SECONDS)
        time.sleep(chance.uniform(0.0, 0.1))
    at_work = now(api, job).state == "running"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    time.sleep(LEASE)
    return at_work


def ended(api, job, worker):
    """The job once a worker that nobody kills has ended it."""
    api.wait_for(lambda: not now(api, job).active, seconds=JOB_SECONDS)
    worker.terminate()
    assert worker.wait(30) in (0, -signal.SIGTERM)  # the latter where it was told before it had started
    return now(api, job)


@pytest.mark.timeout(120 + 30 * KILLS)
def test_a_killed_worker_loses_no_finished_chunk_and_doubles_no_row(served, many, start_worker):
    chance, kills, jobs, at_work, resumed = random.Random(20261126), 0, 0, 0, 0
    while kills < KILLS:
        jobs += 1
        job, frame = asked(served, many, jobs)
        kept: set[int] = set()
        while kills < KILLS and now(served, job).active:
            at_work += killed(served, job, start_worker(), chance, len(kept))
            kills += 1
            found = finished_chunks(served, job)
            assert kept <= found
            kept = found
            resumed += bool(found) and now(served, job).active
        done = ended(served, job, start_worker())
        assert (done.state, done.progress.rows_done) == ("done", frame.height)
        assert problems(served, job, frame) == []
    said = f"{kills} kills, {at_work} of them at work; {jobs} jobs of {frame.height} rows, {resumed} left half done"
    print(f"\n{said}: no row lost or doubled")
    assert at_work > 0
    assert resumed > 0
