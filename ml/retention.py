"""The last step of an ETL run: let go of what the settings say is kept no longer.

Never: the snapshot that the pointer names, one that a kept model learned from, the run that is at work, accepted rows
(they are the data). A snapshot loses its ``data.json`` first, so one that was half deleted is none any more.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ml.context import Context, Json, log
from ml.errors import ControlRoomError, ServiceDown
from ml.lake import CURRENT, Lake
from ml.records import ETL_DAG, Snapshot

UNFINISHED = dt.timedelta(days=1)  # what a killed run left may still be finished by its retry until then


def tidy(c: Context) -> Json:
    """Delete old snapshots, run folders, files as received, those of jobs, and searches; log how many of each."""
    now = dt.datetime.now(dt.UTC)
    gone = {
        "snapshots": _snapshots(c, now),
        "runs": _runs(c, now),
        "uploads": _received(c, now, "raw/"),
        "jobs": _received(c, now, "jobs/"),
        "merged": _merged(c, now),
        "studies": _studies(c, now),
    }
    counts = {f"tidied_{name}": len(names) for name, names in gone.items()}
    for name, names in gone.items():
        if names:
            log.info("%s let go: %s", name, ", ".join(names))
    return c.logged(ETL_DAG, dict(counts), metrics=counts, finish=True)


def spare_snapshots(snapshots: Iterable[Snapshot], needed: set[str], newest: int) -> list[str]:
    """Data versions beyond the ``newest`` ones that nobody needs, oldest first.

    Examples
    --------
    >>> spare_snapshots([], {"a"}, 10)
    []
    """
    ordered = sorted(snapshots, key=lambda item: (item.created_at, item.data_version))
    return [item.data_version for item in ordered[: max(len(ordered) - newest, 0)] if item.data_version not in needed]


def _snapshots(c: Context, now: dt.datetime) -> list[str]:
    try:
        needed = {item.data_version for item in c.registry.versions() if item.retired_at is None}
    except ServiceDown as error:
        log.warning("No snapshot is deleted: which of them models learned from is not known (%s).", error)
        return []
    if c.lake.exists(CURRENT):
        needed.add(c.lake.get_json(CURRENT)["data_version"])
    found = _folders(c.lake.written("snapshots/"), within="snapshots/")
    whole = [version for version, keys in found.items() if f"snapshots/{version}/data.json" in keys]
    records = [Snapshot.model_validate_json(c.lake.get(f"snapshots/{version}/data.json")) for version in whole]
    gone = spare_snapshots(records, needed, c.settings.keep_snapshots)
    gone += [v for v, keys in found.items() if v not in {*whole, *needed} and _idle(keys, now) > UNFINISHED]
    for version in gone:
        _delete(c.lake, sorted(found[version], key=lambda key: not key.endswith("/data.json")))
    return gone


def _runs(c: Context, now: dt.datetime) -> list[str]:
    mine = c.key("x").split("/")[1]
    found = _folders(c.lake.written("runs/"), within="runs/")
    limit = dt.timedelta(days=c.settings.keep_runs_days)
    gone = [name for name, keys in found.items() if name != mine and _idle(keys, now) > limit]
    for name in gone:
        _delete(c.lake, found[name])
    return gone


def _received(c: Context, now: dt.datetime, within: str) -> list[str]:
    """Uploads as received, and jobs with what came out; what counts of uploads, and the log of predictions, stays."""
    if not c.settings.keep_uploads_days:
        return []
    found = _folders(c.lake.written(within), within=within)
    limit = dt.timedelta(days=c.settings.keep_uploads_days)
    gone = [name for name, keys in found.items() if _idle(keys, now) > limit]
    for name in gone:
        _delete(c.lake, found[name])
    return gone


def _merged(c: Context, now: dt.datetime) -> list[str]:
    """Merges that the next run cannot add to: all but this run's own, and what another run may just be reading."""
    mine = c.json("validate.json")["merged"].removesuffix(".parquet")
    gone = [
        key for key, at in c.lake.written("merged/").items() if key.rpartition(".")[0] != mine and now - at > UNFINISHED
    ]
    # The facts first: without them the rows are not looked at.
    _delete(c.lake, sorted(gone, key=lambda key: not key.endswith(".json")))
    return gone


def _studies(c: Context, now: dt.datetime) -> list[str]:
    if not c.settings.database_url:
        return []
    from ml.studies import forget_studies

    try:
        return forget_studies(c.settings.database_url, now - dt.timedelta(days=c.settings.keep_runs_days))
    except ControlRoomError as error:
        log.warning("Old searches stay for now: %s", error)
        return []


def _folders(written: Mapping[str, dt.datetime], within: str) -> dict[str, dict[str, dt.datetime]]:
    """Objects by the folder right below ``within``; objects that lie beside the folders are left out."""
    found: dict[str, dict[str, dt.datetime]] = defaultdict(dict)
    for key, at in written.items():
        folder, slash, _ = key.removeprefix(within).partition("/")
        if slash:
            found[folder][key] = at
    return found


def _idle(written: Mapping[str, dt.datetime], now: dt.datetime) -> dt.timedelta:
    return now - max(written.values())


def _delete(lake: Lake, keys: Iterable[str]) -> None:
    for key in keys:
        lake.delete(key)
