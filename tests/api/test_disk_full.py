"""A disk is full: what was acknowledged stays, whoever asks is told why, and it goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.worker import Worker
from ml import jobs
from ml.errors import ServiceDown
from ml.lake import current_snapshot, open_lake
from ml.records import ETL_DAG, Job
from ml.store import Store, predictions

AWAY = "http://127.0.0.1:9"
MB = 1 << 20
ROOM = 48 * MB
HEADER = "date,store,product,sales\n"
MANY = 1_000  # rows of one request
NOT_ITS_ANSWERS = shutil.ignore_patterns("spool")  # what another API's disk holds is for its own database


class SmallDisk:
    """A file system of its own that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with open(self._filler, "wb", buffering=0) as file:
            for size in (MB, 4096):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk():
    folder = Path(tempfile.mkdtemp(prefix="control-room-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        pytest.skip("NOT CHECKED: a small file system to fill takes a root that may mount one")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def apart(trained, move_champion, new_database, tmp_path):
    """The champion on a disk of its own, with its own database and a copy of the lake."""
    shutil.copytree(trained.lake_url, tmp_path / "lake")
    url = move_champion(tmp_path, new_database())
    return trained.model_copy(update={"data_dir": tmp_path, "lake": str(tmp_path / "lake"), "database_url": url})


def is_problem(reply):
    assert reply.status_code == 503, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == "service_down", reply.text
    return reply.json()["detail"]


def part(api, name):
    return next(part for part in api.get("/health").json()["parts"] if part["name"] == name)


# ---------------------------------------------------------------- 1: answers that wait for the database


def test_the_disk_that_answers_wait_on(serve, apart, disk, gone, row):
    shutil.copytree(apart.data_dir / "api", disk.folder / "api", ignore=NOT_ITS_ANSWERS)
    with serve(apart.model_copy(update={"data_dir": disk.folder, "mlflow_url": AWAY})) as api:
        api.ready()
        acknowledged = []

        def ask():
            request_id = uuid.uuid4().hex
            reply = api.post("/predict", json={"instances": [row] * MANY}, headers={"X-Request-ID": request_id})
            if reply.status_code == 200:
                acknowledged.append(request_id)
            return reply

        with gone(apart.database_url):
            assert ask().status_code == 200
            disk.fill()
            api.wait_for(lambda: ask().status_code != 200)  # what was made ready beforehand is used up first
            assert "disk" in is_problem(ask())
            assert api.get("/livez").status_code == 200
            disk.free()
            api.wait_for(lambda: ask().status_code == 200)
        store = Store(apart.database_url)

        def logged():
            with store.engine.connect() as connection:
                return Counter(connection.scalars(sa.select(predictions.c.request_id)))

        api.wait_for(lambda: logged() == dict.fromkeys(acknowledged, MANY), seconds=60)
        store.close()


# ---------------------------------------------------------------- 2: uploads


def csv(rows, first=0):
    days = (f"2025-{1 + k // 28 % 12:02}-{1 + k % 28:02},S{k // 336},P,{k}" for k in range(first, first + rows))
    return (HEADER + "\n".join(days)).encode()


def test_the_disk_that_uploads_are_kept_on(serve, make_settings, disk):
    with serve(make_settings(lake=disk.folder / "lake")) as api:
        api.wait_for(lambda: api.services.store.revision() is not None)
        kept = api.post("/v1/uploads?filename=a.csv", content=csv(50))
        assert kept.status_code == 201, kept.text
        path = f"/v1/uploads/{kept.json()['upload_id']}"
        disk.fill()
        is_problem(api.post("/v1/uploads?filename=b.csv", content=csv(20_000)))
        is_problem(api.post(f"{path}/accept"))
        assert api.get(path).json()["status"] == "received", "what could not be written is not said to be accepted"
        assert len(api.get("/v1/uploads").json()["items"]) == 1
        disk.free()
        assert api.post(f"{path}/accept").json()["status"] == "accepted"
        assert api.post("/v1/uploads?filename=b.csv", content=csv(20_000)).status_code == 201
        assert not list((disk.folder / "lake").rglob(".put-*")), "half a file is left"


# ---------------------------------------------------------------- 3: what jobs make


def test_the_disk_that_results_of_jobs_are_kept_on(serve, apart, disk, many):
    shutil.copytree(apart.lake_url, disk.folder / "lake")
    settings = apart.model_copy(update={"lake": str(disk.folder / "lake")})
    text = "date,store,product,promotion\n" + "\n".join(
        f"{r['date']},{r['store']},{r['product']},{r['promotion']}" for r in many
    )
    with serve(settings) as api:
        api.ready()
        asked = api.post("/v1/jobs", content=text.encode(), headers={"Content-Type": "text/csv"})
        assert asked.status_code == 202, asked.text
        path = f"/v1/jobs/{asked.json()['job_id']}"
        worker = Worker(settings)
        disk.fill()
        assert worker.work_once()
        waiting = Job.model_validate(api.get(path).json())
        assert waiting.active, waiting.error
        assert api.get(f"{path}/result").status_code == 409
        disk.free()
        api.wait_for(lambda: worker.work_once() or not Job.model_validate(api.get(path).json()).active, seconds=60)
        assert api.get(path).json()["state"] == "done"
        assert len(api.get(f"{path}/result?format=csv").text.splitlines()) == len(many) + 1
        worker.store.close()
        store = Store(settings.database_url)
        with store.engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(predictions)) == len(many)
        store.close()


# ---------------------------------------------------------------- 4: the API's copy of the champion


def test_the_disk_that_the_champion_is_fetched_to(serve, trained, served, disk, row):
    shutil.copytree(served.services.settings.data_dir / "api", disk.folder / "api", ignore=NOT_ITS_ANSWERS)
    shutil.rmtree(disk.folder / "api" / "bundles" / "2", ignore_errors=True)
    shutil.rmtree(disk.folder / "api" / "spool", ignore_errors=True)
    with serve(trained.model_copy(update={"data_dir": disk.folder})) as api:
        api.ready()
        disk.fill()
        refused = api.post("/predict?model=2", json=row)
        is_problem(refused)
        moved = api.post("/v1/models/2/promote", json={"reason": "disk", "actor": "tests"})
        is_problem(moved)
        assert api.post("/predict", json=row).json()["model"]["version"] == "1"
        assert served.get("/v1/promotions").json()["items"][0]["reason"] != "disk"
        disk.free()
        api.wait_for(lambda: api.post("/predict?model=2", json=row).status_code == 200)
        assert api.post("/predict", json=row).json()["model"]["version"] == "1"


def test_the_disk_that_published_data_is_fetched_to(serve, apart, disk, row):
    shutil.copytree(apart.data_dir / "api", disk.folder / "api", ignore=NOT_ITS_ANSWERS)
    with serve(apart.model_copy(update={"data_dir": disk.folder})) as api:
        api.ready()
        before = api.get("/health").json()["data_version"]
        disk.fill()
        for step in jobs.STEPS[ETL_DAG]:
            jobs.step_of(ETL_DAG, step)(jobs.Context(apart, "fetch-1", {"source": "demo_next_week"}))
        api.wait_for(lambda: part(api, "champion")["state"] == "degraded")
        assert "No space left" in part(api, "champion")["detail"]
        assert api.post("/predict", json=row).json()["data_version"] == before
        kept = sorted(path.name for path in (disk.folder / "api" / "snapshots").iterdir())
        assert not [name for name in kept if name.startswith(".new-")], "what did not fit is left, at every look"
        disk.free()
        api.wait_for(lambda: api.get("/health").json()["data_version"] != before)


# ---------------------------------------------------------------- 5: publishing


def test_the_disk_that_data_is_published_on(apart, disk):
    shutil.copytree(apart.lake_url, disk.folder / "lake")
    settings = apart.model_copy(update={"lake": str(disk.folder / "lake")})
    lake = open_lake(settings.lake_url)
    before = current_snapshot(lake)
    assert before is not None
    context = jobs.Context(settings, "full-1", {"source": "demo_next_week"})
    steps = [jobs.step_of(ETL_DAG, name) for name in jobs.STEPS[ETL_DAG]]
    for step in steps[:-2]:
        step(context)
    disk.fill()
    with pytest.raises(ServiceDown):
        steps[-2](context)
    assert current_snapshot(lake) == before
    assert all(lake.exists(f"snapshots/{before.data_version}/{name}") for name in before.files)
    disk.free()
    steps[-2](context)
    after = current_snapshot(lake)
    assert after is not None
    assert after.data_version != before.data_version
