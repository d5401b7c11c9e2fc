"""The published sales, kept beside the API: followed by the pointer in the lake, readable while the lake is away."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from ml import health
from ml.errors import NoData, ServiceDown
from ml.lake import ATTRIBUTES, Lake, current_snapshot, read_snapshot
from ml.records import SalesPoint, SeriesInfo, Snapshot

PARTS = ("train.parquet", "test.parquet")
SERIES = "series.parquet"
DATA = "data.json"
KEPT_SNAPSHOTS = 2
JUDGED = ("date", "store", "product", "sales", "promotion")  # what the health of the data is told by


@dataclass(frozen=True)
class Selection:
    """Which sales; None means all."""

    store: str | None = None
    product: str | None = None
    from_date: dt.date | None = None
    to_date: dt.date | None = None

    def expression(self) -> pl.Expr:
        chosen = [pl.col(name) == value for name, value in (("store", self.store), ("product", self.product)) if value]
        if self.from_date:
            chosen.append(pl.col("date") >= self.from_date)
        if self.to_date:
            chosen.append(pl.col("date") <= self.to_date)
        return pl.all_horizontal(pl.lit(True), *chosen)


@dataclass(frozen=True)
class Published:
    """One snapshot on this disk. Rows stay in the files; every question reads what it needs."""

    snapshot: Snapshot
    folder: Path

    def scan(self) -> pl.LazyFrame:
        return pl.concat([pl.scan_parquet(self.folder / name) for name in PARTS], how="vertical")

    def since(self, date: dt.date) -> pl.DataFrame:
        """Rows of ``date`` and later."""
        return self.scan().filter(pl.col("date") >= date).collect().sort("store", "product", "date")

    def points(self, wanted: Selection) -> list[SalesPoint]:
        """Sales per period, summed over the selection; price and promotion are the mean of its rows."""
        known = self.scan().collect_schema().names()
        extra = [pl.col(name).mean() for name in ("price", "promotion") if name in known]
        # A period without any known sale is unknown, not zero.
        total = pl.when(pl.col("sales").count() > 0).then(pl.col("sales").sum()).alias("sales")
        found = self.scan().filter(wanted.expression()).group_by("date").agg(total, *extra).sort("date").collect()
        return [SalesPoint(**row) for row in found.iter_rows(named=True)]

    @property
    def attributes(self) -> pl.DataFrame | None:
        """The side table of static attributes, if this snapshot has one."""
        return pl.read_parquet(self.folder / ATTRIBUTES) if ATTRIBUTES in self.snapshot.files else None

    @cached_property
    def lately(self) -> health.Lately:
        """How its last weeks are; worked out once, for half a year of a large panel takes seconds."""
        first = health.basis(self.snapshot.date_to, self.snapshot.frequency)
        known = self.scan().collect_schema().names()
        rows = self.scan().filter(pl.col("date") >= first).select(name for name in JUDGED if name in known)
        return health.lately(rows.collect(), self.snapshot.frequency)

    @cached_property
    def series(self) -> tuple[SeriesInfo, ...]:
        """Every store and product with its range, the number of its rows and its mean."""
        found = pl.read_parquet(self.folder / SERIES).sort("store", "product")
        return tuple(SeriesInfo(**row) for row in found.iter_rows(named=True))


class PublishedFolder:
    """The snapshots kept under ``<data_dir>/api/snapshots``; :meth:`follow` brings the current one."""

    def __init__(self, lake: Lake, folder: Path) -> None:
        self.lake, self.folder = lake, folder
        self.current: Published | None = None

    def follow(self) -> bool:
        """Look at the pointer; True when another snapshot is in use now. Raises ServiceDown when the lake is away."""
        snapshot = current_snapshot(self.lake)
        if snapshot is None or (self.current and self.current.snapshot.data_version == snapshot.data_version):
            return False
        self.current = self._fetched(snapshot)
        self._prune()
        return True

    def recall(self) -> None:
        """Use the newest one on this disk: for a start without the lake."""
        kept = sorted(self.folder.glob(f"*/{DATA}"), key=lambda path: path.stat().st_mtime)
        for path in reversed(kept):
            try:
                snapshot = Snapshot.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue
            self.current = Published(snapshot, path.parent)
            return

    def of(self, data_version: str) -> Published:
        """One version of the data, whichever is current; raises NotFound when the lake has it no longer."""
        kept = self.folder / data_version / DATA
        if kept.is_file():
            os.utime(kept)
            return Published(Snapshot.model_validate_json(kept.read_bytes()), kept.parent)
        found = self._fetched(read_snapshot(self.lake, data_version))
        self._prune()
        return found

    def require(self) -> Published:
        """The snapshot in use; raises NoData."""
        if self.current is None:
            raise NoData
        return self.current

    def _fetched(self, snapshot: Snapshot) -> Published:
        target = self.folder / snapshot.data_version
        if not (target / DATA).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with tempfile.TemporaryDirectory(
                    dir=self.folder, prefix=".new-", ignore_cleanup_errors=True
                ) as scratch:
                    self._fetch(snapshot, Path(scratch))
                    shutil.rmtree(target, ignore_errors=True)
                    os.rename(scratch, target)
            except OSError as error:
                raise ServiceDown(
                    "disk", f"snapshot {snapshot.data_version} cannot be kept ({error.strerror})"
                ) from error
        os.utime(target / DATA)
        return Published(snapshot, target)

    def _fetch(self, snapshot: Snapshot, folder: Path) -> None:
        for name in (*PARTS, SERIES, *({ATTRIBUTES} & set(snapshot.files))):
            (folder / name).write_bytes(self._verified(snapshot, name))
        (folder / DATA).write_text(snapshot.model_dump_json())

    def _verified(self, snapshot: Snapshot, name: str) -> bytes:
        data = self.lake.get(f"snapshots/{snapshot.data_version}/{name}")
        if hashlib.sha256(data).hexdigest() != snapshot.files.get(name):
            raise ServiceDown("object store", f"{name} of snapshot {snapshot.data_version} is damaged")
        return data

    def _prune(self) -> None:
        kept = sorted(self.folder.glob(f"*/{DATA}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT_SNAPSHOTS:]:
            shutil.rmtree(path.parent, ignore_errors=True)
