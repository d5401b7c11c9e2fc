"""The steps of ``process_etl_sales_data``: raw files -> one published snapshot."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from dataclasses import replace

import polars as pl

from ml import sources
from ml.attributes import attach, merge_tables
from ml.checks import Candidate, Published, accepted_codes, check_data, refuse_errors
from ml.cleaning import BASE, Panel, make_panel, usual_price
from ml.context import Context, Json, log
from ml.drift import Learned, measure_drift
from ml.encoding import encode, fit_encoding
from ml.errors import InputError, NotFound
from ml.lake import ATTRIBUTES, REJECTED, current_snapshot, load_sales, publish, read_snapshot
from ml.records import ETL_DAG, DataCheck, Drift, Encoding, Snapshot
from ml.settings import Settings
from ml.splits import rolling_origins

SAME_BUSINESS = 0.5  # a champion that knows fewer of the series learned from another business: nothing to compare
UNITS = {"D": "units/day", "W": "units/week"}


def collect(c: Context) -> Json:
    """Bring the raw data of this run into the lake and name the uploads it uses."""
    source = str(c.option("source", "uploads"))
    today = dt.datetime.now(dt.UTC).date()
    if source in ("demo", "demo_next_week"):
        week = c.key("next_week.json") if source != "demo" else None
        sources.add_demo(c.lake, next_week=week, scale=c.settings.demo_scale, today=today)
        wanted = [sources.DEMO] if source == "demo" else []
    elif source != "uploads":
        added = sources.add_file(c.lake, c.store, source, list(c.option("regressors", [])), c.settings.upload_limit_mb)
        wanted = [added] if c.option("only_this", False) else []
    else:
        wanted = list(c.option("uploads", []))
    uploads = sources.accepted_uploads(c.lake, c.store, wanted)
    if not uploads:
        raise InputError("No upload has been accepted yet: upload a file and accept it, then run this again.")
    tables = sources.attribute_tables(c.lake, c.store, list(c.option("attributes", [])), c.settings.upload_limit_mb)
    found = {"uploads": uploads, "attributes": tables}
    c.put("collect.json", found)
    return c.logged(ETL_DAG, found, params={"source": source, **{name: ", ".join(ids) for name, ids in found.items()}})


def validate(c: Context) -> Json:
    """Merge the accepted rows (later uploads win) and count what was left out of them."""
    collected = c.json("collect.json")
    uploads, tables = collected["uploads"], collected["attributes"]
    merged = sources.merge_uploads(c.lake, uploads)
    side, said = merge_tables([c.lake.get_frame(f"attributes/{name}.parquet") for name in tables], tables)
    rejected = sources.rejected_rows(c.lake, [*uploads, *tables])
    c.put(ATTRIBUTES, side)
    c.put(REJECTED, rejected)
    counts = {"rows_in": merged.rows_in, "rows_merged": merged.rows, "rows_rejected": rejected.height}
    c.put("validate.json", {"notes": [*merged.notes, *said], "merged": merged.key, **counts})
    texts = {"rejected.csv": rejected.head(10_000).write_csv()} if rejected.height else {}
    return c.logged(ETL_DAG, counts, metrics=counts, texts=texts)


def clean(c: Context) -> Json:
    """Make the regular panel: frequency, periods without a row, inputs, closing days, attributes."""
    panel = make_panel(
        c.lake.get_frame(c.json("validate.json")["merged"]),
        country=str(c.option("country", c.settings.country)).upper(),
        missing_days=c.option("missing_days", c.settings.missing_days),
    )
    panel = _with_attributes(panel, c.frame(ATTRIBUTES))
    c.put("panel.parquet", panel.frame)
    facts = {k: v for k, v in panel.__dict__.items() if k != "frame"}
    c.put("panel.json", facts)
    counts = {"rows_clean": panel.frame.height, "rows_filled": panel.rows_filled}
    for note in panel.decisions:
        log.info("%s", note)
    params = {"frequency": panel.frequency, "missing_days": panel.missing_days, "static": ", ".join(panel.static)}
    return c.logged(ETL_DAG, {**counts, **params}, metrics=counts, params=params)


def _with_attributes(panel: Panel, side: pl.DataFrame) -> Panel:
    found = attach(panel.frame, side)
    notes = (*panel.decisions, *found.notes)
    return replace(panel, frame=found.frame, static=found.static, decisions=notes)


def split(c: Context) -> Json:
    """Split train and test in time, fit the standardisation on train only, and encode both."""
    panel = _panel(c)
    horizon = _horizon(c.settings, panel.frequency)
    first, last = _span(panel.frame)
    folds = int(c.option("test_folds", c.settings.backtest_folds))
    origin = rolling_origins(first, last, horizon, folds, panel.frequency)[0].origin
    frame = panel.frame.with_columns(weekday=pl.col("date").dt.weekday().cast(pl.String))
    train, test = frame.filter(pl.col("date") <= origin), frame.filter(pl.col("date") > origin)
    encoding = _encoding(train, frame, panel)
    for name, part in (("train", train), ("test", test)):
        c.put(f"{name}.parquet", encode(part, encoding))
    c.put("series.parquet", _series(panel.frame))
    counts = {"rows_train": train.height, "rows_test": test.height}
    c.put("split.json", {"split_date": origin, "horizon": horizon, "encoding": encoding.model_dump(), **counts})
    return c.logged(ETL_DAG, {"split_date": str(origin), **counts}, metrics=counts, params={"split_date": origin})


def check(c: Context) -> Json:
    """Look for what should not be published, and for drift from what the champion learned."""
    panel = _panel(c)
    found = _checked(c, panel)  # first and apart: what it compares with is not held while drift is measured
    drift = _drift(c, panel)
    judged = {"checks": [item.model_dump() for item in found], "drift": drift.model_dump(mode="json")}
    c.put("checks.json", judged)
    for item in found:
        log.info("%s %s: %s", item.severity, item.code, item.message)
    counts = {
        f"checks_{level}": sum(item.severity == level for item in found) for level in ("error", "warning", "info")
    }
    texts = {"checks.json": json.dumps(judged, indent=1)}
    result = c.logged(ETL_DAG, dict(counts), metrics=counts | _drift_metrics(drift), texts=texts)
    refuse_errors(found, anyway=bool(c.option("publish_anyway", False)))
    moved = [item.feature for item in drift.features if item.level != "none"]
    return result | {"drift": ", ".join(moved) or drift.note or "none"}


def _checked(c: Context, panel: Panel) -> tuple[DataCheck, ...]:
    counted = c.json("validate.json")
    new = Candidate(
        panel.frame,
        c.lake.get_frame(counted["merged"], ("store", "product", "date", "sales")),
        panel.frequency,
        rows_rejected=counted["rows_rejected"],
        today=dt.datetime.now(dt.UTC).date(),
    )
    before = _same_business(c, c.json("collect.json")["uploads"])
    known = None if before is None else Published(load_sales(c.lake, before, ("sales",)), before.frequency)
    return check_data(new, known, accepted_codes(before.checks if before is not None else ()))


def _same_business(c: Context, uploads: list[str]) -> Snapshot | None:
    """The snapshot that the new data is compared with; none when real uploads take the demo's place."""
    now = current_snapshot(c.lake)
    return None if now is None or (sources.DEMO in now.sources) != (sources.DEMO in uploads) else now


