"""Promotions that race: several processes each want to make their version champion, and the best one must win.

Each racer does what a pipeline does: it looks who is champion, thinks for a moment, and promotes its version if that is
better than what it saw. In some races one of them is killed after the alias has moved and before the commit. The same
races without lock and comparison show what MLflow's aliases alone would give.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from bench.proxy import Trap
from bench.world import ROOT, World
from deploy.postgres import make_database
from deploy.sealing import seal
from ml.errors import Conflict
from ml.registry import Registry
from ml.store import Store
from ml.succession import move_champion, settle

NAME, RACERS, VERSIONS = "races", 4, 24
KILLED_EVERY = 11  # of 220 races, 20 have a racer killed half-way
LOOKS = 50
THINKS = 0.02  # seconds at most between looking and moving


def quality(registry: Registry, version: str) -> float:
    return registry.version(version).metrics["wape"]


# ---------------------------------------------------------------- a racer, in its own process


def race(registry: Registry, store: Store, version: str, thinks: float) -> dict[str, Any]:
    """Promote ``version`` if it is better than the champion, as often as somebody else was faster look again."""
    mine = quality(registry, version)
    for looks in range(1, LOOKS + 1):
        settle(registry, store)
        seen = registry.alias("champion")
        if seen is not None and seen.metrics["wape"] <= mine:
            return {"moved": False, "looks": looks}
        time.sleep(thinks)
        try:
            move_champion(
                registry, store, version, expected=seen.version if seen else None, actor="race", reason="better"
            )
            return {"moved": True, "looks": looks}
        except Conflict:
            continue
    raise RuntimeError(f"version {version} has looked {LOOKS} times and always came too late")


def race_unguarded(registry: Registry, version: str, thinks: float) -> dict[str, Any]:
    """The same with nothing but the alias."""
    seen = registry.alias("champion")
    if seen is not None and seen.metrics["wape"] <= quality(registry, version):
        return {"moved": False, "looks": 1}
    time.sleep(thinks)
    registry.set_alias("champion", version)
    return {"moved": True, "looks": 1}


def racer(mlflow: str, database: str) -> None:
    """Answer one line per race, as long as somebody asks."""
    registry, store = Registry(mlflow, NAME), Store(database)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        go = race_unguarded(registry, asked["version"], asked["thinks"]) if asked["unguarded"] else race(
            registry, store, asked["version"], asked["thinks"]
        )  # fmt: skip
        print(json.dumps(go), flush=True)


# ---------------------------------------------------------------- the race track


@dataclass
class Track:
    """A registry and a database of its own, versions of known quality, and the racers."""

    world: World
    random: random.Random
    qualities: dict[str, float] = field(default_factory=dict)
    racers: list[subprocess.Popen[str]] = field(default_factory=list)

    def prepare(self) -> None:
        self.url = _new_database(self.world)
        self.registry, self.store = Registry(f"http://127.0.0.1:{self.world.mlflow_port}", NAME), Store(self.url)
        self.store.migrate()
        self.registry.client.create_registered_model(NAME)
        shares = self.random.sample(range(1000, 9000), VERSIONS)
        for share in shares:
            self.qualities[_register(self.registry, self.store, share / 10_000)] = share / 10_000
        self.racers = [self._started(number) for number in range(RACERS)]

    def _started(self, number: int) -> subprocess.Popen[str]:
        """The first one talks through the proxies, so that it can be killed at an exact point."""
        mlflow, database = self.world.mlflow_port, self.world.postgres.port
        url = self.url
        if number == 0:
            mlflow = self.world.proxies["mlflow"].port
            url = url.replace(f":{database}/", f":{self.world.proxies['postgres'].port}/")
        env = {**os.environ, **self.world.environment(direct=True)}
        command = [sys.executable, "-m", "bench.races", f"http://127.0.0.1:{mlflow}", url]
        process = subprocess.Popen(command, env=env, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("a racer does not start; see what it printed above")
        return process

    def close(self) -> None:
        for process in self.racers:
            process.kill()
            process.communicate()
        self.store.close()

    def run(self, *, unguarded: bool = False, killed: bool = False) -> tuple[list[str], bool]:
        """One race; returns what was not as it must be, and whether a racer was killed in it."""
        start, *wanted = self.random.sample(sorted(self.qualities, key=int), RACERS + 1)
        self._line_up(start)
        if killed:  # the best one, so that it surely moves the alias
            wanted.sort(key=self.qualities.__getitem__)
        before = self.store.promotions(limit=1)[0].promotion_id
        trap = self._trap() if killed else None
        self.world.set_trap(trap)
        seen: list[str | None] = []
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done, seen))
        watcher.start()
        answers = self._go(wanted, unguarded)
        done.set()
        watcher.join()
        self.world.set_trap(None)
        gone = answers[0] is None
        if gone:
            self.racers[0].wait()
            self.racers[0] = self._started(0)
            settle(self.registry, self.store)  # as the next step of any pipeline does first
        entered = [version for version, answer in zip(wanted, answers, strict=True) if answer is not None]
        problems = ["there was no champion for a moment"] if None in seen else []
        return problems + self._judge(start, entered, wanted, before, audited=not unguarded), gone

    def _line_up(self, version: str) -> None:
        if self.store.champion() != version:
            move_champion(
                self.registry, self.store, version, expected=self.store.champion(), actor="race", reason="line up"
            )
        self.registry.set_alias("champion", version)

    def _trap(self) -> Trap:
        def strike() -> None:
            self.racers[0].kill()

        return Trap(strike, 0, self.random.choice(("before", "after")), wanted=lambda name: name.endswith("/alias"))

    def _watch(self, done: threading.Event, seen: list[str | None]) -> None:
        while not done.is_set():
            found = self.registry.alias("champion")
            seen.append(found.version if found else None)
            time.sleep(0.01)

    def _go(self, wanted: list[str], unguarded: bool) -> list[dict[str, Any] | None]:
        for process, version in zip(self.racers, wanted, strict=True):
            assert process.stdin is not None
            asked = {"version": version, "thinks": self.random.uniform(0, THINKS), "unguarded": unguarded}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        lines = [process.stdout.readline() for process in self.racers if process.stdout]
        return [json.loads(line) if line.strip() else None for line in lines]

    def _judge(self, start: str, entered: list[str], wanted: list[str], before: int, *, audited: bool) -> list[str]:
        champion = self.registry.alias("champion")
        now = champion.version if champion else "none"
        rows = [row for row in self.store.promotions(limit=20) if row.promotion_id > before] if audited else []
        running = [start, *entered, *(row.version for row in rows)]
        best = min(running, key=self.qualities.__getitem__)
        problems = [] if now == best else [f"{now} won, {best} is better"]
        if not audited:
            return problems
        if now != self.store.champion():
            problems.append(f"alias {now}, audit {self.store.champion()}")
        if any(self.qualities[row.version] >= self.qualities[row.previous or start] for row in rows):
            problems.append("a worse version was promoted over a better one")
        if len({row.version for row in rows}) != len(rows) or not {row.version for row in rows} <= set(wanted):
            problems.append("more than one row for a promotion")
        return problems


def _new_database(world: World) -> str:
    """One of its own beside the application's: an audit is about one champion."""
    server = world.postgres
    for name, work in (("postgres", make_database), (NAME, seal)):
        connection = psycopg2.connect(
            host="127.0.0.1", port=server.port, user="postgres", password=server.password, dbname=name
        )
        connection.autocommit = True
        work(connection, NAME, "app")
        connection.close()
    return server.url("app").rpartition("/")[0] + f"/{NAME}"


