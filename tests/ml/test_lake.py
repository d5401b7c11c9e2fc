"""The same behaviour on a folder and on a real S3 server."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml.errors import NotFound, ServiceDown, SettingsError
from ml.lake import CURRENT, Lake, current_snapshot, load_sales, open_lake, publish, require_snapshot
from ml.records import Encoding, Snapshot


@pytest.fixture(params=["folder", "s3"])
def lake(request, tmp_path, monkeypatch) -> Lake:
    if request.param == "folder":
        return open_lake(str(tmp_path / "lake"))
    server = request.getfixturevalue("s3")
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    return open_lake(f"s3://{server.bucket}/{tmp_path.name}")


def snapshot(version: str) -> Snapshot:
    day = dt.date(2026, 1, 1)
    counts = dict.fromkeys(
        ("rows", "rows_train", "rows_test", "rows_rejected", "rows_filled", "stores", "products", "series"), 1
    )
    return Snapshot(
        data_version=version,
        created_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        frequency="D",
        horizon=28,
        unit="units/day",
        date_from=day,
        date_to=day,
        split_date=day,
        country="ES",
        columns={},
        regressors=(),
        missing_days="zero",
        encoding=Encoding(),
        sources=(),
        decisions=(),
        files={"train.parquet": "", "test.parquet": ""},
        **counts,
    )


def test_bytes_frames_and_json_come_back(lake):
    frame = pl.DataFrame({"a": [1, 2], "ñ": ["x", None]})
    lake.put_frame("runs/r1/frame.parquet", frame)
    lake.put_json("runs/r1/facts.json", {"día": dt.date(2026, 1, 1)})
    lake.put("raw/u1/ventas.csv", b"\x00\xff")
    assert lake.get_frame("runs/r1/frame.parquet").equals(frame)
    assert lake.get_json("runs/r1/facts.json") == {"día": "2026-01-01"}
    assert lake.get("raw/u1/ventas.csv") == b"\x00\xff"
    assert lake.list("runs/") == ["runs/r1/facts.json", "runs/r1/frame.parquet"]
    lake.delete("raw/u1/ventas.csv")
    assert not lake.exists("raw/u1/ventas.csv")
    assert lake.check() > 0
    assert lake.list("exports/") == []


def test_what_is_not_there_is_named(lake):
    with pytest.raises(NotFound, match="nothing"):
        lake.get("raw/nothing")
    assert current_snapshot(lake) is None
    with pytest.raises(Exception, match="upload a file"):
        require_snapshot(lake)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a//b", "../secret", "a/../../b", "a\\b", "a/./b"])
def test_keys_cannot_leave_the_lake(lake, key):
    with pytest.raises(ValueError, match="not a lake key"):
        lake.put(key, b"x")


def test_the_pointer_moves_only_to_a_whole_snapshot(lake):
    rows = pl.DataFrame({"store": ["s"], "product": ["p"], "date": [dt.date(2026, 1, 1)], "sales": [1.0]})
    with pytest.raises(NotFound, match=r"lacks train\.parquet, test\.parquet"):
        publish(lake, snapshot("v1"))
    assert not lake.exists(CURRENT)
    for name in ("train", "test"):
        lake.put_frame(f"snapshots/v1/{name}.parquet", rows)
    publish(lake, snapshot("v1"))
    assert current_snapshot(lake).data_version == "v1"
    assert load_sales(lake, snapshot("v1")).height == 2
    with pytest.raises(NotFound):
        publish(lake, snapshot("v2"))
    assert current_snapshot(lake).data_version == "v1"


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    lake = open_lake(str(tmp_path))
    lake.put("raw/a.csv", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ServiceDown, match="No space left"):
        lake.put("raw/a.csv", b"new")
    assert lake.get("raw/a.csv") == b"old"
    assert lake.list() == ["raw/a.csv"]


def test_a_store_that_is_away_is_said(monkeypatch, tmp_path):
    for key, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ServiceDown, match="object store"):
        open_lake("s3://bucket").get("raw/a.csv")


def test_a_lake_uses_the_keys_of_now_whatever_the_process_used_before(monkeypatch, s3):
    for key, value in s3.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an older key")
    with pytest.raises(ServiceDown, match="object store"):
        open_lake(f"s3://{s3.bucket}/keys").list()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    assert open_lake(f"s3://{s3.bucket}/keys").list() == []


def test_a_bucket_must_be_named():
    with pytest.raises(SettingsError, match="names no bucket"):
        open_lake("s3:///prefix")


def test_sales_are_read_with_the_columns_that_are_wanted(tmp_path):
    lake = open_lake(str(tmp_path / "lake"))
    days = [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]
    for name, day in zip(("train", "test"), days, strict=True):
        rows = {
            "sales": [1.0, 2.0],
            "store": ["a", "b"],
            "product": ["p", "p"],
            "date": [day] * 2,
            "price_std": [0.0] * 2,
        }
        lake.put_frame(f"snapshots/v/{name}.parquet", pl.DataFrame(rows))
    found = load_sales(lake, snapshot("v"), ("sales", "price"))
    assert found.columns == ["sales", "store", "product", "date"]
    assert found.select("store", "date").rows() == [("a", days[0]), ("a", days[1]), ("b", days[0]), ("b", days[1])]
    assert load_sales(lake, snapshot("v")).columns == [*found.columns, "price_std"]