def _drift(c: Context, panel: Panel) -> Drift:
    champion = c.registry.alias("champion")
    if champion is None:
        return Drift(note="There is no champion yet.")
    about = Drift(version=champion.version, data_version=champion.data_version)
    try:
        snapshot = read_snapshot(c.lake, champion.data_version)
        learned = load_sales(c.lake, snapshot, (*BASE, *snapshot.regressors))
    except NotFound:
        return about.model_copy(update={"note": "What the champion learned from is no longer kept."})
    if snapshot.frequency != panel.frequency or _share_known(learned, panel.frame) < SAME_BUSINESS:
        return about.model_copy(update={"note": "The champion learned from another business."})
    before = Learned(champion.version, champion.data_version, learned, snapshot.date_to)
    return measure_drift(before, panel.frame, panel.frequency, panel.regressors)


def _share_known(learned: pl.DataFrame, now: pl.DataFrame) -> float:
    keys = ["store", "product"]
    series = now.select(keys).unique()
    return series.join(learned.select(keys).unique(), on=keys, how="semi").height / max(series.height, 1)


def _drift_metrics(drift: Drift) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in drift.features:
        name = re.sub(r"[^\w.-]", "_", item.feature)  # MLflow refuses other characters in names of metrics
        found |= {f"drift_psi_{name}": item.psi, f"drift_distance_{name}": item.distance}
    return found


