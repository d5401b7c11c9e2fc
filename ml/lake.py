"""Snapshots and files on a directory or on S3: the same keys, atomic writes, a pointer that is written last.

Keys: ``raw/<upload_id>/…`` as received · ``accepted/<upload_id>.parquet`` and ``rejected/<upload_id>.parquet`` ·
``attributes/<upload_id>.parquet`` (accepted tables of static attributes) · ``merged/<hash>.parquet`` (uploads merged) ·
``snapshots/<data_version>/{train,test,series}.parquet``, ``attributes.parquet`` where there are any, and ``data.json``
· ``snapshots/current.json`` (the pointer) · ``runs/<run_id>/…`` (hand-over between tasks) ·
``jobs/<job_id>/…`` (large files and what came out) · ``exports/…``. No key contains ``//`` or is a prefix of
another.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from ml.errors import NoData, NotFound, ServiceDown, SettingsError
from ml.records import Snapshot

CURRENT = "snapshots/current.json"
ATTRIBUTES = "attributes.parquet"
PROGRESS, REJECTED = "progress.json", "rejected.parquet"  # of a run


class Blobs(Protocol):
    """What a place to keep bytes must do. ``get`` raises NotFound, everything raises ServiceDown when away.

    ``written``: the keys with when each was last written.
    """

    url: str

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...
    def list(self, prefix: str = "") -> list[str]: ...
    def written(self, prefix: str = "") -> dict[str, dt.datetime]: ...
    def delete(self, key: str) -> None: ...


def _checked(key: str) -> str:
    parts = key.split("/")
    if not key or key.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\\" in key:
        raise ValueError(f"not a lake key: {key!r}")
    return key


class DirectoryBlobs:
    """Files below one folder; a file appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)
        root.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".put-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, path)
            except OSError:  # half of it would keep a full disk full
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ServiceDown("object store", str(error)) from error

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound(f"{key} is not in the lake", key=key) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str = "") -> list[str]:
        found = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        return sorted(key for key in found if key.startswith(prefix) and "/.put-" not in f"/{key}")

    def written(self, prefix: str = "") -> dict[str, dt.datetime]:
        found: dict[str, dt.datetime] = {}
        for key in self.list(prefix):
            with suppress(FileNotFoundError):  # another process may delete meanwhile
                found[key] = dt.datetime.fromtimestamp(self._path(key).stat().st_mtime, dt.UTC)
        return found

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)


class S3Blobs:
    """Objects below ``s3://bucket/prefix``. Endpoint and keys come from the AWS variables, addresses are path-style."""

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        self.url = url
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise SettingsError(f"{url} names no bucket: write s3://bucket or s3://bucket/prefix")
        self.bucket, self.prefix = bucket, prefix.strip("/")
        config = Config(
            s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=60, retries={"max_attempts": 4}
        )
        # A session of its own: boto3's shared one keeps the first credentials that the process ever saw.
        self.client = boto3.session.Session().client("s3", config=config)

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{_checked(key)}" if self.prefix else _checked(key)

    def _call(self, method: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, method)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404", "NotFound"):
                raise NotFound(f"{arguments.get('Key')} is not in the lake") from error
            raise ServiceDown("object store", str(error)) from error
        except BotoCoreError as error:
            raise ServiceDown("object store", str(error)) from error
        except RecursionError as error:  # botocore asks a bucket that redirects where it is, for ever
            raise ServiceDown("object store", "it redirects, as a proxy's sign-in page does") from error

    def put(self, key: str, data: bytes) -> None:
        if "ETag" not in self._call("put_object", Key=self._key(key), Body=data):
            raise ServiceDown("object store", "what took a file did not answer as an object store does")

    def get(self, key: str) -> bytes:
        return self._call("get_object", Key=self._key(key))["Body"].read()

    def exists(self, key: str) -> bool:
        try:
            self._call("head_object", Key=self._key(key))
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> list[str]:
        return sorted(self.written(prefix))

    def written(self, prefix: str = "") -> dict[str, dt.datetime]:
        start = f"{self.prefix}/{prefix}" if self.prefix else prefix
        cut = len(self.prefix) + 1 if self.prefix else 0
        found: dict[str, dt.datetime] = {}
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=start, **token)
            found |= {item["Key"][cut:]: item["LastModified"] for item in page.get("Contents", ())}
            if not page.get("IsTruncated"):
                return found
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._call("delete_object", Key=self._key(key))


