"""The same retraining on one machine and on a Dask cluster: ``python -m bench.scaling --json out.json``.

``--data DIR`` with ``m5/`` for M5's rows; without it a generated panel of ``--rows``. Both ways run the product's own
functions, each in a process of its own: features of the longest block, trees on what a retraining learns from, the
judged rows of one fold, a forecast of the whole horizon of every series. The cluster is started here, on this machine,
by the commands that compose.yaml uses: what it shows is what spreading costs and how much memory each process needs;
that more machines are faster has to be shown on more machines. ``--scheduler`` takes a cluster that is there.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from bench.engine import generated
from bench.engine_parts import HORIZON, Scratch
from bench.sets import CASES, prepare
from bench.tables import manifest_of, peak_gb
from deploy.ports import free_ports
from ml.bundle import load_bundle, write_bundle
from ml.challenger import cluster_at, tables_on
from ml.evaluation import wape
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.models import Model
from ml.records import Recipe
from ml.splits import Split
from ml.training import Data, Rows, train_until

GENERATED_ROWS = 1_000_000
STEPS = ("features", "training", "judging", "forecast")
COLUMNS = {
    "what": "<10", "local_seconds": ">14.1f", "dask_seconds": ">13.1f", "ratio": ">6.2f", "local_gb": ">9.2f",
    "dask_gb": ">8.2f", "worker_gb": ">10.2f", "difference": ">11.2g",
}  # fmt: skip
Facts = dict[str, Any]


def work(folder: Path, address: str) -> Facts:
    """All steps at one place: seconds, the most memory so far, and what came out."""
    scratch = Scratch(folder)
    data, origin = scratch.data(scratch.panel()), scratch.origin
    judged = Split(origin, origin + dt.timedelta(days=HORIZON))
    found: Facts = {}
    with cluster_at(address) as client:

        @contextlib.contextmanager
        def step(name: str) -> Iterator[Facts]:
            facts: Facts = {}
            began = time.monotonic()
            yield facts
            facts["seconds"] = time.monotonic() - began
            facts["gb"] = peak_gb()
            facts["worker_gb"] = max(client.run(peak_gb).values()) if client else None
            found[name] = facts

        with step("features") as facts:
            tables = tables_on(client)(data, (HORIZON,), Rows.learnable(data.panel, origin))
            facts["value"] = tables[HORIZON].count(origin)
        recipe = scratch.recipe(int(facts["value"]))
        with step("training") as facts:
            model = train_until(recipe, data, tables, origin)
        with step("judging") as facts:
            rows = tables[HORIZON].judged({"model": model}, judged, recipe.blocks)
            facts["value"] = wape(rows["y"].to_numpy(), rows["model"].to_numpy())
        forecaster, asked = _forecaster(scratch, recipe, model, rows)
        with step("forecast") as facts:
            answers = _answers(client, forecaster, asked)
            facts["value"] = float(answers["prediction"].sum())
    return found


def _forecaster(scratch: Scratch, recipe: Recipe, model: Model, rows: pl.DataFrame) -> tuple[Forecaster, pl.DataFrame]:
    """A bundle's answers for every series and day of the horizon; both places answer with the trees of the first."""
    folder = scratch.folder / "bundle"
    if not folder.exists():
        past = scratch.past()
        intervals = Intervals.fit(rows["model"].to_numpy(), rows["y"].to_numpy(), rows["block"].to_numpy())
        manifest = manifest_of(past, recipe, HORIZON, scratch.origin)
        state = tail_of(past.panel, past.frequency, HORIZON)
        write_bundle(folder, manifest, model, intervals, state, lambda _: [], days=past.effects(scratch.origin))
    found = Forecaster(load_bundle(folder))
    return found, found.next_days([], [])


def _answers(client: Any, forecaster: Forecaster, asked: pl.DataFrame) -> pl.DataFrame:
    if client is None:
        return forecaster.forecast(asked)
    from ml.cluster import forecast

    return forecast(client, forecaster, asked)


# ---------------------------------------------------------------- the cluster


@contextlib.contextmanager
def started(workers: int) -> Iterator[str]:
    """A scheduler and workers of one thread each, as compose.yaml starts them; the scheduler's address."""
    port, *_ = free_ports(1)
    address, dask = f"tcp://127.0.0.1:{port}", str(Path(sys.executable).parent / "dask")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = [[dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0"]]
    run += [[dask, "worker", address, "--nthreads", "1", "--dashboard-address", ":0"]] * workers
    processes = [subprocess.Popen(command, **quiet) for command in run]
    try:
        _wait_for(address, workers)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def _wait_for(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(workers, timeout=60)


# ---------------------------------------------------------------- the run


def compared(local: Facts, dask: Facts) -> list[Facts]:
    """A row per step; ``difference``: of what came out, as a share."""
    rows = []
    for name in STEPS:
        here, there = local[name], dask[name]
        difference = abs(there["value"] / here["value"] - 1) if "value" in here else 0.0
        rows.append({
            "what": name, "local_seconds": here["seconds"], "dask_seconds": there["seconds"],
            "ratio": there["seconds"] / here["seconds"], "local_gb": here["gb"], "dask_gb": there["gb"],
            "worker_gb": there["worker_gb"], "difference": difference,
        })  # fmt: skip
    return rows


def table(rows: list[Facts]) -> str:
    head = " ".join(f"{name:{spec[0]}{spec[1:].split('.')[0]}}" for name, spec in COLUMNS.items())
    return "\n".join([head, *(" ".join(f"{row[n]:{spec}}" for n, spec in COLUMNS.items()) for row in rows)])


def _at(folder: Path, address: str) -> Facts:
    command = [sys.executable, "-m", "bench.scaling", "--work", str(folder), "--scheduler", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the work {'on the cluster' if address else 'here'} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _data(folder: Path | None, rows: int) -> tuple[str, Data]:
    if folder is None:
        return f"generated {rows:,}", generated(rows)
    return "M5", prepare(CASES["m5"], folder / "m5")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with m5/ (default: a generated panel)")
    parser.add_argument("--rows", type=int, default=GENERATED_ROWS, help="of the generated panel")
    parser.add_argument("--trees", type=int, help="rounds of boosting (default: those of the recipe)")
    parser.add_argument("--workers", type=int, default=2, help="to be started here, one thread each")
    parser.add_argument("--scheduler", default="", help="a cluster that is there, as tcp://host:8786")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    asked = arguments(given)
    if asked.work:
        print(json.dumps(work(asked.work, asked.scheduler)))
        return
    with tempfile.TemporaryDirectory(prefix="control-room-bench-") as folder, contextlib.ExitStack() as stack:
        name, data = _data(asked.data, asked.rows)
        scratch = Scratch.write(Path(folder), data, asked.trees)
        print(f"{name}: {data.panel.height:,} rows", flush=True)
        del data
        local = _at(scratch.folder, "")
        dask = _at(scratch.folder, asked.scheduler or stack.enter_context(started(asked.workers)))
    rows = compared(local, dask)
    print(table(rows))
    if asked.json:
        asked.json.write_text(json.dumps({"data": name, "workers": asked.workers, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
