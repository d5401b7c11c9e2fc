"""What faults leave behind: ``python -m bench.faults --json out.json``.

Pipelines are killed just before and after their durable writes and at random moments, two retrainings run at once,
PostgreSQL and MLflow are killed and restarted, the object store is cut in the middle of an upload, and promotions race.
After each of them there must be exactly one champion, the right one, with one audit row, and running the pipeline again
must finish. Everything is real: the services, the product's own processes and the signals.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import requests

from bench.proxy import Trap, When
from bench.races import race_all
from bench.world import World, kill, wait_for
from ml.lake import current_snapshot
from ml.records import RETRAIN_DAG, Snapshot
from ml.registry import RUN_TAG

JOB_SECONDS = 180
RERUNS = 3  # as often as Airflow would try, and once more
Case = Literal[
    "etl killed at a write",
    "etl killed at any time",
    "retrain killed at a write",
    "retrain killed at any time",
    "two retrainings at once",
    "PostgreSQL killed and restarted",
    "MLflow killed and restarted",
    "object store cut in an upload",
    "rollback",
]
TRIES: dict[str, int] = {
    "etl killed at a write": 16,
    "etl killed at any time": 8,
    "retrain killed at a write": 40,
    "retrain killed at any time": 16,
    "two retrainings at once": 6,
    "PostgreSQL killed and restarted": 8,
    "MLflow killed and restarted": 6,
    "object store cut in an upload": 8,
    "rollback": 20,
}


@dataclass
class Outcome:
    """One try. ``problems`` says what was not as it must be; ``reruns`` how often the pipeline was started again."""

    case: str
    point: str
    struck: bool = True
    reruns: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """The world, both published businesses, and what an undisturbed run of each pipeline writes."""

    world: World
    random: random.Random
    versions: list[str] = field(default_factory=list)
    writes: dict[str, list[str]] = field(default_factory=dict)
    takes: dict[str, float] = field(default_factory=dict)
    turns: Counter[str] = field(default_factory=Counter)  # per pipeline: in a case with both, each must still change

    def prepare(self) -> None:
        """Publish both businesses, start the API, and record both pipelines once without a fault."""
        for number in (0, 1):
            self._recorded("etl", self.world.business(number))
            self.versions.append(self.snapshot().data_version)
        self.turns["etl"] = 1
        self.world.start("api")
        self._recorded("retrain", self.next_conf("retrain"))
        self._recorded("retrain", self.next_conf("retrain"))  # with a champion to be replaced

    def _recorded(self, pipeline: str, conf: dict[str, Any]) -> None:
        trap, begin = Trap(), time.monotonic()
        self.world.set_trap(trap)
        finish(self.world, pipeline, f"recorded-{self.random.getrandbits(40):x}", conf, tries=1)
        self.world.set_trap(None)
        self.writes[pipeline], self.takes[pipeline] = trap.names, time.monotonic() - begin

    def next_conf(self, pipeline: str) -> dict[str, Any]:
        """The other business than the last time: for an ETL run its file, for a retraining its data."""
        self.turns[pipeline] += 1
        if pipeline == "etl":
            return self.world.business(self.turns["etl"])
        return {"data_version": self.versions[self.turns["retrain"] % 2], "policy": "auto"}

    def snapshot(self) -> Snapshot:
        found = current_snapshot(self.world.lake)
        assert found is not None, "nothing is published"
        return found


def finish(world: World, pipeline: str, run_id: str, conf: dict[str, Any], *, tries: int = RERUNS) -> int:
    """Run a pipeline until it ends well; returns how often it had to be started. Raises RuntimeError when it does not.

    Raises
    ------
    RuntimeError
        It has not ended well after ``tries`` starts; with what it printed last.
    """
    said = ""
    for attempt in range(1, tries + 1):
        process = world.job(pipeline, run_id, conf)
        said, _ = process.communicate(timeout=JOB_SECONDS)
        if process.returncode == 0:
            return attempt
    raise RuntimeError(f"{pipeline} {run_id} does not finish: {said[-1500:]}")


# ---------------------------------------------------------------- what must hold


def champion_of(world: World) -> str | None:
    found = world.registry.alias("champion")
    return None if found is None else found.version


def versions_of(world: World, run_id: str) -> list[str]:
    """Every version that a run of ours has registered."""
    experiment = world.registry.client.get_experiment_by_name(RETRAIN_DAG)
    if experiment is None:
        return []
    runs = world.registry.client.search_runs([experiment.experiment_id], f"tags.`{RUN_TAG}` = '{run_id}'")
    ids = {run.info.run_id for run in runs}
    return [info.version for info in world.registry.versions() if info.run_id in ids]


def after_fault(world: World, before: str | None) -> list[str]:
    """What is wrong right after a fault, before anything is run again: there is a champion, and it is whole."""
    now, problems = champion_of(world), []
    if before is not None and now is None:
        problems.append("there is no champion after the fault")
    if now is not None and world.store.bundle_sha256(now) is None:
        problems.append(f"champion {now} has no recorded bundle")
    return problems


def after_retrain(world: World, run_id: str, before: str | None) -> list[str]:
    """What is wrong after a retraining has finished that had to replace the champion ``before``."""
    mine, champion = versions_of(world, run_id), champion_of(world)
    rows = [row for row in world.store.promotions(limit=1000) if row.version in mine]
    problems = []
    if len(mine) != 1:
        problems.append(f"the run registered {len(mine)} versions")
    if champion not in mine:
        problems.append(f"champion is {champion}, not one of {mine}")
    if champion != world.store.champion():
        problems.append(f"the alias is at {champion}, the audit says {world.store.champion()}")
    if [(row.action, row.previous) for row in rows] != [("promote", before)]:
        problems.append(f"audit rows of the run: {[(row.action, row.version, row.previous) for row in rows]}")
    if world.store.broken_promotion() is not None:
        problems.append("the audit's chain is broken")
    return problems


def snapshot_problems(world: World) -> list[str]:
    """Whether what the pointer names is whole, byte for byte."""
    found = current_snapshot(world.lake)
    if found is None:
        return ["nothing is published"]
    folder = f"snapshots/{found.data_version}"
    damaged = [
        name for name, digest in found.files.items()
        if hashlib.sha256(world.lake.get(f"{folder}/{name}")).hexdigest() != digest
    ]  # fmt: skip
    return [f"published file {name} is damaged" for name in damaged]


# ---------------------------------------------------------------- one fault each


def killed(bench: Bench, pipeline: str, point: tuple[int, When] | float) -> Outcome:
    """A pipeline killed at a write (its number, before or after) or after so many seconds; then run again."""
    world, run_id = bench.world, f"fault-{bench.random.getrandbits(40):x}"
    conf, before = bench.next_conf(pipeline), champion_of(world)
    published, begin = bench.snapshot().data_version, time.monotonic()
    process = world.job(pipeline, run_id, conf)
    if isinstance(point, float):
        named = f"after {point:.2f} s"
        _wait(process, point)
        struck = process.poll() is None
        kill(process)
    else:
        number, when = point
        named = f"{when} {number}: {bench.writes[pipeline][number]}"
        trap = Trap(lambda: kill(process), number, when)
        world.set_trap(trap)
        _wait(process, JOB_SECONDS)
        struck = trap.struck > 0
        world.set_trap(None)
    process.communicate()
    out = Outcome(f"{pipeline} killed at {'any time' if isinstance(point, float) else 'a write'}", named, struck)
    return _again(bench, out, pipeline, run_id, conf, before, published, begin)


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    """Until it ends or the time is over; what it says is thrown away as it comes."""
    reader = threading.Thread(target=lambda: process.stdout and process.stdout.read(), daemon=True)
    reader.start()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _again(
    bench: Bench, out: Outcome, pipeline: str, run_id: str, conf: dict[str, Any], before: str | None,
    published: str, begin: float,
) -> Outcome:  # fmt: skip
    """Look at what the fault has left, run again, look once more."""
    world = bench.world
    out.problems += after_fault(world, before) + snapshot_problems(world)
    if pipeline == "etl" and bench.snapshot().data_version not in (published, bench.versions[bench.turns["etl"] % 2]):
        out.problems.append("something else is published than before or after the run")
    try:
        out.reruns = finish(world, pipeline, run_id, conf)
    except RuntimeError as error:
        out.problems.append(str(error))
        return out
    if pipeline == "retrain":
        out.problems += after_retrain(world, run_id, before)
    elif bench.snapshot().data_version != bench.versions[bench.turns["etl"] % 2]:
        out.problems.append("the same file gave another version of the data")
    out.problems += snapshot_problems(world)
    out.seconds = time.monotonic() - begin
    return out


def two_at_once(bench: Bench) -> Outcome:
    """Two retrainings on the same data: one of them is promoted, the other is judged against it."""
    world, conf, before = bench.world, bench.next_conf("retrain"), champion_of(bench.world)
    begin = time.monotonic()
    names = [f"twin-{bench.random.getrandbits(40):x}" for _ in range(2)]
    twins = [world.job("retrain", name, conf) for name in names]
    said = [twin.communicate(timeout=2 * JOB_SECONDS)[0] for twin in twins]
    out = Outcome("two retrainings at once", " and ".join(names))
    out.problems += [text[-800:] for twin, text in zip(twins, said, strict=True) if twin.returncode != 0]
    mine = {version for name in names for version in versions_of(world, name)}
    rows = [row for row in world.store.promotions(limit=1000) if row.version in mine]
    if len(mine) != 2:
        out.problems.append(f"{len(mine)} versions were registered")
    if len(rows) != 1 or rows[0].previous != before:
        out.problems.append(f"audit rows: {[(row.version, row.previous) for row in rows]}")
    if champion_of(world) not in mine or champion_of(world) != world.store.champion():
        out.problems.append(f"alias {champion_of(world)}, audit {world.store.champion()}")
    out.seconds = time.monotonic() - begin
    return out


def restarted(bench: Bench, service: str, label: str) -> Outcome:
    """A service killed at a random moment of a retraining and started again."""
    world, run_id = bench.world, f"fault-{bench.random.getrandbits(40):x}"
    conf, before = bench.next_conf("retrain"), champion_of(bench.world)
    published, begin = bench.snapshot().data_version, time.monotonic()
    at = bench.random.uniform(0.15, 0.9) * bench.takes["retrain"]
    process = world.job("retrain", run_id, conf)
    _wait(process, at)
    struck = process.poll() is None
    world.restart(service)
    process.wait(JOB_SECONDS)
    process.communicate()
    wait_for(lambda: _answers(world), "MLflow and PostgreSQL answer again", 60)
    out = Outcome(label, f"after {at:.2f} s", struck)
    return _again(bench, out, "retrain", run_id, conf, before, published, begin)


def _answers(world: World) -> bool:
    """MLflow's own connections to a restarted PostgreSQL fail once each before they are made anew."""
    try:
        world.store.check()
        world.registry.check()
        return world.registry.alias("champion") is not None
    except Exception:
        return False


