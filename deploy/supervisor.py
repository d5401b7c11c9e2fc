"""Starts the children in order, restarts what dies, and leaves no process behind.

Every child is the leader of a session of its own and writes to its own log file. It is watched by asking whether it
has exited: waiting on pipes hangs as long as any orphan holds them. After every exit, wanted or not, the whole session
of the child is ended before anything starts in its place.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deploy.leader import Leader
from deploy.logs import ChildLog, Level
from deploy.postgres_files import Account, run_as
from deploy.probes import Probe
from deploy.terminal import Terminal
from ml.errors import ControlRoomError

State = Literal["waiting", "starting", "ready", "restarting", "done", "failed", "stopping", "stopped"]

POLL_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # a child that ran this long begins again with the shortest pause
TRIES_UNTIL_READY = 3  # a child that never was ready is given up: the reason will not go away by itself


@dataclass(frozen=True)
class Spec:
    """One child: what to run, after whom, and how to know that it is ready."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    ready: Probe | None = None  # None: a job that is done when it exits with 0
    after: tuple[str, ...] = ()
    postgres_in: Path | None = None  # its cluster, if it is PostgreSQL
    account: Account | None = None  # only for root: whom to hand it to
    prepare: Callable[[], None] | None = None  # runs before each start
    once_ready: Callable[[], None] | None = None  # runs when ready or done, before those that wait are let go
    gentle: signal.Signals = signal.SIGTERM  # to the leader alone if not SIGTERM
    stop_seconds: float = 5.0
    ready_seconds: float = 120.0
    shows: Level = "ERROR"  # lines of its log from this level on are shown at the terminal too


class StartFailed(Exception):
    """A child could not be brought up; ``name`` says which, ``tail`` is the end of its log."""

    def __init__(self, name: str, reason: str, tail: str = "") -> None:
        self.name, self.reason, self.tail = name, reason, tail
        super().__init__(f"{name} {reason}")


@dataclass
class Child:
    """What the supervisor knows about one child."""

    spec: Spec
    log: ChildLog
    tag: str
    state: State = "waiting"
    leader: Leader | None = None
    restarts: int = 0
    was_ready: bool = False
    up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        return self.leader.pid if self.leader else None


