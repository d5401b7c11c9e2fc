"""A job for a large file beside a plain polars + XGBoost + COPY script, on the same rows and trees.

``python -m bench.jobs [--rows 1000000] [--json out.json]``. Both read the same CSV, make the same features, predict
with the same trees, write into the same real PostgreSQL and leave a result file. The plain script validates nothing,
has no intervals, no support and no warnings, and cannot go on after a kill. It is measured twice: with a narrow table
without an index, as one would write it by hand, and with the product's own log as its table (19 columns and 5 indexes
to write). Each part runs in a process of its own, by turns; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.engine import generated, part
from bench.engine_parts import Scratch
from bench.jobs_parts import PARTS, asked
from deploy.leader import Leader
from deploy.ports import free_ports
from deploy.postgres import Postgres
from deploy.postgres_files import run_as
from ml.settings import variable

PANEL_ROWS = 250_000  # 500 series of 500 days
GOAL, GOAL_GB = 1.5, 1.5
SAME = 1e-4  # of the sum of all forecasts
NAMES = {"plain_script": "plain script", "plain_same_log": "plain script into the product's log"}
Runs = dict[str, list[dict[str, Any]]]


@contextmanager
def database(folder: Path) -> Iterator[tuple[str, int]]:
    """A PostgreSQL of one's own: its URL and its process."""
    (folder / "postgres").mkdir()
    for path in (folder, folder / "postgres"):
        path.chmod(0o711)  # root hands PostgreSQL to an account that must pass
    server = Postgres.at(folder / "postgres", free_ports(1)[0], secrets.token_hex(8), {"app": secrets.token_hex(8)})
    server.prepare()
    how: dict[str, Any] = {"cwd": folder, **run_as(server.place.account), "postgres_in": server.place.cluster}
    with (folder / "postgres.log").open("ab") as output:
        leader = Leader(list(server.command), server.env, f"bench-{uuid.uuid4().hex}", output=output, **how)
    try:
        while not server.is_ready():
            time.sleep(0.05)
        server.make_databases()
        yield server.url("app"), leader.pid
    finally:
        leader.end(10.0)


def processor_seconds(pid: int) -> float:
    """Of a process and its children, those that have ended included: the backends of a PostgreSQL."""
    process = psutil.Process(pid)
    while True:
        try:
            living = [child.cpu_times() for child in process.children()]
            break
        except psutil.NoSuchProcess:  # one has ended meanwhile: it is among the ended ones now
            continue
    own = process.cpu_times()
    return own.user + own.system + own.children_user + own.children_system + sum(t.user + t.system for t in living)


def measured(scratch: Scratch, url: str, pid: int, rounds: int, names: Sequence[str]) -> Runs:
    """All rounds, by turns, each beginning with another part."""
    env = os.environ | {variable("database_url"): url, variable("data_dir"): str(scratch.folder / "data")}
    runs: Runs = {name: [] for name in names}
    for turn in range(rounds):
        for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
            before = processor_seconds(pid)
            found = _part(name, scratch, env)
            found["postgres_seconds"] = processor_seconds(pid) - before
            found["all_cpu_seconds"] = found["cpu_seconds"] + found["postgres_seconds"]
            print(f"{name}: {json.dumps(found)}", file=sys.stderr, flush=True)
            runs[name].append(found)
    return runs


def _part(name: str, scratch: Scratch, env: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.jobs_parts", name, str(scratch.folder)]
    if name == "ours":  # as api/__init__.py has it, which is read after XGBoost here
        env = env | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"part {name} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(runs: Runs, rows: int) -> dict[str, Any]:
    """Medians and ratios; refuses to compare what did not do the same."""
    for name, found in runs.items():
        for run in found:
            if run["rows"] != rows or run["logged"] != rows:
                raise SystemExit(f"{name} wrote {run['rows']} rows and logged {run['logged']}, not {rows}")
            if abs(run["check"] - runs["ours"][0]["check"]) > SAME * abs(run["check"]):
                raise SystemExit(f"{name} forecasts {run['check']:.6g} in all, ours {runs['ours'][0]['check']:.6g}")
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }
    ours = medians["ours"]
    keys = (
        "seconds",
        "all_cpu_seconds",
    )  # processor seconds, PostgreSQL's included, hold on a machine in use by others
    ratios = {name: {key: ours[key] / medians[name][key] for key in keys} for name in medians if name != "ours"}
    return {"rows": rows, "medians": medians, "ratios": ratios, "load_1m": os.getloadavg()[0]}


def _line(name: str, medians: dict[str, float]) -> str:
    return (
        f"{name:<40}{medians['seconds']:>8.2f} s, of CPU {medians['cpu_seconds']:>6.2f} s and in PostgreSQL "
        f"{medians['postgres_seconds']:>6.2f} s, {medians['peak_gb']:>5.2f} GB"
    )


def told(found: dict[str, Any]) -> str:
    """The figures as text."""
    medians, ours = found["medians"], found["medians"]["ours"]
    lines = [f"{found['rows']:,} rows; load {found['load_1m']:.1f}", _line("the job", ours)]
    for name, ratio in found["ratios"].items():
        lines.append(
            f"{_line(NAMES[name], medians[name])}   ratio {ratio['seconds']:.2f} of time (goal {GOAL:g}), "
            f"{ratio['all_cpu_seconds']:.2f} of CPU"
        )
    lines.append(f"memory: {ours['peak_gb']:.2f} GB (goal {GOAL_GB:g})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trees", type=int, help="boosting rounds (default: the recipe's own)")
    parser.add_argument("--depth", type=int, help="depth of a tree (default: the recipe's own)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="also write the figures and every single run to this file")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="control-room-bench-") as name:
        folder = Path(name)
        (folder / "scratch").mkdir()
        scratch = Scratch.write(folder / "scratch", generated(PANEL_ROWS), given.trees, given.depth)
        for step in ("features_ours", "bundle"):
            part(step, scratch)
        rows = asked(scratch, given.rows)
        with database(folder) as (url, pid):
            runs = measured(scratch, url, pid, given.rounds, given.parts.split(","))
    found = compared(runs, rows)
    print(told(found))
    if given.json:
        given.json.write_text(json.dumps(found | {"runs": runs}, indent=1))


if __name__ == "__main__":
    main()