def cut(bench: Bench, pipeline: str, number: int) -> Outcome:
    """An upload torn in the middle, and every one that follows, until the run gives up; then run again."""
    world, run_id = bench.world, f"fault-{bench.random.getrandbits(40):x}"
    conf, before = bench.next_conf(pipeline), champion_of(world)
    published, begin = bench.snapshot().data_version, time.monotonic()
    trap = Trap(number=number, when="during", wanted=_is_upload, every=True)
    world.set_trap(trap)
    process = world.job(pipeline, run_id, conf)
    said, _ = process.communicate(timeout=JOB_SECONDS)
    world.set_trap(None)
    out = Outcome("object store cut in an upload", f"{pipeline} {trap.names[number : number + 1]}", trap.struck > 0)
    if trap.struck and process.returncode == 0:
        out.problems.append("the run says that it ended well")
    if trap.struck and "does not answer" not in said:
        out.problems.append(f"the error does not say what is away: {said[-500:]}")
    return _again(bench, out, pipeline, run_id, conf, before, published, begin)


def _is_upload(name: str) -> bool:
    return name.startswith(("s3 PUT", "mlflow PUT"))


def rollback(bench: Bench) -> Outcome:
    """A rollback through the API, timed until a prediction names the version, and the promotion back."""
    world = bench.world
    api, before = f"http://127.0.0.1:{world.api_port}", champion_of(world)
    out, begin = Outcome("rollback", f"from {before}"), time.monotonic()
    body = {"reason": "measured", "actor": "bench", "expected": before}
    reply = requests.post(f"{api}/v1/models/rollback", json=body, timeout=60)
    served = requests.get(f"{api}/health", timeout=10).json()["champion"]["version"]
    out.seconds = time.monotonic() - begin
    wanted = reply.json().get("version")
    if reply.status_code != 200 or not served == wanted == champion_of(world) == world.store.champion():
        out.problems.append(f"{reply.status_code} {reply.text[:300]}, served {served}")
    if out.seconds > 5:
        out.problems.append(f"it took {out.seconds:.1f} s")
    back = {"reason": "measured", "actor": "bench", "expected": wanted}
    requests.post(f"{api}/v1/models/{before}/promote", json=back, timeout=60).raise_for_status()
    return out


