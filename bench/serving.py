"""How fast ``POST /predict`` answers: ``python -m bench.serving --json out.json``.

Our API as it is deployed (one process, PostgreSQL, every answer in the log before it is sent) beside ``mlflow models
serve`` of the same trees, which is given ready features, and a FastAPI application that does nothing. Rounds are
interleaved; quote the ratios, not the times. What a commit costs at that moment is measured in each round too, and the
processor time of each answer, which does not depend on who else is at work on the machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import requests
import sqlalchemy as sa

from bench.load import Job, Told, run
from bench.world import ROOT, World, clean_environment, wait_for
from deploy import probes
from deploy.ports import free_ports
from ml import demo
from ml.bundle import load_bundle
from ml.forecasting import Forecaster
from ml.models import XGBoostModel
from ml.splits import block_of
from ml.store import predictions

STORES, PRODUCTS, DAYS = 4, 25, 600
JOB_SECONDS = 600
ONE_ROW, MANY = 400, 1000  # different bodies of one row, and rows of the large one
LARGE_BODIES = 4
OURS, MLFLOW, EMPTY = "/predict", "mlflow models serve", "empty FastAPI POST"
Start = tuple[list[str], Mapping[str, str], Callable[[], bool], dict[str, Any]]
SIZED = (
    "import json, sys; from ml import jobs, tuning; "
    "tuning.KNOWN_GOOD.update(json.loads(sys.argv[1])); sys.exit(jobs.main(sys.argv[2:]))"
)


class ServingWorld(World):
    """The product with a demo champion, and its peers as processes of their own."""

    def __init__(self, folder: Path, trees: int | None = None, depth: int | None = None) -> None:
        super().__init__(folder)
        self.peer_port, self.empty_port = free_ports(2)
        self.size = {name: value for name, value in (("rounds", trees), ("max_depth", depth)) if value}

    def _api(self) -> Start:
        command, env, ready, how = super()._api()
        return command, _all_cores(env), ready, how

    def _peer(self) -> Start:
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(self.folder / "peer")]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(self.peer_port)]
        env = {**clean_environment(), "MLFLOW_DISABLE_TELEMETRY": "true"}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"  # it starts uvicorn
        return command, env, probes.answers(f"http://127.0.0.1:{self.peer_port}/ping"), {"cwd": self.folder}

    def _empty(self) -> Start:
        at = ["--host", "127.0.0.1", "--port", str(self.empty_port)]
        command = [sys.executable, "-m", "uvicorn", "bench.empty:app", *at]
        return command, clean_environment(), probes.answers(f"http://127.0.0.1:{self.empty_port}/ping"), {"cwd": ROOT}

    def cpu_seconds(self, *names: str) -> float:
        """Processor time of services so far, with the processes they have started."""
        total = 0.0
        for name in names:
            leader = psutil.Process(self._running[name].pid)
            for process in (leader, *leader.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    total += times.user + times.system
        return total

    def train(self) -> Forecaster:
        """Publish a small chain, train a champion, serve it; the champion as it is loaded."""
        path = self.folder / "chain.csv"
        until = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
        chain = demo.generate(until, days=DAYS, stores=STORES, products=PRODUCTS)
        chain.select("date", "store", "product", "sales", "price", "promotion").write_csv(path)
        self.start("api")
        self._ran("etl", {"source": str(path), "only_this": True})
        self._ran("retrain", {"policy": "auto"} | ({"trials": 0} if self.size else {}))
        wait_for(probes.answers(f"http://127.0.0.1:{self.api_port}/readyz"), "the API has a champion", 60)
        champion = self.registry.alias("champion")
        assert champion is not None, "no champion was made"
        return Forecaster(load_bundle(self.registry.download(champion.version, self.folder / "bundle")))

    def job(self, pipeline: str, run_id: str, conf: dict[str, Any], step: str | None = None) -> subprocess.Popen[str]:
        """As any job, with the recipe's usual trees made as many and as deep as was asked for."""
        if not self.size:
            return super().job(pipeline, run_id, conf, step)
        command = [sys.executable, "-c", SIZED, json.dumps(self.size), pipeline]
        command += ["--run-id", run_id, "--conf", json.dumps(conf)]
        return subprocess.Popen(
            command, env=self.environment(), cwd=ROOT, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _ran(self, pipeline: str, conf: dict[str, Any]) -> None:
        process = self.job(pipeline, f"serving-{pipeline}", conf)
        said, _ = process.communicate(timeout=JOB_SECONDS)
        if process.returncode:
            raise RuntimeError(f"{pipeline} has failed: {said[-2000:]}")


def _all_cores(env: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in env.items() if name != "OMP_NUM_THREADS"}


# ---------------------------------------------------------------- the same rows for both


@dataclass(frozen=True)
class Bodies:
    """Of one row and of many, for us and for MLflow; ``answers``: what the large bodies are answered in units."""

    ours: list[str]
    ours_many: list[str]
    peer: list[str]
    peer_many: list[str]
    rows: pl.DataFrame
    level: np.ndarray


def made_bodies(found: Forecaster) -> Bodies:
    """Planned rows of the longest block, so that one booster answers all of them."""
    longest = found.manifest.recipe.blocks[-1]
    rows = found.next_days([], []).with_columns(
        block=((pl.col("date") - pl.lit(found.origin)).dt.total_days()).map_elements(
            lambda ahead: block_of(ahead, found.manifest.recipe.blocks), return_dtype=pl.Int64
        )
    )
    rows = rows.filter(pl.col("block") == longest).sample(LARGE_BODIES * MANY, with_replacement=True, seed=5)
    draw = random.Random(5)
    rows = rows.select(
        "store",
        "product",
        "date",
        pl.Series("price", [round(p * draw.choice((0.9, 1.0, 1.1)), 2) for p in rows["price"]]),
        pl.Series("promotion", [draw.choice((0.0, 0.0, 0.2)) for _ in range(rows.height)]),
    )
    _, inputs = found.inputs_of(rows)[longest]
    plans = [row | {"date": str(row["date"])} for row in rows.to_dicts()]
    ready = inputs.x.tolist()  # with NaN: a null would make its column one of objects, which XGBoost refuses
    parts = [slice(start, start + MANY) for start in range(0, len(plans), MANY)]
    return Bodies(
        [json.dumps(plan) for plan in plans[:ONE_ROW]],
        [json.dumps({"instances": plans[part]}) for part in parts],
        [_split(found, ready[k : k + 1]) for k in range(ONE_ROW)],
        [_split(found, ready[part]) for part in parts],
        rows,
        inputs.level,
    )


def _split(found: Forecaster, values: list[list[Any]]) -> str:
    return json.dumps({"dataframe_split": {"columns": list(found.manifest.features), "data": values}})


def save_peer(found: Forecaster, folder: Path) -> None:
    """The booster of the longest block as a model of MLflow's own XGBoost flavour."""
    import mlflow.xgboost

    assert isinstance(found.bundle.model, XGBoostModel), "the champion has no trees"
    (trees,) = found.bundle.model.blocks[found.manifest.recipe.blocks[-1]]
    mlflow.xgboost.save_model(trees.booster, folder, pip_requirements=["xgboost"])


def difference(world: ServingWorld, bodies: Bodies) -> float:
    """Largest difference between our answers and MLflow's ratios times the level, in units."""
    ours = requests.post(f"http://127.0.0.1:{world.api_port}/predict", bodies.ours_many[0], timeout=60).json()
    head = {"Content-Type": "application/json"}
    address = f"http://127.0.0.1:{world.peer_port}/invocations"
    peer = requests.post(address, bodies.peer_many[0], headers=head, timeout=60).json()
    units = np.array(peer["predictions"]) * bodies.level[:MANY]
    return float(np.abs(units - [answer["prediction"] for answer in ours["predictions"]]).max())


# ---------------------------------------------------------------- rounds


@dataclass(frozen=True)
class Case:
    """``services``: whose processor time an answer takes."""

    system: str
    rows: int
    connections: int
    port: int
    path: str
    bodies: list[str]
    services: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    told: Told
    cpu_seconds: float


def cases(world: ServingWorld, bodies: Bodies) -> list[Case]:
    found = []
    for connections in (1, 16):
        found += [
            Case(OURS, 1, connections, world.api_port, "/predict", bodies.ours, ("api", "postgres")),
            Case(MLFLOW, 1, connections, world.peer_port, "/invocations", bodies.peer, ("peer",)),
            Case(EMPTY, 1, connections, world.empty_port, "/predict", bodies.ours, ("empty",)),
        ]
    found.append(Case(OURS, MANY, 1, world.api_port, "/predict", bodies.ours_many, ("api", "postgres")))
    found.append(Case(MLFLOW, MANY, 1, world.peer_port, "/invocations", bodies.peer_many, ("peer",)))
    return found


def measured(world: ServingWorld, every: list[Case], rounds: int, seconds: float) -> Iterator[tuple[int, Round]]:
    """The place of each case with what it was answered, round by round; a short round before them is not counted."""
    for number, (k, case) in itertools.product(range(rounds + 1), enumerate(every)):
        length = seconds if number else min(1.0, seconds)
        before = world.cpu_seconds(*case.services)
        told = run(Job(case.port, case.path, case.bodies, case.connections, length, f"bench-{number}-{k}-"))
        used = world.cpu_seconds(*case.services) - before
        if told.failed:
            raise RuntimeError(f"{case.system}: {told.failed} requests were not answered with 200")
        if case.system == OURS:
            _check_log(world, told, case.rows)
        if number:
            yield k, Round(told, used)


def _check_log(world: ServingWorld, told: Told, rows: int) -> None:
    """Every acknowledged request is in the log, with all its rows, once; the API's own history is asked before, for it
    puts into the log what still waits on the disk."""
    requests.get(f"http://127.0.0.1:{world.api_port}/historical-predictions?limit=1", timeout=60).raise_for_status()
    column = predictions.c.request_id
    count = sa.select(column, sa.func.count()).where(
        column == sa.any_(sa.literal(told.acknowledged, sa.ARRAY(sa.Text)))
    )
    with world.store.begin() as connection:
        logged: dict[str, int] = dict(connection.execute(count.group_by(column)).all())
    wrong = [one for one in told.acknowledged if logged.get(one) != rows]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(told.acknowledged)} acknowledged answers are not in the log as sent")