class Supervisor:
    """Minds a set of children until it is told to stop."""

    def __init__(
        self,
        specs: Iterable[Spec],
        logs: Path,
        terminal: Terminal,
        run: str,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.children = {s.name: Child(s, ChildLog(logs / f"{s.name}.log"), f"{run}:{s.name}") for s in specs}
        self._terminal = terminal
        self._on_change = on_change
        self._stop = asyncio.Event()
        self._failed: asyncio.Future[StartFailed] | None = None

    # -- commands

    def stop(self) -> None:
        """Ask for the end; :meth:`run` returns when every process has gone."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    async def run(self, when_healthy: Callable[[], None] = lambda: None) -> None:
        """Start all, call ``when_healthy`` once when all are ready, mind them until :meth:`stop`.

        Raises StartFailed, with every process ended, when a child cannot be brought up.
        """
        self._failed = asyncio.get_running_loop().create_future()
        minders = [asyncio.create_task(self._mind(child)) for child in self.children.values()]
        reader = asyncio.create_task(self._read_logs())
        try:
            await self._until_stopped(when_healthy)
        finally:
            self._stop.set()
            for task in [*minders, reader]:
                task.cancel()
            await asyncio.gather(*minders, reader, return_exceptions=True)
            await self._end_all()

    async def _until_stopped(self, when_healthy: Callable[[], None]) -> None:
        assert self._failed is not None
        everyone: asyncio.Future[Any] = asyncio.gather(*(child.up.wait() for child in self.children.values()))
        stop: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([everyone, stop, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if everyone.done() and not everyone.cancelled():
            when_healthy()
            await asyncio.wait([stop, self._failed], return_when=asyncio.FIRST_COMPLETED)
        everyone.cancel()
        stop.cancel()
        if self._failed.done():
            raise self._failed.result()

    # -- one child

    async def _mind(self, child: Child) -> None:
        try:
            for name in child.spec.after:
                await self.children[name].up.wait()
            await self._keep_alive(child)
        except StartFailed as failure:
            self._give_up(child, failure)
        except Exception as error:  # a fault of ours must end the start, not leave it waiting for ever
            fault = StartFailed(child.spec.name, f"{type(error).__name__}: {error}", child.log.tail())
            fault.__cause__ = error
            self._give_up(child, fault)

    def _give_up(self, child: Child, failure: StartFailed) -> None:
        self._enter(child, "failed", failure.reason, bad=True)
        if self._failed and not self._failed.done():
            self._failed.set_result(failure)

    async def _keep_alive(self, child: Child) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            reason = await self._live_once(child)
            if reason is None:
                return
            if not child.was_ready and child.restarts + 1 >= TRIES_UNTIL_READY:
                raise StartFailed(child.spec.name, reason, child.log.tail())
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > STEADY_SECONDS else pause
            child.restarts += 1
            self._enter(child, "restarting", f"{reason}; starts again in {pause:g} s", bad=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _live_once(self, child: Child) -> str | None:
        """Start a child and stay with it until it exits; the reason why it must start again, None for a job done."""
        began = time.monotonic()
        try:
            leader = await self._start(child)
        except (OSError, subprocess.SubprocessError, ControlRoomError) as error:
            return f"could not start: {error}"
        reason = None if child.spec.ready is None else await self._until_ready(child.spec, child.spec.ready, leader)
        if reason is None:
            if child.spec.ready:
                self._enter_ready(child, time.monotonic() - began)
            await self._until_exit(leader)
        left = await asyncio.to_thread(leader.end)
        if left:
            self._terminal.line(child.spec.name, f"ended {left} process(es) it left behind")
        if child.spec.ready is None and leader.returncode == 0:
            return await self._job_done(child, time.monotonic() - began)
        return reason or leader.exit_reason

    def _enter_ready(self, child: Child, seconds: float) -> None:
        child.was_ready = True
        self._enter(child, "ready", f"ready after {seconds:.1f} s")
        child.up.set()

    async def _job_done(self, child: Child, seconds: float) -> str | None:
        reason = await self._once_ready(child.spec)
        if reason is None:
            self._enter(child, "done", f"done after {seconds:.1f} s")
            child.up.set()
        return reason

    async def _start(self, child: Child) -> Leader:
        spec = child.spec
        self._enter(child, "starting")
        if spec.prepare:
            await asyncio.to_thread(spec.prepare)
        with child.log.open() as log:
            how = run_as(spec.account)
            child.leader = Leader(spec.command, spec.env, child.tag, spec.cwd, log, spec.postgres_in, **how)
        self._on_change()
        return child.leader

    async def _until_ready(self, spec: Spec, ready: Probe, leader: Leader) -> str | None:
        deadline = time.monotonic() + spec.ready_seconds
        while time.monotonic() < deadline:
            if await asyncio.to_thread(ready):
                return await self._once_ready(spec)
            if leader.has_exited():
                return ""  # its exit code says why, once it is reaped
            await asyncio.sleep(POLL_SECONDS)
        return f"was not ready within {spec.ready_seconds:g} s"

    async def _once_ready(self, spec: Spec) -> str | None:
        try:
            if spec.once_ready:
                await asyncio.to_thread(spec.once_ready)
        except (OSError, ControlRoomError) as error:
            return f"is up, but: {error}"
        return None

    async def _until_exit(self, leader: Leader) -> None:
        while not leader.has_exited():
            await asyncio.sleep(POLL_SECONDS)

    # -- the end

    async def _end_all(self) -> None:
        """End the children, those that others wait for last."""
        left = list(self.children.values())
        while left:
            needed = {name for child in left for name in child.spec.after}
            now = [child for child in left if child.spec.name not in needed] or left
            await asyncio.gather(*(self._end(child, child.leader) for child in now if child.leader))
            left = [child for child in left if child not in now]

    async def _end(self, child: Child, leader: Leader) -> None:
        if leader.returncode is not None:
            return
        self._enter(child, "stopping")
        leader.signal(child.spec.gentle, group=child.spec.gentle == signal.SIGTERM)
        deadline = time.monotonic() + child.spec.stop_seconds
        while not leader.has_exited() and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS / 2)
        hangs = not leader.has_exited()
        await asyncio.to_thread(leader.end, 0.2 if hangs else 2.0)
        self._enter(child, "stopped", "did not end by itself and was killed" if hangs else None)

    # -- telling

    def _enter(self, child: Child, state: State, text: str | None = None, bad: bool = False) -> None:
        child.state = state
        if text:
            self._terminal.line(child.spec.name, text, bad=bad)
        self._on_change()

    async def _read_logs(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            everyone = all(child.up.is_set() for child in self.children.values())
            for child in self.children.values():
                # until all are up they warn of each other's absence
                level: Level = "ERROR" if child.spec.shows == "WARNING" and not everyone else child.spec.shows
                for line in child.log.news(level)[-5:]:
                    self._terminal.line(child.spec.name, line[:300], bad=True)
                child.log.shrink()
