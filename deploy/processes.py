"""Who is who among the processes: birth marks, sessions, tags, memory, and how a whole session ends.

A pid alone names nobody: after a crash the same number may belong to a stranger. A process is ours when its birth
mark is the one we wrote down, or when it carries our tag in its environment.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

TAG = "SALES_CONTROL_ROOM_TAG"


def birth(pid: int) -> str | None:
    """A mark that differs when the pid has been given to another process; None when nobody has it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # the name (field 2) may hold spaces and brackets: count from behind the last bracket; start time is field 22
        return f"{boot}:{stat.rpartition(')')[2].split()[19]}"
    except FileNotFoundError:
        return _birth_elsewhere(pid)
    except ProcessLookupError:
        return None


def _birth_elsewhere(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def alive(pid: int, mark: str | None) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    if mark is None or birth(pid) != mark:
        return False
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session(leader: int) -> list[int]:
    """Every living process of the session that ``leader`` opened, also those with a process group of their own."""
    return [pid for pid in psutil.pids() if _session_of(pid) == leader and _runs(pid)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tagged(tag: str) -> list[int]:
    """Every living process that was started with this tag, or with one that begins with ``tag:``.

    Raises
    ------
    ValueError
        The tag is empty. Every process of the machine would count, and callers end what they are given.
    """
    if not tag:
        raise ValueError("an empty tag names nobody")
    return [pid for pid in psutil.pids() if _has_tag(pid, tag)]


def _has_tag(pid: int, tag: str) -> bool:
    try:
        process = psutil.Process(pid)
        found = process.environ().get(TAG)
        return (
            found is not None
            and (found == tag or found.startswith(tag + ":"))
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.Error, OSError):
        return False


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each; one that has gone meanwhile is no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@dataclass(frozen=True)
class Family:
    """A child with everything it started.

    ``sure`` says that ``leader`` is known to be ours. If it is not, a member of its session counts only with our tag
    in its environment or, as Airflow overwrites its own with a title, at work inside ``home``. PostgreSQL
    gives each of its workers a session of its own: those of the cluster ``postgres_in`` belong to it anyway.
    """

    leader: int
    tag: str
    sure: bool = False
    home: Path | None = None
    postgres_in: Path | None = None

    def members(self) -> list[int]:
        """Every living process of the family, without ourselves and those we descend from."""
        mine = set(tagged(self.tag))
        trusted = self.sure or self.leader in mine
        mine |= {pid for pid in session(self.leader) if trusted or (self.home and works_in(pid, self.home))}
        if self.postgres_in:
            mine |= set(_postgres_of(self.postgres_in))
        return sorted(mine - _never())

    def end(self, seconds: float = 5.0) -> int:
        """End what is left of it, see :func:`end_all`."""
        return end_all([self], seconds)

    def memory_mb(self) -> float:
        """Proportional memory (PSS) of all its processes in MB; resident memory where PSS is not known."""
        return sum(_memory_of(pid) for pid in self.members()) / 1e6


def end_all(families: Sequence[Family], seconds: float = 5.0) -> int:
    """End what is left of them, all at once; returns how many processes had to be ended.

    SIGTERM first, SIGKILL after ``seconds``; it looks again until nobody is left, because a process may fork while
    it is being ended.
    """
    found = _members(families)
    count = len(found)
    send(found, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = _members(families)
    while found:
        send(found, signal.SIGKILL)
        time.sleep(0.05)
        found = _members(families)
    return count


def _members(families: Sequence[Family]) -> set[int]:
    return {pid for family in families for pid in family.members()}


def works_in(pid: int, folder: Path) -> bool:
    """Whether the working folder of a process is ``folder`` or below."""
    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def _never() -> set[int]:
    """Whom we must not end, whatever the tags say: init, ourselves and our ancestors."""
    return {0, 1, os.getpid(), *(parent.pid for parent in psutil.Process().parents())}


def _postgres_of(cluster: Path) -> list[int]:
    named = [process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "postgres"]
    return [pid for pid in named if works_in(pid, cluster) and _runs(pid)]


def _memory_of(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return _resident(pid)


def _resident(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0.0


def own_memory_mb(pid: int) -> float:
    """Proportional memory of one process alone, in MB."""
    return _memory_of(pid) / 1e6
