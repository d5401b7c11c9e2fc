"""Speed and memory of the forecast engine, beside a plain polars script and raw XGBoost on the same rows.

``python -m bench.engine [--data DIR] [--json out.json]``: DIR (or CONTROL_ROOM_BENCH_DATA) holds ``m5/``; without it a
generated panel of a million rows stands in, and the figures for M5 are not measured. Every part runs in a process of
its own, ours and the peer's by turns; medians are shown, for no single time on a shared machine says much.

The peers: for features ``bench.plain`` (the same windows, straight down; checked to give the same numbers), for
training ``xgboost.train`` with a ``QuantileDMatrix`` of the same matrix and parameters, for scoring the plain features
and ``Booster.inplace_predict``, without the bounds, the support and the warnings that our answers carry.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.engine_parts import PARTS, Scratch
from bench.sets import CASES, Case, prepare
from ml.demo import generate
from ml.settings import load_settings
from ml.training import Data

GENERATED_ROWS = 1_000_000
GENERATED_DAYS = 500
GENERATED_UNTIL = dt.date(2026, 3, 1)
SAME = 1e-5  # largest relative difference of features and forecasts between ours and the peers
NO_M5 = "SKIPPED, NOT MEASURED: M5, for no folder with m5/sales.parquet is named by --data or CONTROL_ROOM_BENCH_DATA"
Runs = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ours``, ``peer``: seconds; ``goal``: of their ratio, or of minutes without a peer.

    ``cpu_ratio``: of processor seconds, which a machine in use by others disturbs less.
    """

    what: str
    data: str
    rows: int
    ours: float
    peer: float | None
    ratio: float | None
    cpu_ratio: float | None
    goal: float | None
    peak_gb: float
    peer_peak_gb: float | None
    goal_gb: float | None = None

    @property
    def met(self) -> bool | None:
        measured = self.ours / 60 if self.peer is None else self.ratio
        goals = [(measured, self.goal), (self.peak_gb, self.goal_gb)]
        asked = [found <= goal for found, goal in goals if found is not None and goal is not None]
        return all(asked) if asked else None


# ---------------------------------------------------------------- the data