# ---------------------------------------------------------------- all of them


def points(bench: Bench, pipeline: str, tries: int) -> list[tuple[int, When]]:
    """Writes spread evenly over the whole pipeline, before and after in turns, and never the same twice."""
    every: list[tuple[int, When]] = [
        (number, when) for number in range(len(bench.writes[pipeline])) for when in ("before", "after")
    ]
    chosen = [every[int((k + 0.5) * len(every) / tries)] for k in range(min(tries, len(every)))]
    promotion = [point for point in every if bench.writes[pipeline][point[0]] in DECISIVE]
    return [*chosen[: tries - len(promotion)], *promotion] if len(promotion) < tries else chosen


# the writes around which a promotion hangs: the audit row, its alias, and the commit (the one after the row)
DECISIVE = ("postgres INSERT INTO promotions", "mlflow POST /api/2.0/mlflow/registered-models/alias")


def tries_of(bench: Bench, case: str, count: int) -> Iterator[Callable[[], Outcome]]:
    """The tries of one case, each ready to be run."""
    pipeline = case.split()[0]
    if case.endswith("at a write"):
        return (partial(killed, bench, pipeline, point) for point in points(bench, pipeline, count))
    if case.endswith("at any time"):
        times = [bench.takes[pipeline] * (k + bench.random.random()) / count for k in range(count)]
        return (partial(killed, bench, pipeline, moment) for moment in times)
    if case == "object store cut in an upload":
        return (partial(cut, bench, *place) for place in uploads(bench, count))
    single: dict[str, Callable[[], Outcome]] = {
        "two retrainings at once": partial(two_at_once, bench),
        "PostgreSQL killed and restarted": partial(restarted, bench, "postgres", case),
        "MLflow killed and restarted": partial(restarted, bench, "mlflow", case),
        "rollback": partial(rollback, bench),
    }
    return (single[case] for _ in range(count))