class Lake:
    """Frames and JSON on top of :class:`Blobs`."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.url = blobs.url
        self.put = blobs.put
        self.get = blobs.get
        self.exists = blobs.exists
        self.list = blobs.list
        self.written = blobs.written
        self.delete = blobs.delete

    def put_frame(self, key: str, frame: pl.DataFrame) -> bytes:
        """Write a frame as Parquet and return its bytes (for a fingerprint)."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", statistics=True)
        data = buffer.getvalue()
        self.put(key, data)
        return data

    def get_frame(self, key: str, columns: Collection[str] | None = None) -> pl.DataFrame:
        """A frame; of its columns only those named, in the frame's own order (a name that it lacks is passed over)."""
        data = self.get(key)
        if columns is None:
            return pl.read_parquet(data)
        return pl.read_parquet(data, columns=[name for name in pl.read_parquet_schema(data) if name in columns])

    def put_json(self, key: str, value: Any) -> bytes:
        data = json.dumps(value, ensure_ascii=False, indent=1, default=str).encode()
        self.put(key, data)
        return data

    def get_json(self, key: str) -> Any:
        return json.loads(self.get(key))

    def check(self) -> float:
        """Write, read and delete a small object; returns milliseconds, raises ServiceDown."""
        begin = time.perf_counter()
        key = f"exports/.probe-{os.getpid()}"
        self.put(key, b"probe")
        if self.get(key) != b"probe":
            raise ServiceDown("object store", "read back something else than was written")
        self.delete(key)
        return (time.perf_counter() - begin) * 1000


def open_lake(url: str) -> Lake:
    """The lake at ``s3://bucket/prefix`` or in a folder."""
    if url.startswith("s3://"):
        return Lake(S3Blobs(url))
    return Lake(DirectoryBlobs(Path(url.removeprefix("file://")).absolute()))


def run_folder(run_id: str) -> str:
    """Where what a run of a pipeline hands from step to step lies."""
    return "runs/" + "".join(c if c.isalnum() or c in "-_." else "_" for c in run_id)


def current_snapshot(lake: Lake) -> Snapshot | None:
    """The published snapshot, or None before the first ETL run."""
    try:
        version = lake.get_json(CURRENT)["data_version"]
    except NotFound:
        return None
    return read_snapshot(lake, version)


def read_snapshot(lake: Lake, data_version: str) -> Snapshot:
    return Snapshot.model_validate_json(lake.get(f"snapshots/{data_version}/data.json"))


def require_snapshot(lake: Lake, data_version: str | None = None) -> Snapshot:
    """As :func:`current_snapshot` or the named version; raises NoData when there is none."""
    snapshot = read_snapshot(lake, data_version) if data_version else current_snapshot(lake)
    if snapshot is None:
        raise NoData
    return snapshot


def publish(lake: Lake, snapshot: Snapshot) -> None:
    """Make a snapshot, whose files are already written, the current one: ``data.json``, then the pointer."""
    missing = [name for name in snapshot.files if not lake.exists(f"snapshots/{snapshot.data_version}/{name}")]
    if missing:
        raise NotFound(f"snapshot {snapshot.data_version} lacks {', '.join(missing)}")
    lake.put(f"snapshots/{snapshot.data_version}/data.json", snapshot.model_dump_json(indent=1).encode())
    lake.put_json(CURRENT, {"data_version": snapshot.data_version})


def load_sales(lake: Lake, snapshot: Snapshot, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Every cleaned row of a snapshot (train, then test), sorted by store, product, date.

    ``columns``: the columns wanted. A snapshot also has codes, dummies and standardised columns, which training does
    not read: on M5 they are two thirds of the memory.
    """
    folder = f"snapshots/{snapshot.data_version}"
    wanted = None if columns is None else {*columns, "store", "product", "date"}
    frames = [lake.get_frame(f"{folder}/{name}.parquet", wanted) for name in ("train", "test")]
    return pl.concat(frames, how="vertical").sort("store", "product", "date")


def load_attributes(lake: Lake, snapshot: Snapshot) -> pl.DataFrame | None:
    """The side table of static attributes of a snapshot (see :mod:`ml.attributes`); None when it has none."""
    if ATTRIBUTES not in snapshot.files:
        return None
    return lake.get_frame(f"snapshots/{snapshot.data_version}/{ATTRIBUTES}")
