"""A model on disk: written once, verified whole, never a pickle.

``manifest.json`` (how the model was made and the SHA-256 of every other file), the model's own files,
``intervals.json``, ``sums.json`` (intervals of totals; bundles from before there were any have none), ``days.json``
(what days do to sales, for daily data), ``state.parquet`` (recent history per series), ``attributes.parquet`` (where
the model uses static attributes), ``golden.json`` (rows and the answers they must get).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from ml.dayeffects import DayEffects
from ml.errors import BundleDamaged
from ml.features import DAY_EFFECT
from ml.intervals import Intervals
from ml.models import Model, load_model
from ml.records import Manifest
from ml.sums import Sums

MANIFEST = "manifest.json"
STATE, INTERVALS, SUMS, GOLDEN = "state.parquet", "intervals.json", "sums.json", "golden.json"
ATTRIBUTES, DAYS = "attributes.parquet", "days.json"
NOT_HASHED = (MANIFEST,)


@dataclass(frozen=True)
class Bundle:
    manifest: Manifest
    model: Model
    intervals: Intervals
    state: pl.DataFrame
    golden: list[dict[str, Any]]
    fingerprint: str
    attributes: pl.DataFrame | None = None
    sums: Sums | None = None
    days: DayEffects | None = None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_bundle(
    folder: Path,
    manifest: Manifest,
    model: Model,
    intervals: Intervals,
    state: pl.DataFrame,
    golden: Callable[[Bundle], list[dict[str, Any]]],
    attributes: pl.DataFrame | None = None,
    sums: Sums | None = None,
    days: DayEffects | None = None,
) -> Bundle:
    """Write everything, the golden rows (which ``golden`` computes with the bundle itself) and the manifest last.

    ``manifest.files`` is filled here. Returns the bundle as it will be loaded.

    Raises
    ------
    ValueError
        The model was trained with the effects of days, and they are not given.
    """
    if days is None and DAY_EFFECT in manifest.features:
        raise ValueError(f"{DAY_EFFECT} is an input of this model: its bundle needs the effects of days")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    if days is not None:
        (folder / DAYS).write_text(days.to_json())
    (folder / INTERVALS).write_text(intervals.to_json())
    if sums is not None:
        (folder / SUMS).write_text(sums.to_json())
    state.write_parquet(folder / STATE, compression="zstd")
    if attributes is not None:
        attributes.write_parquet(folder / ATTRIBUTES, compression="zstd")
    draft = Bundle(manifest, load_model(manifest.recipe, folder), intervals, state, [], "", attributes, days=days)
    (folder / GOLDEN).write_text(json.dumps(golden(draft), default=str))
    files = {p.name: sha256(p.read_bytes()) for p in sorted(folder.iterdir()) if p.name not in NOT_HASHED}
    final = manifest.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(final.model_dump_json(indent=1))
    return load_bundle(folder)


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle after checking the SHA-256 of every file against the manifest.

    Raises
    ------
    BundleDamaged
        A missing, foreign or changed file, or a manifest that can't be read.
    """
    folder = Path(folder)
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = Manifest.model_validate_json(raw)
    except (OSError, ValidationError) as error:
        raise BundleDamaged(f"{folder.name}: the manifest can't be read ({type(error).__name__})") from error
    _verify(folder, manifest)
    try:
        return Bundle(
            manifest=manifest,
            model=load_model(manifest.recipe, folder),
            intervals=Intervals.from_json((folder / INTERVALS).read_text()),
            state=pl.read_parquet(folder / STATE),
            golden=json.loads((folder / GOLDEN).read_text()),
            fingerprint=sha256(raw),
            attributes=pl.read_parquet(folder / ATTRIBUTES) if ATTRIBUTES in manifest.files else None,
            sums=Sums.from_json((folder / SUMS).read_text()) if SUMS in manifest.files else None,
            days=DayEffects.from_json((folder / DAYS).read_text()) if DAYS in manifest.files else None,
        )
    except (OSError, KeyError, ValueError) as error:
        raise BundleDamaged(f"{folder.name}: {error}") from error


def _verify(folder: Path, manifest: Manifest) -> None:
    present = {p.name for p in folder.iterdir() if p.is_file()} - set(NOT_HASHED)
    if missing := sorted(set(manifest.files) - present):
        raise BundleDamaged(f"{folder.name}: {', '.join(missing)} is missing", files=missing)
    if foreign := sorted(present - set(manifest.files)):
        raise BundleDamaged(f"{folder.name}: {', '.join(foreign)} is not in the manifest", files=foreign)
    changed = [name for name, digest in manifest.files.items() if sha256((folder / name).read_bytes()) != digest]
    if changed:
        raise BundleDamaged(f"{folder.name}: {', '.join(changed)} has another SHA-256 than written", files=changed)