def commit_ms(world: ServingWorld, seconds: float = 1.0) -> float:
    """Median of a durable INSERT of one small row from this process: no logged answer can come faster."""
    times, end = [], time.perf_counter() + seconds
    with world.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS public.bench_commit (n bigint)")
        while time.perf_counter() < end:
            begin = time.perf_counter()
            connection.exec_driver_sql("INSERT INTO public.bench_commit VALUES (1)")
            times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def summed_up(case: Case, rounds: list[Round]) -> dict[str, Any]:
    """One line of the table: medians of the rounds."""
    per_second = statistics.median(len(one.told.acknowledged) / one.told.seconds for one in rounds)
    percentiles = [np.percentile(one.told.milliseconds, (50, 99)) for one in rounds]
    answered = sum(len(one.told.acknowledged) for one in rounds)
    p50, p99 = np.median(percentiles, axis=0)
    return {
        "system": case.system,
        "rows": case.rows,
        "connections": case.connections,
        "requests_per_second": round(per_second, 1),
        "rows_per_second": round(per_second * case.rows, 1),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "cpu_ms": round(sum(one.cpu_seconds for one in rounds) / answered * 1000, 3),
        "requests": answered,
    }


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours as multiples of MLflow's requests per second and of the empty POST's median time; and how many times our
    processor time, PostgreSQL's included, MLflow takes for a request."""
    of = {(row["system"], row["rows"], row["connections"]): row for row in rows}
    found = []
    for (system, size, connections), row in of.items():
        if system != OURS:
            continue
        peer, empty = of[MLFLOW, size, connections], of.get((EMPTY, size, connections))
        times = row["requests_per_second"] / peer["requests_per_second"]
        p50 = row["p50_ms"] / empty["p50_ms"] if empty else None
        cpu = peer["cpu_ms"] / row["cpu_ms"]
        found.append(
            {
                "rows": size,
                "connections": connections,
                "times_mlflow": round(times, 2),
                "mlflow_cpu_times": round(cpu, 2),
                "p50_of_empty": round(p50, 2) if p50 else None,
            }
        )
    return found