def generated(rows: int) -> Data:
    """The demo chain with about so many rows."""
    series = max(4, round(rows / GENERATED_DAYS))
    stores = max(2, math.isqrt(series) // 3)
    frame = generate(GENERATED_UNTIL, days=GENERATED_DAYS, stores=stores, products=max(2, series // stores))
    return prepare(Case(lambda _: (frame, []), GENERATED_UNTIL, 28, "ES", "wape", lambda *_: {}), Path())


def _data(folder: Path | None, rows: int) -> tuple[str, Data]:
    if folder is not None and (folder / "m5" / "sales.parquet").is_file():
        return "M5", prepare(CASES["m5"], folder / "m5")
    print(NO_M5, file=sys.stderr, flush=True)
    return f"generated {rows:,}", generated(rows)


# ---------------------------------------------------------------- the run


def part(name: str, scratch: Scratch) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [sys.executable, "-m", "bench.engine_parts", name, str(scratch.folder)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"part {name} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {json.dumps(found)}", file=sys.stderr, flush=True)
    return found


def measured(scratch: Scratch, rounds: int, parts: Sequence[str]) -> Runs:
    """All rounds of the parts asked for, ours and the peer's by turns."""
    pairs = [("features_ours", "features_plain"), ("train_ours", "train_raw"), ("score_ours", "score_plain")]
    runs: Runs = {"check": [part("check", scratch)]}
    wanted = [pair for pair in pairs if pair[0].split("_")[0] in parts]
    if wanted and wanted[0] != pairs[0]:
        part("features_ours", scratch)  # leaves the table that the others start from
    for ours, peer in wanted:
        if ours == "score_ours":
            part("bundle", scratch)
        for turn in range(rounds):
            for name in (ours, peer) if turn % 2 == 0 else (peer, ours):
                runs.setdefault(name, []).append(part(name, scratch))
    if "whole" in parts:
        runs["whole"] = [part("whole", scratch)]
    return runs


def _median(runs: Runs, name: str, key: str = "seconds") -> float:
    return statistics.median(float(run[key]) for run in runs[name])


def _same(runs: Runs) -> None:
    """Refuse to compare what does not do the same."""
    if (found := runs["check"][0]["difference"]) > SAME:
        raise SystemExit(
            f"features differ by {found:.1e} from those of the plain script; at most {SAME:.0e} is rounding"
        )
    for ours, peer in (("train_ours", "train_raw"), ("score_ours", "score_plain")):
        if ours in runs:
            a, b = runs[ours][0]["check"], runs[peer][0]["check"]
            if abs(a - b) > 1e-4 * abs(b):
                raise SystemExit(f"{ours} forecasts {a:.6g} in all and {peer} {b:.6g}: they do not do the same work")


def table(runs: Runs, data: str) -> list[Row]:
    """What was measured, as rows with their goals."""
    _same(runs)

    def beside(what: str, ours: Sequence[str], peer: Sequence[str], goal: float | None, **more: Any) -> Row:
        key, cpu = more.pop("keys", ("seconds", "cpu_seconds"))
        mine, theirs = (sum(_median(runs, name, key) for name in names) for names in (ours, peer))
        busy, theirs_busy = (sum(_median(runs, name, cpu) for name in names) for names in (ours, peer))
        peaks = (max(_median(runs, name, "peak_gb") for name in names) for names in (ours, peer))
        rows = runs[ours[-1]][0]["rows"]
        return Row(what, data, rows, mine, theirs, mine / theirs, busy / theirs_busy, goal, *peaks, **more)

    found = []
    if "features_ours" in runs:
        found.append(beside("features of a block", ["features_ours"], ["features_plain"], 1.3, goal_gb=6.0))
    if "train_ours" in runs:
        found.append(beside("training", ["train_ours"], ["train_raw"], 1.15))
    if "train_ours" in runs and "features_ours" in runs:
        both, theirs = ["features_ours", "train_ours"], ["features_plain", "train_raw"]
        found.append(beside("features and training, of both", both, theirs, 1.15))
        found.append(beside("features and training, beside training alone", both, ["train_raw"], 1.15))
    if "score_ours" in runs:
        found.append(beside("scoring with features", ["score_ours"], ["score_plain"], 1.1))
        again = "scoring again with bounds and support, beside predict alone"
        found.append(beside(again, ["score_ours"], ["score_plain"], None, keys=("later", "later_cpu")))
    for run in runs.get("whole", []):
        goals = {"goal": 30.0, "goal_gb": 12.0} if data == "M5" else {"goal": None}
        row = Row("complete run", data, run["rows"], run["seconds"], None, None, None, peak_gb=run["peak_gb"],
                  peer_peak_gb=None, **goals)  # fmt: skip
        found.append(row)
    return found


# ---------------------------------------------------------------- what is shown


def told(rows: list[Row]) -> str:
    """The table as text."""
    head = ("what", "data", "rows", "ours", "peer", "ratio", "of CPU", "goal", "peak GB", "peer GB", "met")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join(
        "  ".join(c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    goal = "" if row.goal is None else f"≤ {row.goal:g}" if row.peer else f"≤ {row.goal:g} min"
    goal += f", ≤ {row.goal_gb:g} GB" if row.goal_gb else ""
    return (
        row.what,
        row.data,
        f"{row.rows:,}",
        f"{row.ours:.2f} s" if row.peer else f"{row.ours / 60:.2f} min",
        f"{row.peer:.2f} s" if row.peer else "",
        f"{row.ratio:.2f}" if row.ratio else "",
        f"{row.cpu_ratio:.2f}" if row.cpu_ratio else "",
        goal,
        f"{row.peak_gb:.2f}",
        f"{row.peer_peak_gb:.2f}" if row.peer_peak_gb else "",
        {True: "yes", False: "NO", None: ""}[row.met],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    kinds = list(dict.fromkeys(name.split("_")[0] for name in PARTS if name not in ("check", "bundle")))
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds m5/ (default: CONTROL_ROOM_BENCH_DATA)")
    parser.add_argument("--json", type=Path, help="also write rows and every single run to this file")
    parser.add_argument("--rounds", type=int, default=3, help="of ours and the peer's by turns")
    parser.add_argument("--trees", type=int, help="boosting rounds (default: the recipe's own)")
    parser.add_argument("--rows", type=int, default=GENERATED_ROWS, help="of the generated panel")
    parser.add_argument("--parts", default=",".join(kinds), help=f"some of {','.join(kinds)}")
    asked = parser.parse_args(arguments)
    name, data = _data(asked.data or load_settings().bench_data, asked.rows)
    with tempfile.TemporaryDirectory(prefix="control-room-bench-") as folder:
        scratch = Scratch.write(Path(folder), data, asked.trees)
        del data  # not held beside what is measured
        runs = measured(scratch, asked.rounds, asked.parts.split(","))
    rows = table(runs, name)
    print(told(rows))
    if asked.json:
        found = {"rows": [asdict(row) | {"met": row.met} for row in rows], "runs": runs, "load_1m": os.getloadavg()[0]}
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
