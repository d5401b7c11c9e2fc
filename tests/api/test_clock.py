"""The clock of the API's or a worker's machine jumps, PostgreSQL's does not: nothing is lost, doubled or let in.

Clocks are moved by libfaketime (``deploy/bootstrap.sh --dev`` installs it); time that only counts on goes on as ever.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter

import httpx
import pytest
import sqlalchemy as sa

from deploy.ports import free_ports
from ml.records import Job
from ml.settings import Settings, variable
from ml.store import job_table, predictions

LIBRARY = next(iter(sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))), None)
AWAY = "http://127.0.0.1:9"
TOKEN = {"X-API-Key": "clock-token"}
# libfaketime reckons sleeps until a moment of the monotonic clock by the other clock, and then refuses some
SLEEP = "import select, sys, time; time.sleep = lambda s: select.select([], [], [], s); "
API = f"{SLEEP} from api.__main__ import main; main()"
WORKER = f"{SLEEP} import api.jobwork; api.jobwork.CHUNK_ROWS = 40; from api.worker import main; sys.exit(main())"

FAKED = {"LD_PRELOAD": LIBRARY, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="NOT CHECKED: no libfaketime; `deploy/bootstrap.sh --dev`")


class Clock:
    """Of one process: moved by a file that it reads at every look at the time."""

    def __init__(self, folder):
        self.file = folder / f"clock-{uuid.uuid4().hex}"
        self.moved("+0")

    def moved(self, offset):
        """``+2d``, ``-1h``: from the true time."""
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{offset}\n")
        os.replace(draft, self.file)

    @property
    def env(self):
        return {"FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1"}


@pytest.fixture(scope="module")
def settings(trained, move_champion, new_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    shutil.copytree(trained.lake_url, folder / "lake")
    url = move_champion(folder, new_database())
    changed = {"data_dir": folder, "lake": str(folder / "lake"), "database_url": url, "rate_limit": 120}
    return trained.model_copy(update={**changed, "api_token": TOKEN["X-API-Key"]})


@pytest.fixture(scope="module")
def start(settings, tmp_path_factory):
    """Starts a process of the product with a clock of its own; whoever is left is ended."""
    folder, started = tmp_path_factory.mktemp("clocks"), []
    given = {name: getattr(settings, name) for name in Settings.model_fields}
    env = os.environ | {variable(name): str(value) for name, value in given.items() if value not in (None, "")}

    def run(clock, *words):
        with (folder / f"log-{len(started)}").open("wb") as log:
            command = [sys.executable, "-c", *words]
            started.append(subprocess.Popen(command, env=env | FAKED | clock, stdout=log, stderr=log))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def api(start, tmp_path_factory):
    (port,), clock = free_ports(1), Clock(tmp_path_factory.mktemp("clock"))
    process = start(clock.env, API, "--port", str(port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=TOKEN) as client:
        wait_for(lambda: process.poll() is None and answers(client))
        client.clock = clock
        yield client


@pytest.fixture(autouse=True)
def _right_again(api):
    api.clock.moved("+0")
    yield
    api.clock.moved("+0")


def answers(client):
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


def made_key(api, name, **more):
    reply = api.post("/v1/keys", json={"name": name, "role": "planner", **more})
    assert reply.status_code == 201, reply.text
    return {"X-API-Key": reply.json()["secret"]}


def test_the_clock_of_the_api_is_moved(api, row):
    """What the other tests stand on."""
    made = {}
    for offset in ("+0", "+40d", "-40d"):
        api.clock.moved(offset)
        made[offset] = api.post("/predict", json=row).json()["created_at"][:10]
    assert made["-40d"] < made["+0"] < made["+40d"]


def test_1_a_key_ends_by_the_clock_and_counts_again_when_the_clock_was_wrong(api):
    key = made_key(api, "a day", days=1)
    statuses = []
    for offset in ("+2d", "-2d"):
        api.clock.moved(offset)
        time.sleep(5.2)  # so long a key is trusted without another look
        statuses.append(api.get("/v1/me", headers=key).status_code)
    assert statuses == [401, 200]


def test_2_an_idempotency_key_is_answered_again_and_done_anew_after_a_day(api, settings, row):
    head = {"Idempotency-Key": uuid.uuid4().hex}
    ids = []
    for offset in ("+0", "-3h", "+23h", "+25h", "+25h"):
        api.clock.moved(offset)
        reply = api.post("/predict", json=row, headers=head)
        assert reply.status_code == 200, reply.text
        ids.append(reply.json()["request_id"])
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] == ids[4] != ids[0]
    wait_for(lambda: {ids[0], ids[3]} <= set(logged(settings)))
    assert logged(settings)[ids[0]] == logged(settings)[ids[3]] == 1


def test_3_rates_are_by_time_that_goes_on_whatever_the_clock_says(api):
    key = made_key(api, "busy")
    taken = []
    for offset in ("+0", "+1d", "-1d", "+0"):
        api.clock.moved(offset)
        taken.append(sum(api.get("/v1/me", headers=key).status_code == 200 for _ in range(40)))
    assert taken[0] >= 30
    assert sum(taken[1:]) <= 40, "a jump gave a full bucket"
    api.clock.moved("-1d")
    time.sleep(2)
    assert api.get("/v1/me", headers=key).status_code == 200, "a jump back locks a key out"


def test_4_answers_that_wait_reach_the_log_once_whatever_the_clock_said(api, settings, gone, row):
    asked = []

    def ask():
        reply = api.post("/predict", json=row)
        assert reply.status_code == 200, reply.text
        asked.append(reply.json()["request_id"])

    ask()
    with gone(settings.database_url):
        for offset in ("+0", "-2h", "+2h", "-1d"):
            api.clock.moved(offset)
            for _ in range(3):
                ask()
    api.clock.moved("+0")
    ask()
    wait_for(lambda: set(asked) <= set(logged(settings)), seconds=60)
    assert {logged(settings)[one] for one in asked} == {1}


def test_5_pages_of_the_history_hold_every_row_once_although_the_clock_went_back(api, row):
    asked = []
    for offset in ("+1h", "+0", "-1h", "+2h"):
        api.clock.moved(offset)
        asked += [api.post("/predict?source=paged", json=row).json()["request_id"] for _ in range(3)]
    wait_for(lambda: len(page(api, None, 100)["items"]) == len(asked))
    seen, cursor = [], None
    while True:
        found = page(api, cursor, 5)
        seen += [item["request_id"] for item in found["items"]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
        api.clock.moved("-1d")
    assert Counter(seen) == Counter(asked)


def page(api, cursor, limit):
    query = {"source": "paged", "limit": limit} | ({"cursor": cursor} if cursor else {})
    reply = api.get("/historical-predictions", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_6_a_worker_whose_clock_is_ahead_takes_no_job_that_is_worked_on(api, start, settings, many):
    for offset in ("+1d", "-1d"):
        start({"FAKETIME": offset}, WORKER)
    rows = [f"{r['date']},{r['store']},{r['product']},{r['promotion']}" for r in many[:400]]
    text = "\n".join(["date,store,product,promotion", *rows])
    jobs = []
    for n in range(3):
        head = {"Content-Type": "text/csv"}
        reply = api.post("/v1/jobs", content=(text + "\n" * n).encode(), headers=head)
        assert reply.status_code == 202, reply.text
        jobs.append(Job.model_validate(reply.json()))
    wait_for(lambda: all(not Job.model_validate(api.get(f"/v1/jobs/{j.job_id}").json()).active for j in jobs))
    for job in jobs:
        done = api.get(f"/v1/jobs/{job.job_id}").json()
        assert (done["state"], done["error"]) == ("done", None)
        assert logged(settings)[job.job_id] == len(rows)
    engine = sa.create_engine(settings.database_url)
    with engine.connect() as connection:
        claims = connection.scalars(sa.select(job_table.c.attempts)).all()
    engine.dispose()
    assert set(claims) == {0}, "a job was claimed again, without a finished chunk in between"


def logged(settings):
    engine = sa.create_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            return Counter(connection.scalars(sa.select(predictions.c.request_id)))
    except sa.exc.OperationalError:
        return Counter()
    finally:
        engine.dispose()
