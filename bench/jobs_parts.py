"""The measured parts of ``bench.jobs``, a process each: the product's worker, and plain scripts beside it.

``python -m bench.jobs_parts PART SCRATCH`` prints one line of JSON. The clock runs from the file on the disk to the
result file on the disk; imports and the loading of the model are left out, for ours and for the peers alike.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg2
import sqlalchemy as sa
import xgboost as xgb

from api.jobfiles import result_file
from api.worker import Worker
from bench import plain
from bench.engine_parts import HORIZON, Scratch, _clock
from bench.tables import peak_gb
from ml.bundle import DAYS, MANIFEST, sha256
from ml.copying import ONE_OF_MANY, TYPES
from ml.dayeffects import DayEffects
from ml.features import KEY, SERIES
from ml.jobboard import NewJob
from ml.records import ModelInfo
from ml.settings import Settings, load_settings
from ml.store import Store

ASKED, OURS, PLAIN = "asked.csv", "result.csv", "plain.csv"
FACTORS = (0.7, 1.1)  # prices that are tried, of the last known one
PLAIN_TABLE = (
    "CREATE TABLE IF NOT EXISTS public.plain (at timestamptz, date date, store text, product text,"
    " price double precision, promotion double precision, prediction double precision, model_version text)"
)
Result = dict[str, Any]


def asked(scratch: Scratch, rows: int) -> int:
    """Write the file to be predicted: every series over the horizon, at as many prices as make so many rows."""
    panel = scratch.panel()
    last = panel.filter(pl.col("date") == scratch.origin).select(*SERIES, "price")
    later = panel.filter(pl.col("date") > scratch.origin).select(KEY)
    keys = later.join(last, on=SERIES).sort("date", *SERIES)
    times = -(-rows // keys.height)
    factors = pl.DataFrame({"factor": np.linspace(*FACTORS, times)})
    found = factors.join(keys, how="cross").head(rows).with_columns(price=(pl.col("price") * pl.col("factor")).round(2))
    promoted = (pl.col("date").dt.weekday() == 5).cast(pl.Int8)
    found.select("date", *SERIES, "price", promotion=promoted).write_csv(scratch.folder / ASKED)
    return found.height


# ---------------------------------------------------------------- ours


def ours(scratch: Scratch) -> Result:
    """A job in the queue to the result file: claimed, read, validated, forecast, logged, joined."""
    settings = load_settings()
    _emptied(settings)
    worker = Worker(settings)
    claim_of = _queued(worker, scratch)
    worker._model(claim_of)  # loading is outside the clock, as in the peers
    with _clock() as took:
        data = (scratch.folder / ASKED).read_bytes()
        worker.lake.put(claim_of.file_key, data)
        del data
        worker._settle(claim_of)
        job = worker.board.job(claim_of.job_id)
        if job.state != "done":
            raise SystemExit(f"the job is {job.state}: {job.error}")
        with (scratch.folder / OURS).open("wb") as file:
            for piece in result_file(worker.lake, job, "csv"):
                file.write(piece)
    return _told(took, scratch.folder / OURS, _logged(settings, "predictions", job.job_id))


def _queued(worker: Worker, scratch: Scratch) -> Any:
    """The job in the queue and claimed, with the model on the disk of the worker."""
    bundle = worker.folder / "bundles" / "1"
    if not bundle.exists():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.symlink_to(scratch.folder / "bundle")
    worker.store.record_bundle("1", sha256((bundle / MANIFEST).read_bytes()))
    now = dt.datetime.now(dt.UTC)
    model = ModelInfo(
        name="sales", version="1", aliases=("champion",), created_at=now, run_id="bench", kind="xgboost",
        data_version="bench",
    )  # fmt: skip
    content = (scratch.folder / ASKED).read_bytes()
    job_id = hashlib.md5(str(now).encode()).hexdigest()
    new = NewJob(
        job_id=job_id, filename=ASKED, bytes=len(content), sha256=job_id, file_key=f"jobs/{job_id}/file/{ASKED}",
        model=model, alias="champion", data_version="bench", created_by="bench",
    )  # fmt: skip
    worker.board.add(new)
    claim = worker.board.claim(worker.name, 3600.0)
    assert claim is not None
    return claim


# ---------------------------------------------------------------- the peers


def plain_script(scratch: Scratch) -> Result:
    """What one would write by hand: read, features, predict, COPY into a narrow table without an index, write."""
    return _plain(scratch, into_log=False)


def plain_same_log(scratch: Scratch) -> Result:
    """The same, with the product's own log as the table: its columns, its JSON and its indexes."""
    return _plain(scratch, into_log=True)


