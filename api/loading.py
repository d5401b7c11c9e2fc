"""From a registered version to a forecaster that may answer: recorded, undamaged, and agreeing with its golden rows."""

from __future__ import annotations

import datetime as dt
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from api.published import Published
from api.trial import tried
from ml.bundle import MANIFEST, Bundle, load_bundle, sha256
from ml.cleaning import step
from ml.errors import BundleDamaged
from ml.features import WINDOWS
from ml.forecasting import Forecaster
from ml.onedal_trees import hastened
from ml.quick import Quick
from ml.records import ModelInfo, ModelRef
from ml.registry import Registry
from ml.store import Store

GOLDEN_TOLERANCE = 1e-3  # units; other builds of the same trees differ by at most 5e-4
KEPT_BUNDLES = 5
QUICK_ROWS = 500_000  # series times periods: some 100 MB to keep, and three times that while it is made

log = logging.getLogger("api.champion")


@dataclass(frozen=True)
class Loaded:
    """A model that may answer. ``data_version`` is that of the history it starts from."""

    ref: ModelRef
    info: ModelInfo
    forecaster: Forecaster
    data_version: str
    parity: float
    since: dt.datetime
    quick: Quick | None = None

    @cached_property
    def named(self) -> dict[str, Any]:
        """The model as answers name it."""
        return self.ref.model_dump()

    @cached_property
    def stores(self) -> frozenset[str]:
        return frozenset(self.forecaster.state["store"].unique().to_list())

    @cached_property
    def products(self) -> frozenset[str]:
        return frozenset(self.forecaster.state["product"].unique().to_list())

    @cached_property
    def last_date(self) -> dt.date:
        """The last date that the history can answer (a date beyond refuses the whole frame it is in)."""
        windows = WINDOWS[self.forecaster.frequency]
        return self.forecaster.origin + step(self.forecaster.frequency) * (
            windows.tail // windows.season * windows.season
        )

    @cached_property
    def usual_dates(self) -> tuple[dt.date, dt.date]:
        """The horizon: dates whose history is prepared."""
        one = step(self.forecaster.frequency)
        return self.forecaster.origin + dt.timedelta(days=1), self.forecaster.origin + one * self.forecaster.horizon

    def under(self, alias: str | None) -> Loaded:
        return replace(self, ref=self.ref.model_copy(update={"alias": alias}))


class Loader:
    """Bundles on this disk, by version; what is missing or damaged is fetched from the registry once more.

    The last used ones are kept, and always that of ``champion``, which a start without the registry needs.
    """

    def __init__(self, registry: Callable[[], Registry], store: Store, folder: Path) -> None:
        self.registry, self.store, self.folder = registry, store, folder
        self.champion: str | None = None  # its version

    def load(self, info: ModelInfo, alias: str | None, published: Published | None) -> Loaded:
        """Raises BundleDamaged, ServiceDown or NotFound; what is returned has been verified."""
        bundle = self._bundle(info.version)
        bundle = replace(bundle, model=hastened(bundle.model))
        own = Forecaster(bundle)
        parity = _proven(own, info.version)
        forecaster, data_version = own, bundle.manifest.data_version
        if published is not None and _is_newer(bundle, published):
            forecaster = Forecaster(bundle, _recent(bundle, published), published.attributes)
            data_version = published.snapshot.data_version
        # The first forecast prepares the history of every series: here, not in somebody's request.
        forecaster.forecast(forecaster.next_days([], [], 1).head(1))
        ref = ModelRef(name=info.name, version=info.version, alias=alias, run_id=info.run_id)
        return Loaded(ref, info, forecaster, data_version, parity, dt.datetime.now(dt.UTC), quick_for(forecaster))

    def _bundle(self, version: str) -> Bundle:
        folder = self.folder / version
        if (folder / MANIFEST).is_file():
            try:
                bundle = self._verified(version, folder)
                with suppress(OSError):  # a disk that can only be read is good enough
                    os.utime(folder / MANIFEST)
                return bundle
            except BundleDamaged:
                shutil.rmtree(folder, ignore_errors=True)
        self.registry().download(version, folder)
        bundle = self._verified(version, folder)
        self._prune(version, self.champion)
        return bundle

    def _verified(self, version: str, folder: Path) -> Bundle:
        """The manifest must be the recorded one before anything that it names is read."""
        fingerprint = sha256((folder / MANIFEST).read_bytes())
        self.store.require_bundle(version, fingerprint)
        _refuse_far(tried(folder, fingerprint), version)
        return load_bundle(folder)

    def _prune(self, *needed: str | None) -> None:
        kept = sorted(self.folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT_BUNDLES:]:
            if path.parent.name not in needed:
                shutil.rmtree(path.parent, ignore_errors=True)


def _proven(own: Forecaster, version: str) -> float:
    """The largest difference to the golden answers, which were given from the bundle's own history."""
    parity = own.check_golden()
    _refuse_far(parity, version)
    return parity


def _refuse_far(parity: float, version: str) -> None:
    if not parity <= GOLDEN_TOLERANCE:
        raise BundleDamaged(
            f"Version {version} answers its golden rows {parity:.3g} units off (at most {GOLDEN_TOLERANCE:g}).",
            version=version,
        )


def quick_for(forecaster: Forecaster) -> Quick | None:
    """The short way for usual rows; None, with the reason in the log, where it would not give the same answers."""
    rows = forecaster.catalog().height * forecaster.horizon
    if rows > QUICK_ROWS:
        log.warning("usual rows are answered the long way: a table of %s rows would take too much memory", f"{rows:,}")
        return None
    try:
        quick = Quick(forecaster)
        off = quick.difference()
    except Exception:  # it saves time and nothing else: without it rows are answered as all others are
        log.exception("usual rows are answered the long way")
        return None
    if not off <= 1:
        log.warning("usual rows are answered the long way: the short one is %.3g times the tolerance off", off)
        return None
    return quick


def _is_newer(bundle: Bundle, published: Published) -> bool:
    """Whether the published sales are others than the bundle's own, and of its kind."""
    manifest, snapshot = bundle.manifest, published.snapshot
    return snapshot.data_version != manifest.data_version and snapshot.frequency == manifest.frequency


def _recent(bundle: Bundle, published: Published) -> pl.DataFrame:
    frequency, horizon = bundle.manifest.frequency, bundle.manifest.horizon
    return published.since(published.snapshot.date_to - step(frequency) * (WINDOWS[frequency].tail + horizon))
