"""How well the engine forecasts public retail data, side by side with peers on the same rows.

``python -m bench.accuracy --data DIR [--sets m5,rossmann,…] [--methods ours,…] [--json out.json]``.
Every method gets the same past and the same future inputs as files (:mod:`bench.job`) and never the sales that it is
judged by; each runs in a process of its own, so its seconds and its memory are its own. Seconds are from tables in
memory to forecasts with intervals; reading and cleaning (the product's, once per set) stand beside them.

``--set`` and ``--blocks`` change the recipe of ours, to explore.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from bench import peers
from bench.job import FACTS, FORECAST, write_job
from bench.sets import CASES, prepare
from ml.features import KEY
from ml.records import LEVELS
from ml.settings import load_settings

METHODS = ("seasonal_naive", "auto_ets", "mlforecast_lightgbm", "ours")
Row = dict[str, Any]
COLUMNS = {
    "set": "<11", "method": "<20", "metric": "<7", "value": ">8.4f", "bias": ">+8.1%", "coverage80": ">11.1%",
    "coverage95": ">11.1%", "seconds": ">8.1f", "peak_gb": ">8.2f",
}  # fmt: skip


def run_set(name: str, root: Path | None, asked: argparse.Namespace) -> Iterator[Row]:
    """A row per method that could be run."""
    case, folder = CASES[name], (root or Path()) / name
    if missing := case.missing(folder):
        skipped(name, f"--data (or CONTROL_ROOM_BENCH_DATA) names no folder with {name}/{missing[0]}")
        return
    with tempfile.TemporaryDirectory(prefix="control-room-bench-") as scratch:
        began = time.monotonic()
        judged = write_job(Path(scratch), name, case, prepare(case, folder))
        prepared = time.monotonic() - began
        for method in asked.methods:
            try:
                facts = run_method(method, Path(scratch), asked)
            except peers.PeersMissing as reason:
                skipped(f"{name}, {method}", str(reason))
                continue
            forecast = pl.read_parquet(Path(scratch) / FORECAST)
            yield {"set": name, "method": method, **scored(name, folder, judged, forecast), **facts,
                   "prepare_seconds": prepared}  # fmt: skip


def skipped(what: str, why: str) -> None:
    print(f"SKIPPED, NOT MEASURED: {what}: {why}", file=sys.stderr, flush=True)


def run_method(method: str, scratch: Path, asked: argparse.Namespace) -> Row:
    """Run a method on a job in a child process and give its facts.

    Raises
    ------
    PeersMissing
        A peer's environment is not there.
    SystemExit
        The method broke; its last output is on the error stream.
    """
    for name in (FORECAST, FACTS):
        (scratch / name).unlink(missing_ok=True)
    print(f"{method} …", file=sys.stderr, flush=True)
    done = subprocess.run(command(method, scratch, asked), cwd=peers.ROOT, stdout=sys.stderr)
    if done.returncode or not (scratch / FACTS).is_file():
        raise SystemExit(f"{method} ended with {done.returncode}; what it said is above")
    found: Row = json.loads((scratch / FACTS).read_text())
    return found


def command(method: str, scratch: Path, asked: argparse.Namespace) -> list[str]:
    if method in peers.NAMES:
        return [str(peers.interpreter(asked.peers, asked.install)), str(peers.SCRIPT), method, str(scratch)]
    if method == "seasonal_naive":
        return [sys.executable, "-m", "bench.naive", str(scratch)]
    changes = ["--changes", json.dumps(dict(asked.set)), "--blocks", json.dumps(asked.blocks)]
    return [sys.executable, "-m", "bench.ours", str(scratch), *changes]


def scored(name: str, folder: Path, judged: pl.DataFrame, forecast: pl.DataFrame) -> Row:
    """Metric, bias and coverage over the judged rows; a row without an answer counts as a forecast of 0."""
    case = CASES[name]
    rows = judged.join(forecast, on=KEY, how="left", maintain_order="left")
    point = pl.col("prediction").fill_nan(None)
    unanswered = rows.select(point.null_count()).item()
    rows = rows.with_columns(point.fill_null(0.0))
    found = case.score(folder, rows)
    inside = [
        pl.col("y").is_between(pl.col(f"low_{lv}") - 1e-9, pl.col(f"high_{lv}") + 1e-9).fill_null(False).mean()
        for lv in LEVELS
    ]
    covered = dict(zip((f"coverage{lv}" for lv in LEVELS), rows.select(
        expr.alias(str(lv)) for lv, expr in zip(LEVELS, inside, strict=True)).row(0), strict=True))  # fmt: skip
    scores = {"metric": case.measure, "value": found[case.measure], **covered, "bias": found["bias"]}
    return {**scores, "judged_rows": rows.height, "unanswered_rows": unanswered, "scores": found,
            "references": case.references}  # fmt: skip


def table(rows: list[Row]) -> str:
    """One line per row, and what others reached on the same rows."""
    head = " ".join(f"{name:{spec[0]}{spec[1:].lstrip('+').split('.')[0]}}" for name, spec in COLUMNS.items())
    lines = [head, *(" ".join(f"{row[n]:{spec}}" for n, spec in COLUMNS.items()) + f"  {row['note']}" for row in rows)]
    for name, row in {row["set"]: row for row in rows}.items():
        known = ", ".join(f"{what} {value}" for what, value in row["references"].items())
        lines += [f"{name}, elsewhere on the same rows: {known}"] if known else []
    return "\n".join(lines)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = {"sets": tuple(CASES), "methods": METHODS}
    for option, names in known.items():
        parser.add_argument(f"--{option}", default=",".join(names), help=f"some of {','.join(names)} (default: all)")
    parser.add_argument("--data", type=Path, default=None, help="folder with a folder per set; CONTROL_ROOM_BENCH_DATA")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--set", action="append", default=[], type=changed, metavar="NAME=VALUE", help="ours: recipe")
    parser.add_argument("--blocks", default="", help="ours: horizon blocks, as in 7,14,28")
    parser.add_argument("--peers", type=Path, default=peers.HOME, help="environment of the peers")
    parser.add_argument("--no-install", dest="install", action="store_false", help="skip peers that are not installed")
    asked = parser.parse_args(given)
    for option, names in known.items():
        chosen = getattr(asked, option).split(",")
        if unknown := [name for name in chosen if name not in names]:
            parser.error(f"--{option}: {unknown[0]!r} is none of {', '.join(names)}")
        setattr(asked, option, chosen)
    asked.blocks = [int(block) for block in asked.blocks.split(",") if block]
    asked.data = asked.data or load_settings().bench_data
    return asked


def changed(pair: str) -> tuple[str, float | str]:
    """A parameter of the recipe and its value, a number where it is one."""
    name, equals, value = pair.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{pair!r} is not NAME=VALUE")
    try:
        return name, float(value)
    except ValueError:
        return name, value


def main() -> None:
    asked = arguments()
    rows: list[Row] = []
    for name in asked.sets:
        for row in run_set(name, asked.data, asked):
            rows.append(row)
            if asked.json:  # after each: a long run that is ended early has not been for nothing
                asked.json.write_text(json.dumps(rows, indent=1, default=str))
    print(table(rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1, default=str))


if __name__ == "__main__":
    main()