def _plain(scratch: Scratch, into_log: bool) -> Result:
    settings, data = load_settings(), scratch.data(pl.DataFrame())
    booster = xgb.Booster(model_file=next((scratch.folder / "bundle").glob("*.ubj")))
    effects = DayEffects.from_json((scratch.folder / "bundle" / DAYS).read_text()).of
    panel = scratch.panel()
    _emptied(settings)
    connection = psycopg2.connect(settings.database_url.replace("+psycopg2", ""))
    request_id = f"plain-{dt.datetime.now(dt.UTC).timestamp()}"
    with _clock() as took:
        rows = pl.read_csv(scratch.folder / ASKED, try_parse_dates=True)
        found = _predicted(scratch, data, panel, rows, booster, effects)
        with connection, connection.cursor() as cursor:
            if into_log:
                _copy(cursor, f"predictions ({', '.join(TYPES)})", _as_logged(found, request_id))
            else:
                at, version = pl.lit(str(dt.datetime.now(dt.UTC))), pl.lit("1")
                _copy(cursor, "plain", found.select(at.alias("at"), *found.columns, version.alias("version")))
        found.write_csv(scratch.folder / PLAIN)
    table, value = ("predictions", request_id) if into_log else ("plain", "1")
    return _told(took, scratch.folder / PLAIN, _logged(settings, table, value))


def _predicted(
    scratch: Scratch, data: Any, panel: pl.DataFrame, rows: pl.DataFrame, booster: xgb.Booster, effects: Any
) -> pl.DataFrame:
    """Windows once per series and day, joined to the rows; then what depends on price and promotion of the row."""
    groups = [c for c in panel.columns if c.startswith("product.")][:2]
    later = pl.col("date") > scratch.origin
    known = panel.with_columns(sales=pl.when(~later).then("sales"))
    windows = plain.windows(known, HORIZON, groups).filter(later).with_columns(pl.col(SERIES).cast(pl.String))
    joined = rows.join(windows.drop("price", "promotion"), on=KEY, how="left", maintain_order="left")
    alphabets = {
        n: plain._alphabet(panel[n.removesuffix("_code")]) for n in data.names if n.endswith("_code")
    }  # fmt: skip
    joined = plain.pointwise(joined, data.country, alphabets)
    joined = joined.with_columns(effects(joined).alias("day_effect"))
    value = pl.col(data.names).cast(pl.Float32)
    x = joined.select(pl.when(value.is_finite()).then(value)).to_numpy(order="c")
    margin = joined["level"].log().cast(pl.Float32).to_numpy()
    answers = booster.inplace_predict(x, base_margin=margin, validate_features=False)
    return rows.with_columns(prediction=pl.Series(answers).cast(pl.Float64))


def _as_logged(found: pl.DataFrame, request_id: str) -> pl.DataFrame:
    fixed = {
        "created_at": str(dt.datetime.now(dt.UTC)), "unit": "units/day", "model_version": "1",
        "model_alias": "champion", "run_id": "bench", "data_version": "bench", "source": "job",
        "request_id": request_id, "similar_days": "0", "warnings": None, "batch": str(ONE_OF_MANY),
    }  # fmt: skip
    bounds = [pl.col("prediction").alias(name) for name in ("low_80", "high_80", "low_95", "high_95")]
    inputs = pl.struct("price", "promotion").struct.json_encode().alias("inputs")
    return found.with_columns(inputs, *bounds, *(pl.lit(v, pl.String).alias(n) for n, v in fixed.items())).select(
        list(TYPES)
    )


def _copy(cursor: Any, table: str, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False)
    buffer.seek(0)
    cursor.copy_expert(f"COPY {table} FROM STDIN (FORMAT csv)", buffer)


# ---------------------------------------------------------------- what they say


def _emptied(settings: Settings) -> None:
    """The tables as they are in a new installation: an index of many millions of rows is another one to write to."""
    store = Store(settings.database_url)
    store.migrate()
    with store.begin() as connection:
        connection.execute(sa.text(PLAIN_TABLE))
        connection.execute(sa.text("TRUNCATE predictions, plain"))
    store.close()


def _logged(settings: Settings, table: str, value: str) -> int:
    column = "request_id" if table == "predictions" else "model_version"
    with psycopg2.connect(settings.database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} = %s", [value])
        return int(cursor.fetchone()[0])


def _told(took: list[float], file: Path, logged: int) -> Result:
    peak = peak_gb()  # before the check below reads everything
    made = pl.read_csv(file)
    return {
        "seconds": took[0],
        "cpu_seconds": took[1],
        "rows": made.height,
        "logged": logged,
        "check": float(made["prediction"].sum()),
        "peak_gb": peak,
    }


PARTS = {part.__name__: part for part in (ours, plain_script, plain_same_log)}


def main() -> None:
    name, folder = sys.argv[1:3]
    found = PARTS[name](Scratch(Path(folder)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