def publish_snapshot(c: Context) -> Json:
    """Write the snapshot under its content hash, move the pointer, record actuals: only now is the data new."""
    snapshot = _snapshot(c)
    folder = f"snapshots/{snapshot.data_version}"
    for name in snapshot.files:
        c.lake.put(f"{folder}/{name}", c.lake.get(c.key(name)))
    publish(c.lake, snapshot)
    if c.store is not None:
        sold = c.frame("panel.parquet").filter(pl.col("sales").is_not_null())
        changed = c.store.upsert_actuals(sold, snapshot.data_version)
        log.info("%d actuals are new or corrected", changed)
        c.store.set_upload_status(list(snapshot.sources), "processed", snapshot.data_version)
    result = {"data_version": snapshot.data_version, "rows": snapshot.rows, "date_to": str(snapshot.date_to)}
    texts = {"data.json": snapshot.model_dump_json(indent=1)}
    return c.logged(ETL_DAG, result, params=result, texts=texts, finish=True)


def _panel(c: Context) -> Panel:
    facts = c.json("panel.json")
    facts |= {name: tuple(facts[name]) for name in ("regressors", "static", "decisions")}
    return Panel(frame=c.frame("panel.parquet"), **facts)


def _span(frame: pl.DataFrame) -> tuple[dt.date, dt.date]:
    return frame["date"].min(), frame["date"].max()  # type: ignore[return-value]


def _horizon(settings: Settings, frequency: str) -> int:
    return settings.horizon_days if frequency == "D" else settings.horizon_weeks


def _encoding(train: pl.DataFrame, whole: pl.DataFrame, panel: Panel) -> Encoding:
    inputs = [name for name in whole.columns if name not in (*BASE, "weekday")]
    text = [name for name in inputs if not whole.schema[name].is_numeric()]
    numeric = [name for name in whole.columns if whole.schema[name].is_numeric() and name != "sales"]
    categorical = ["store", "product", *(["weekday"] if panel.frequency == "D" else []), *text]
    return fit_encoding(train, categorical, numeric, known=whole)


def _series(frame: pl.DataFrame) -> pl.DataFrame:
    known = frame.filter(pl.col("sales").is_not_null())
    return known.group_by("store", "product", maintain_order=True).agg(
        date_from=pl.col("date").min(),
        date_to=pl.col("date").max(),
        rows=pl.len().cast(pl.Int64),
        mean_sales=pl.col("sales").mean(),
        last_price=usual_price(frame.columns),
    )


def _files(panel: Panel) -> tuple[str, ...]:
    return ("train.parquet", "test.parquet", "series.parquet", *((ATTRIBUTES,) if panel.static else ()))


def _snapshot(c: Context) -> Snapshot:
    panel, parts, checks = _panel(c), c.json("split.json"), c.json("validate.json")
    collected, judged = c.json("collect.json"), c.json("checks.json")
    files = {name: hashlib.sha256(c.lake.get(c.key(name))).hexdigest() for name in _files(panel)}
    frame = c.frame("train.parquet")
    first, last = _span(panel.frame)
    country = str(c.option("country", c.settings.country)).upper()
    version = hashlib.sha256(json.dumps([files, country, parts["horizon"]], sort_keys=True).encode()).hexdigest()[:16]
    return Snapshot(
        data_version=version,
        created_at=dt.datetime.now(dt.UTC),
        frequency=panel.frequency,
        horizon=parts["horizon"],
        unit=UNITS[panel.frequency],
        rows=panel.frame.height,
        rows_train=parts["rows_train"],
        rows_test=parts["rows_test"],
        rows_rejected=checks["rows_rejected"],
        rows_filled=panel.rows_filled,
        stores=panel.frame["store"].n_unique(),
        products=panel.frame["product"].n_unique(),
        series=panel.frame.select("store", "product").n_unique(),
        date_from=first,
        date_to=last,
        split_date=parts["split_date"],
        country=country,
        columns={name: str(dtype) for name, dtype in frame.schema.items()},
        regressors=panel.regressors,
        static=panel.static,
        derived=tuple(name for name in frame.columns if name not in (*BASE, *panel.regressors, *panel.static)),
        closed_when=panel.closed_when,
        missing_days=panel.missing_days,
        encoding=parts["encoding"],
        sources=(*collected["uploads"], *collected["attributes"]),
        decisions=(*checks["notes"], *panel.decisions, f"train up to {parts['split_date']}, test after it"),
        files=files,
        checks=judged["checks"],
        drift=judged["drift"],
    )
