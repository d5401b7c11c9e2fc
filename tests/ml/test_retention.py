"""What is let go and what never is: a lake in a folder, a real MLflow, and a real S3 server."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest

from ml import retention
from ml.context import Context
from ml.lake import CURRENT, Lake, open_lake
from ml.records import Encoding, ModelInfo, Snapshot
from ml.retention import spare_snapshots, tidy
from ml.settings import Settings, load_settings, variable

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def snapshot(version: str, age: float) -> Snapshot:
    day = dt.date(2026, 1, 1)
    return Snapshot(
        data_version=version, created_at=NOW - DAY * age, frequency="D", horizon=28, unit="units/day", rows=1,
        rows_train=1, rows_test=0, rows_rejected=0, rows_filled=0, stores=1, products=1, series=1, date_from=day,
        date_to=day, split_date=day, country="ES", columns={}, regressors=(), missing_days="zero",
        encoding=Encoding(), sources=(), decisions=(), files={"train.parquet": "0"},
    )  # fmt: skip


def model(version: str, data_version: str, retired: bool = False) -> ModelInfo:
    return ModelInfo(
        name="sales", version=version, aliases=(), created_at=NOW, run_id="r", kind="linear",
        data_version=data_version, retired_at=NOW if retired else None,
    )  # fmt: skip


class Place:
    """A lake in a folder, whose objects are as old as they are told to be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake: Lake = open_lake(str(folder))

    def put(self, key: str, data: bytes = b"x", age: float = 0) -> None:
        self.lake.put(key, data)
        at = (NOW - DAY * age).timestamp()
        os.utime(self.folder / key, (at, at))

    def publish(self, version: str, age: float) -> None:
        self.put(f"snapshots/{version}/train.parquet", age=age)
        self.put(f"snapshots/{version}/data.json", snapshot(version, age).model_dump_json().encode(), age)

    @property
    def versions(self) -> set[str]:
        return {key.split("/")[1] for key in self.lake.list("snapshots/") if key != CURRENT}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "lake")
    found.lake.put_json("runs/now/validate.json", {"merged": "merged/mine.parquet"})
    return found


@pytest.fixture
def run(tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the step with these settings, while these models are registered."""

    def go(*models: ModelInfo, **given: Any) -> dict[str, Any]:
        values = {"data_dir": tmp_path, "mlflow_url": mlflow_server, **given}
        settings: Settings = load_settings({variable(name): str(value) for name, value in values.items()})
        context = Context(settings, "now", {}, "tidy")
        monkeypatch.setattr(context.registry, "versions", lambda: list(models))
        return tidy(context)

    return go


def test_the_newest_snapshots_and_those_that_are_needed_stay(place: Place, run: Any):
    for number in range(6):
        place.publish(f"v{number}", age=60 - number)
    place.lake.put_json(CURRENT, {"data_version": "v0"})
    done = run(model("1", "v1"), model("2", "v2", retired=True), keep_snapshots=2)
    assert place.versions == {"v0", "v1", "v4", "v5"}
    assert done["tidied_snapshots"] == 2
    assert place.lake.get_json(CURRENT)["data_version"] == "v0"
    assert run(model("1", "v1"), keep_snapshots=2)["tidied_snapshots"] == 0


def test_half_a_snapshot_goes_once_nobody_can_be_writing_it(place: Place, run: Any):
    place.put("snapshots/old/train.parquet", age=3)
    place.put("snapshots/new/train.parquet", age=0.1)
    run()
    assert place.versions == {"new"}


def test_no_snapshot_goes_while_it_is_not_known_who_needs_it(place: Place, tmp_path: Path):
    for number in range(4):
        place.publish(f"v{number}", age=10 - number)
    away = {"data_dir": str(tmp_path), "mlflow_url": "http://127.0.0.1:9", "keep_snapshots": "2"}
    context = Context(load_settings({variable(k): v for k, v in away.items()}), "now", {})
    assert retention._snapshots(context, NOW) == []
    assert place.versions == {"v0", "v1", "v2", "v3"}


def test_runs_files_and_merges_go_by_their_age(place: Place, run: Any):
    place.put("runs/old/merged.parquet", age=9)
    place.put("runs/busy/a.json", age=9)
    place.put("runs/busy/b.json", age=1)
    place.put("raw/u1/sales.csv", age=9)
    place.put("raw/u2/sales.csv", age=1)
    place.put("accepted/u1.parquet", age=9)
    place.put("rejected/u1.parquet", age=9)
    place.put("merged/mine.parquet", age=9)
    place.put("merged/mine.json", age=9)
    place.put("merged/other.parquet", age=9)
    place.put("merged/other.json", age=9)
    place.put("merged/fresh.parquet", age=0.1)
    done = run(keep_runs_days=7, keep_uploads_days=5)
    assert (done["tidied_runs"], done["tidied_uploads"], done["tidied_merged"]) == (1, 1, 2)
    left = set(place.lake.list())
    assert {"runs/busy/a.json", "raw/u2/sales.csv", "accepted/u1.parquet", "rejected/u1.parquet"} <= left
    assert {key for key in left if key.startswith("merged/")} == {
        "merged/mine.parquet", "merged/mine.json", "merged/fresh.parquet",
    }  # fmt: skip
    assert "raw/u1/sales.csv" not in left


def test_files_as_received_are_kept_for_ever_unless_told_otherwise(place: Place, run: Any):
    place.put("raw/u1/sales.csv", age=4000)
    assert run()["tidied_uploads"] == 0
    assert place.lake.exists("raw/u1/sales.csv")


def test_the_newest_are_counted_by_when_they_were_made():
    made = [snapshot("a", 1), snapshot("b", 9), snapshot("c", 5)]
    assert spare_snapshots(made, set(), 1) == ["b", "c"]
    assert spare_snapshots(made, {"b"}, 1) == ["c"]
    assert spare_snapshots(made, set(), 3) == []


def test_s3_tells_when_objects_were_written(s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    lake = open_lake(f"s3://{s3.bucket}/retention")
    lake.put("runs/r/a.json", b"1")
    lake.put("runs/r/b.json", b"2")
    written = lake.written("runs/")
    assert sorted(written) == lake.list("runs/") == ["runs/r/a.json", "runs/r/b.json"]
    assert all(abs((dt.datetime.now(dt.UTC) - at).total_seconds()) < 120 for at in written.values())
