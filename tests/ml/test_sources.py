"""Where raw data comes from, on a lake in a folder and a real PostgreSQL."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from ml.contract import check_file
from ml.errors import FileRefused
from ml.lake import Lake, open_lake
from ml.records import Upload
from ml.sources import DEMO, add_demo, add_file
from ml.store import Store

TODAY = dt.date(2026, 3, 2)
SALES = b"date,store,product,sales\n2026-01-01,a,x,3\n2026-01-02,a,x,4\n"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


@pytest.fixture
def store(database_url: str) -> Store:
    made = Store(database_url)
    made.migrate()
    return made


def continued(lake: Lake, run: str) -> dt.date:
    add_demo(lake, next_week=f"runs/{run}/next_week.json", scale=0.1, today=TODAY)
    return lake.get_frame(f"accepted/{DEMO}.parquet")["date"].max()  # type: ignore[return-value]


def test_a_run_adds_one_week_however_often_it_is_retried(lake: Lake):
    add_demo(lake, next_week=None, scale=0.1, today=TODAY)
    first = lake.get_frame(f"accepted/{DEMO}.parquet")["date"].max()
    week = dt.timedelta(days=7)
    assert [continued(lake, run) for run in ("a", "a", "a")] == [first + week] * 3
    assert [continued(lake, run) for run in ("b", "a", "b")] == [first + 2 * week] * 3


def test_a_run_killed_between_note_and_week_still_adds_it(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    add_demo(lake, next_week=None, scale=0.1, today=TODAY)
    with monkeypatch.context() as patch:
        patch.setattr(lake, "put_frame", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            continued(lake, "a")
    assert continued(lake, "a") == continued(lake, "a") == TODAY + dt.timedelta(days=6)


def test_the_next_week_of_no_demo_is_the_demo(lake: Lake):
    assert [continued(lake, "a") for _ in range(2)] == [TODAY - dt.timedelta(days=1)] * 2


def test_a_file_that_awaits_acceptance_leaves_nothing_in_the_lake(lake: Lake, store: Store, tmp_path: Path):
    path = tmp_path / "ventas.csv"
    path.write_bytes(SALES)
    waiting = Upload(
        upload_id="waiting",
        filename="ventas.csv",
        bytes=len(SALES),
        sha256=check_file(SALES, "ventas.csv").preflight.sha256,
        status="received",
        purpose="training",
        created_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
        preflight=check_file(SALES, "ventas.csv").preflight,
    )
    store.add_upload(waiting)
    with pytest.raises(FileRefused, match=r"ventas\.csv was uploaded as waiting and awaits acceptance"):
        add_file(lake, store, str(path), [], 1)
    assert lake.list() == []
    store.set_upload_status(["waiting"], "accepted")
    assert add_file(lake, store, str(path), [], 1) == "waiting"
    assert lake.list() == []  # what the console accepted is what counts
    store.close()


def test_a_new_file_is_in_the_lake_once(lake: Lake, store: Store, tmp_path: Path):
    path = tmp_path / "ventas.csv"
    path.write_bytes(SALES)
    names = {add_file(lake, store, str(path), [], 1) for _ in range(2)}
    (name,) = names
    assert lake.get_frame(f"accepted/{name}.parquet")["sales"].to_list() == [3.0, 4.0]
    assert isinstance(lake.get_frame(f"rejected/{name}.parquet"), pl.DataFrame)
    assert [upload.upload_id for upload in store.uploads()] == [name]
    store.close()