def measure(folder: Path, rounds: int, seconds: float, trees: int | None, depth: int | None) -> dict[str, Any]:
    """The whole benchmark in one folder."""
    world = ServingWorld(folder, trees, depth)
    with world.open():
        try:
            found = world.train()
            save_peer(found, folder / "peer")
            world.start("peer")
            world.start("empty")
            bodies = made_bodies(found)
            off = difference(world, bodies)
            every = cases(world, bodies)
            told: list[list[Round]] = [[] for _ in every]
            commits = [commit_ms(world)]
            for k, one in measured(world, every, rounds, seconds):
                told[k].append(one)
                commits += [commit_ms(world)] if k == len(every) - 1 else []
        finally:
            world.stop("peer")
            world.stop("empty")
    rows = [summed_up(case, rounds_of) for case, rounds_of in zip(every, told, strict=True)]
    facts = {
        "rounds": rounds,
        "seconds": seconds,
        "series": found.catalog().height,
        "features": len(found.manifest.features),
        "recipe": found.manifest.recipe.model_dump(),
        "commit_ms": round(statistics.median(commits), 3),
        "largest_difference_units": off,
        "cores": os.cpu_count(),
        "load_1m": os.getloadavg()[0],
    }
    return {"facts": facts, "rows": rows, "ratios": ratios(rows)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each case in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trees", type=int, help="boosting rounds of the model (default: the recipe's own)")
    parser.add_argument("--depth", type=int, help="depth of its trees (default: the recipe's own)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="control-room-serving-") as folder:
        found = measure(Path(folder), asked.rounds, asked.seconds, asked.trees, asked.depth)
    print(f"{'':22}{'rows':>6}{'conns':>6}{'req/s':>9}{'rows/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}")
    for row in found["rows"]:
        figures = f"{row['requests_per_second']:>9,.0f}{row['rows_per_second']:>10,.0f}"
        figures += f"{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['cpu_ms']:>9.2f}"
        print(f"{row['system']:22}{row['rows']:>6}{row['connections']:>6}{figures}")
    for row in [*found["ratios"], found["facts"]]:
        print(json.dumps(row))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