def _register(registry: Registry, store: Store, share: float) -> str:
    """A version with one small file."""
    content = json.dumps({"wape": share})
    with registry.run(NAME, f"quality-{share}", finish=True) as run:
        registry.client.log_text(run, content, "bundle/manifest.json")
        source = registry.client.get_run(run).info.artifact_uri
    made = registry.client.create_model_version(NAME, f"{source}/bundle", run, tags={"metric.wape": str(share)})
    store.record_bundle(str(made.version), hashlib.sha256(content.encode()).hexdigest())
    return str(made.version)


def race_all(world: World, count: int, chance: random.Random, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """``count`` races under the product's lock, then the same number without it; one row per kind."""
    track = Track(world, chance)
    track.prepare()
    rows: dict[str, dict[str, Any]] = {}
    try:
        for unguarded in (False, True):
            for number in range(count):
                killed = not unguarded and number % KILLED_EVERY == KILLED_EVERY - 1
                begin = time.monotonic()
                problems, struck = track.run(unguarded=unguarded, killed=killed)
                _count(rows, _case(unguarded, killed), problems, struck, time.monotonic() - begin)
                if problems and not unguarded:
                    say(f"race {number}: {'; '.join(problems)}")
            say(f"{count} races {'without' if unguarded else 'under'} the lock are run")
        broken = track.store.broken_promotion()
        if broken is not None:
            raise RuntimeError(f"the audit's chain is broken at row {broken}")
    finally:
        track.close()
    return list(rows.values())


def _case(unguarded: bool, killed: bool) -> str:
    if unguarded:
        return "promotion races, alias only"
    return "promotion races, one racer killed" if killed else "promotion races"


def _count(rows: dict[str, dict[str, Any]], case: str, problems: list[str], struck: bool, seconds: float) -> None:
    new = {"case": case, "tries": 0, "struck": 0, "as_it_must_be": 0, "seconds_most": 0.0, "must": "only" not in case}
    row = rows.setdefault(case, new)
    row["tries"] += 1
    row["struck"] += struck
    row["as_it_must_be"] += not problems
    row["seconds_most"] = round(max(row["seconds_most"], seconds), 2)


if __name__ == "__main__":
    racer(*sys.argv[1:])