def uploads(bench: Bench, count: int) -> list[tuple[str, int]]:
    """Uploads of both pipelines in turns, spread over each."""
    found = []
    for k in range(count):
        pipeline = ("etl", "retrain")[k % 2]
        there = sum(map(_is_upload, bench.writes[pipeline]))
        found.append((pipeline, int((k // 2 + 0.5) * there / (count // 2 + count % 2))))
    return found


def run_case(bench: Bench, case: str, count: int, say: Callable[[str], None]) -> list[Outcome]:
    outcomes = []
    for attempt in tries_of(bench, case, count):
        out = attempt()
        outcomes.append(out)
        say(f"{case}, {out.point}: {'; '.join(out.problems) or 'as it must be'} ({out.seconds:.1f} s)")
    return outcomes


def row_of(case: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """One line of the table."""
    struck = [out for out in outcomes if out.struck]
    times = [out.seconds for out in outcomes if out.seconds]
    return {
        "case": case,
        "tries": len(outcomes),
        "struck": len(struck),
        "as_it_must_be": sum(not out.problems for out in outcomes),
        "reruns_most": max((out.reruns for out in outcomes), default=0),
        "seconds_median": round(statistics.median(times), 2) if times else None,
        "seconds_most": round(max(times), 2) if times else None,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix, or some cases of it; the exit code says whether all was as it must be."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write rows and every single try")
    parser.add_argument("--case", action="append", choices=[*get_args(Case), "races"], help="only this (repeatable)")
    parser.add_argument("--share", type=float, default=1.0, help="share of the tries of each case")
    parser.add_argument("--races", type=int, default=220)
    parser.add_argument("--seed", type=int, default=11)
    asked = parser.parse_args(arguments)
    cases = asked.case or [*get_args(Case), "races"]
    rows: list[dict[str, Any]] = []
    single: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="control-room-faults-") as folder, World(Path(folder)).open() as world:
        if any(case != "races" for case in cases):
            bench = Bench(world, random.Random(asked.seed))
            bench.prepare()
            for case in (case for case in cases if case != "races"):
                outcomes = run_case(bench, case, max(1, round(TRIES[case] * asked.share)), _say)
                rows.append(row_of(case, outcomes))
                single += [asdict(out) for out in outcomes]
        if "races" in cases:
            rows += race_all(world, asked.races, random.Random(asked.seed), _say)
    for row in rows:
        print(json.dumps(row))
    if asked.json:
        asked.json.write_text(json.dumps({"rows": rows, "tries": single}, indent=1))
    return 0 if all(row["as_it_must_be"] == row["tries"] for row in rows if row.get("must", True)) else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
