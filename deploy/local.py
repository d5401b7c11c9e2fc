"""The whole product on this machine, without Docker: ``python -m deploy.local up | down | status``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import uuid
from pathlib import Path

from deploy import processes
from deploy.databases import open_databases
from deploy.first_start_child import run_first_start
from deploy.keys import load_keys
from deploy.ports import PORTS, check_ports
from deploy.services import Installation
from deploy.state import ChildNote, Phase, RunNote, clean_up, drop_note, family, only_one, read_note, write_note
from deploy.supervisor import Child, StartFailed, Supervisor
from deploy.terminal import Terminal
from ml.errors import ControlRoomError
from ml.settings import Settings, load_settings

OWN = "control room"  # the name under which the runner speaks of itself
DOWN_SECONDS = 60


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 for done, 1 for a failed start, 2 for settings that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status"))
    command = parser.parse_args(arguments).command
    try:
        settings = _absolute(load_settings())
        return {"up": up, "down": down, "status": status}[command](settings)
    except ControlRoomError as error:
        print(f"{error.title}: {error}" if "\n" not in str(error) else f"{error.title}:\n{error}", file=sys.stderr)
        return 2


def _absolute(settings: Settings) -> Settings:
    """Paths made absolute: the children work in other folders than we do."""
    lake = settings.lake if not settings.lake or "://" in settings.lake else str(Path(settings.lake).resolve())
    return settings.model_copy(update={"data_dir": settings.data_dir.resolve(), "lake": lake})


# ---------------------------------------------------------------- up


def up(settings: Settings) -> int:
    """Start everything and mind it until Ctrl-C or ``down``."""
    terminal = Terminal()
    _make_folders(settings.data_dir)
    with only_one(settings.data_dir) as free:
        if not free:
            return _runs_already(settings, terminal)
        ended = clean_up(settings.data_dir)
        if ended:
            terminal.line(OWN, f"ended {ended} process(es) that an earlier run had left")
        check_ports(settings, [n for n in PORTS if n != "postgres_port" or not settings.database_url])
        keys = load_keys(settings.data_dir)
        databases = open_databases(settings, keys, lambda text: terminal.line("postgres", text))
        return Runner(Installation(settings, keys, databases), terminal).run()


def _make_folders(data: Path) -> None:
    # root hands PostgreSQL to another account, which has to pass through; nobody can list it
    data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    for name in ("logs", "airflow", "lake", "mlflow-artifacts"):
        (data / name).mkdir(mode=0o700, exist_ok=True)


def _runs_already(settings: Settings, terminal: Terminal) -> int:
    note = read_note(settings.data_dir)
    if note is None:
        terminal.line(OWN, f"is being started or stopped on {settings.data_dir} at this moment")
        return 0
    terminal.table(f"Already running on {settings.data_dir} (pid {note.pid}, {note.phase})", note.addresses)
    return 0


class Runner:
    """One run: the supervisor, its note in the data folder and what the person is told."""

    def __init__(self, installation: Installation, terminal: Terminal) -> None:
        self._installation = installation
        self._terminal = terminal
        self._note = RunNote(
            pid=os.getpid(),
            birth=processes.birth(os.getpid()),
            phase="starting",
            began=time.time(),
            addresses=tuple(installation.addresses()),
        )
        logs = installation.data / "logs"
        self._supervisor = Supervisor(installation.specs(), logs, terminal, uuid.uuid4().hex, self._write)
        self._first: asyncio.Task[None] | None = None

    def run(self) -> int:
        """Until told to stop. 1 when a part could not be started."""
        self._terminal.line(OWN, f"starts in {self._installation.data}; Ctrl-C ends it")
        try:
            asyncio.run(self._run())
        except StartFailed as failure:
            self._terminal.line(failure.name, f"could not be started: {failure.reason}", bad=True)
            self._terminal.block(failure.tail)
            self._terminal.line(OWN, f"the whole log: {self._installation.data / 'logs' / failure.name}.log")
            return 1
        finally:
            drop_note(self._installation.data)
        self._terminal.line(OWN, "has ended; everything is kept")
        return 0

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop)
        try:
            await self._supervisor.run(self._healthy)
        finally:
            if self._first:
                self._first.cancel()
                await asyncio.gather(self._first, return_exceptions=True)

    def _stop(self) -> None:
        if not self._supervisor.stopping:
            self._terminal.line(OWN, "ends")
            self._enter("stopping")
        self._supervisor.stop()

    def _healthy(self) -> None:
        seconds = self._seconds()
        self._enter("healthy", healthy_after=seconds)
        self._terminal.line(OWN, f"every part is healthy after {seconds:.1f} s")
        self._first = asyncio.get_running_loop().create_task(self._first_start())

    async def _first_start(self) -> None:
        """Show the addresses at once; a demo that is still being made does not keep anybody from looking around."""
        self._terminal.table("Open", self._installation.addresses())
        self._enter("first start")
        done = await run_first_start(self._installation.environment(), self._terminal.began)
        self._enter("ready", first_start_after=self._seconds() if done else None)
        if done:
            self._terminal.line(OWN, f"data, forecasts and a champion are there after {self._seconds():.1f} s")
            self._terminal.table("Open", self._installation.addresses())

    def _seconds(self) -> float:
        return round(time.monotonic() - self._terminal.began, 1)

    def _enter(self, phase: Phase, **changes: float | None) -> None:
        self._note = self._note.model_copy(update={"phase": phase, **changes})
        self._write()

    def _write(self) -> None:
        children = tuple(_child_note(child) for child in self._supervisor.children.values())
        self._note = self._note.model_copy(update={"children": children})
        write_note(self._installation.data, self._note)


def _child_note(child: Child) -> ChildNote:
    return ChildNote(
        name=child.spec.name,
        state=child.state,
        tag=child.tag,
        pid=child.pid,
        birth=child.leader.birth if child.leader else None,
        restarts=child.restarts,
        postgres_in=child.spec.postgres_in,
    )


# ---------------------------------------------------------------- down


def down(settings: Settings) -> int:
    """End the product of this data folder, and what a killed supervisor left of it."""
    terminal = Terminal()
    data = settings.data_dir
    note = read_note(data) if data.is_dir() else None
    if note is None:
        terminal.line(OWN, f"does not run on {data}")
        return 0
    if note.alive:
        os.kill(note.pid, signal.SIGTERM)
        if not _gone(note):
            terminal.line(OWN, f"pid {note.pid} has not ended within {DOWN_SECONDS} s", bad=True)
            return 1
    ended = clean_up(data)
    terminal.line(OWN, f"has ended{f'; {ended} left-over process(es) too' if ended else ''}")
    return 0


def _gone(note: RunNote) -> bool:
    deadline = time.monotonic() + DOWN_SECONDS
    while note.alive and time.monotonic() < deadline:
        time.sleep(0.1)
    return not note.alive


# ---------------------------------------------------------------- status


def status(settings: Settings) -> int:
    """Each part with its state, pid and memory; 1 when the product does not run or a part is not ready."""
    note = read_note(settings.data_dir) if settings.data_dir.is_dir() else None
    if note is None or not note.alive:
        print(f"Not running on {settings.data_dir}")
        return 1
    used = memory(settings.data_dir)
    print(f"{note.phase}, pid {note.pid}, data in {settings.data_dir}")
    print(f"{'part':<24}{'state':<12}{'pid':>8}{'restarts':>10}{'MB':>9}")
    for child in note.children:
        print(
            f"{child.name:<24}{child.state:<12}{child.pid or '':>8}{child.restarts:>10}{used.get(child.name, 0):>9.1f}"
        )
    print(
        f"{'runner':<24}{'':<12}{note.pid:>8}{'':>10}{used['runner']:>9.1f}\n{'together':<54}{sum(used.values()):>9.1f}"
    )
    return 0 if all(child.state in ("ready", "done") for child in note.children) else 1


def memory(data: Path) -> dict[str, float]:
    """Proportional memory (PSS) of each part with all its processes, in MB; empty when nothing runs."""
    note = read_note(data)
    if note is None or not note.alive:
        return {}
    used = {"runner": processes.own_memory_mb(note.pid)}
    for child in note.children:
        members = family(child, data) if child.state not in ("done", "stopped") else None
        used |= {child.name: members.memory_mb()} if members else {}
    return used


if __name__ == "__main__":
    sys.exit(main())
