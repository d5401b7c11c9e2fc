"""Where an ETL run takes its raw data from: accepted uploads, the demo chain, a path or a URL."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

import polars as pl
import requests

from ml import demo
from ml.cleaning import merge
from ml.contract import Checked
from ml.errors import FileRefused, NotFound, ServiceDown, TooLarge
from ml.lake import Lake
from ml.reading import safe_name
from ml.records import Mapping, Preflight, Purpose, Upload
from ml.sidetable import check_upload
from ml.store import Store

log = logging.getLogger(__name__)
DEMO = "demo"
CHUNK = 1 << 20
REPLACED = "rows were replaced by later uploads"


def add_demo(lake: Lake, *, next_week: str | None, scale: float, today: dt.date) -> str:
    """Put the demo chain into the lake as an accepted upload, or continue it by a week; returns its id.

    ``next_week``: key of this run's note after which date the week follows. It is written before the week is, so a
    run that is retried adds no second one.
    """
    key, (stores, products) = f"accepted/{DEMO}.parquet", demo.scaled(scale)
    if lake.exists(key):
        if next_week is not None:
            _add_week(lake, key, next_week, scale)
        return DEMO
    if next_week is not None:
        lake.put_json(next_week, {"after": None})  # this run brings the chain itself, and no week after it
    lake.put_frame(key, demo.generate(today - dt.timedelta(days=1), stores=stores, products=products))
    return DEMO


def _add_week(lake: Lake, key: str, note: str, scale: float) -> None:
    stores, products = demo.scaled(scale)
    known = lake.get_frame(key)
    newest: dt.date = known["date"].max()  # type: ignore[assignment]
    if not lake.exists(note):
        lake.put_json(note, {"after": newest})
    if lake.get_json(note)["after"] == str(newest):
        week = demo.next_week(newest, stores=stores, products=products)
        lake.put_frame(key, pl.concat([known, week], how="vertical_relaxed"))


def add_file(
    lake: Lake,
    store: Store | None,
    source: str,
    regressors: list[str],
    limit_mb: int,
    purpose: Literal["training", "attributes"] = "training",
) -> str:
    """Read a file by path or URL, check it against the contract and put it into the lake as an accepted upload.

    ``regressors``: the columns that are known in advance, or for ``attributes`` those that are used; empty: as
    recognised.

    Raises
    ------
    FileRefused
        The contract refuses it; the message names the first reasons.
    """
    data, name = _fetch(source, limit_mb)
    checked = check_upload(data, name, purpose=purpose)
    if regressors:
        mapping = Mapping(roles=checked.preflight.mapping.roles, regressors=tuple(regressors))
        checked = check_upload(data, name, mapping=mapping, purpose=purpose)
    report = checked.preflight
    if report.verdict == "REJECT":
        reasons = "; ".join(f.message for f in report.findings if f.severity == "reject")
        raise FileRefused(f"{name}: {reasons}")
    upload_id = f"file-{report.sha256[:16]}" + ("-attributes" if purpose == "attributes" else "")
    known = _record(store, upload_id, report) if store is not None else upload_id
    if known == upload_id:  # else the console has accepted this very file before
        lake.put(f"raw/{upload_id}/{safe_name(name)}", data)
        put_accepted(lake, upload_id, checked)
    return known


def put_accepted(lake: Lake, upload_id: str, checked: Checked) -> None:
    """Write what counts of a file and what is left out of it; that it counts is said by the one written last."""
    lake.put_frame(f"rejected/{upload_id}.parquet", checked.rejected)
    folder = "attributes" if checked.preflight.purpose == "attributes" else "accepted"
    lake.put_frame(f"{folder}/{upload_id}.parquet", checked.frame)


def _record(store: Store, upload_id: str, report: Preflight) -> str:
    now = dt.datetime.now(dt.UTC)
    upload = Upload(
        upload_id=upload_id,
        filename=report.filename,
        bytes=report.bytes,
        sha256=report.sha256,
        status="accepted",
        purpose=report.purpose,
        created_at=now,
        accepted_at=now,
        preflight=report,
    )
    known = store.add_upload(upload)
    if known.status == "received":  # the same file was uploaded in the console and not yet accepted
        raise FileRefused(f"{report.filename} was uploaded as {known.upload_id} and awaits acceptance in the console.")
    return known.upload_id


def attribute_tables(lake: Lake, store: Store | None, wanted: list[str], limit_mb: int) -> list[str]:
    """The tables of attributes a run uses; of two that describe the same key, the later one in the list wins.

    Parameters
    ----------
    wanted
        Upload ids, paths or URLs, in their order; empty: all accepted ones in the order of acceptance; ``["none"]``:
        none.
    """
    known = {key.removeprefix("attributes/").removesuffix(".parquet") for key in lake.list("attributes/")}
    if wanted == ["none"]:
        return []
    if not wanted:
        order = _acceptance_order(store, "attributes")
        return sorted(known, key=lambda upload_id: (order.get(upload_id, ""), upload_id))
    return [name if name in known else add_file(lake, store, name, [], limit_mb, "attributes") for name in wanted]


def _fetch(source: str, limit_mb: int) -> tuple[bytes, str]:
    url = urlparse(source)
    if url.scheme in ("http", "https"):
        return _download(source, limit_mb), Path(url.path).name or "download"
    path = Path(url.path if url.scheme == "file" else source)
    if not path.is_file():
        raise NotFound(f"There is no file {path}; give a path that Airflow's machine can read, or a URL.")
    if path.stat().st_size > limit_mb << 20:
        raise TooLarge(f"{path.name} is larger than {limit_mb} MB (setting CONTROL_ROOM_UPLOAD_LIMIT_MB).")
    return path.read_bytes(), path.name


def _download(source: str, limit_mb: int) -> bytes:
    try:
        with requests.get(source, stream=True, timeout=(10, 60)) as reply:
            reply.raise_for_status()
            parts, size = [], 0
            for part in reply.iter_content(CHUNK):
                parts.append(part)
                size += len(part)
                if size > limit_mb << 20:
                    raise TooLarge(f"The file is larger than {limit_mb} MB (setting CONTROL_ROOM_UPLOAD_LIMIT_MB).")
    except requests.RequestException as error:
        raise ServiceDown("source", f"{urlparse(source).hostname}: {type(error).__name__}") from error
    return b"".join(parts)


def accepted_uploads(lake: Lake, store: Store | None, wanted: list[str]) -> list[str]:
    """The uploads a run uses, in the order in which they were accepted: the wanted ones, else all.

    The demo counts only as long as nothing else is there.
    """
    ids = [key.removeprefix("accepted/").removesuffix(".parquet") for key in lake.list("accepted/")]
    if missing := sorted(set(wanted) - set(ids)):
        raise NotFound(f"{', '.join(missing)} is not an accepted upload", uploads=missing)
    order = _acceptance_order(store)
    chosen = sorted(wanted or ids, key=lambda upload_id: (order.get(upload_id, ""), upload_id))
    real = [upload_id for upload_id in chosen if upload_id != DEMO]
    return chosen if wanted or not real else real


@dataclass(frozen=True)
class Merged:
    """Uploads made one table of one row per date, store and product; it lies in the lake at ``key``."""

    key: str
    rows: int
    rows_in: int
    notes: tuple[str, ...]


def merge_uploads(lake: Lake, uploads: list[str]) -> Merged:
    """Merge uploads in order, the last one winning per date, store and product; what was merged before is not again.

    A merge is kept under the hash of its uploads' contents and order, so the next run adds to it the uploads that have
    come since. With the same uploads nothing is merged at all.

    Raises
    ------
    InputError
        Some uploads have stores or products and others have none.
    """
    chain = _chain(lake, uploads)
    known = next((n for n in range(len(uploads), 0, -1) if lake.exists(f"merged/{chain[n - 1]}.json")), 0)
    if known < len(uploads):
        _add_to_merge(lake, chain, known, uploads)
    return _read_merge(lake, chain[-1])


def _chain(lake: Lake, uploads: list[str]) -> list[str]:
    """For each upload the hash of it and all before it."""
    chain, digest = [], ""
    for upload_id in uploads:
        content = hashlib.sha256(lake.get(f"accepted/{upload_id}.parquet")).hexdigest()
        digest = hashlib.sha256(f"{digest} {upload_id} {content}".encode()).hexdigest()[:24]
        chain.append(digest)
    return chain


def _read_merge(lake: Lake, digest: str) -> Merged:
    facts = lake.get_json(f"merged/{digest}.json")
    return Merged(f"merged/{digest}.parquet", facts["rows"], facts["rows_in"], tuple(facts["notes"]))


def _add_to_merge(lake: Lake, chain: list[str], known: int, uploads: list[str]) -> None:
    """Merge the uploads after the first ``known`` into what is known of those; the facts are written last."""
    frames = [lake.get_frame(f"accepted/{upload_id}.parquet") for upload_id in uploads[known:]]
    names, notes = uploads[known:], []
    rows_in = sum(frame.height for frame in frames)
    if known:
        before = _read_merge(lake, chain[known - 1])
        log.info("%d of %d uploads were merged before", known, len(uploads))
        frames, names = [lake.get_frame(before.key), *frames], ["the uploads before", *names]
        rows_in, notes = rows_in + before.rows_in, list(before.notes)
    merged, said = merge(frames, names)
    replaced = rows_in - merged.height
    # One count for all uploads, however many runs it took to merge them.
    notes = [note for note in (*notes, *said) if not note.endswith(REPLACED)]
    notes += [f"{replaced} {REPLACED}"] if replaced else []
    lake.put_frame(f"merged/{chain[-1]}.parquet", merged)
    facts = {"uploads": uploads, "rows": merged.height, "rows_in": rows_in, "notes": list(dict.fromkeys(notes))}
    lake.put_json(f"merged/{chain[-1]}.json", facts)


def _acceptance_order(store: Store | None, purpose: Purpose = "training") -> dict[str, str]:
    if store is None:
        return {}
    uploads = store.uploads(purpose=purpose, limit=100_000)
    return {u.upload_id: u.accepted_at.isoformat() for u in uploads if u.accepted_at}


def rejected_rows(lake: Lake, upload_ids: list[str]) -> pl.DataFrame:
    """The rows that were left out of these uploads: ``upload_id, row, column, code, reason``."""
    wanted = ["row", "column", "code", "reason"]
    frames = []
    for upload_id in upload_ids:
        key = f"rejected/{upload_id}.parquet"
        if lake.exists(key):
            frame = lake.get_frame(key).select(pl.lit(upload_id).alias("upload_id"), *wanted)
            frames.append(frame.cast({"row": pl.Int64, "column": pl.String, "code": pl.String, "reason": pl.String}))
    empty = pl.DataFrame(schema={"upload_id": pl.String, "row": pl.Int64} | dict.fromkeys(wanted[1:], pl.String))
    return pl.concat([empty, *frames])
