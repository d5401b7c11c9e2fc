"""The note of a running supervisor: who it is, who its children are, how far it has come.

The lock says whether a supervisor runs (the kernel lets go of it when the process dies, however it dies); the note
says what has to be cleaned up after one that was killed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy import processes
from deploy.keys import write_private

Phase = Literal["starting", "healthy", "first start", "ready", "stopping"]


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ChildNote(Note):
    """One child as last seen. ``pid`` and ``birth`` are None before its first start."""

    name: str
    state: str
    tag: str
    pid: int | None = None
    birth: str | None = None
    restarts: int = 0
    postgres_in: Path | None = None


class RunNote(Note):
    """One supervisor. ``addresses`` are what a person opens."""

    pid: int
    birth: str | None
    phase: Phase
    began: float
    healthy_after: float | None = None
    first_start_after: float | None = None
    addresses: tuple[tuple[str, str], ...] = ()
    children: tuple[ChildNote, ...] = ()

    @property
    def alive(self) -> bool:
        return processes.alive(self.pid, self.birth)


def _note(data: Path) -> Path:
    return data / "runner.json"


def write_note(data: Path, note: RunNote) -> None:
    write_private(_note(data), note.model_dump_json(indent=1))


def read_note(data: Path) -> RunNote | None:
    """The last note; None when there is none or it is damaged (then nothing in it can be trusted)."""
    try:
        return RunNote.model_validate_json(_note(data).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def drop_note(data: Path) -> None:
    _note(data).unlink(missing_ok=True)


@contextmanager
def only_one(data: Path) -> Iterator[bool]:
    """Hold the data folder's lock while inside; yields False when another supervisor holds it."""
    descriptor = os.open(data / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def family(child: ChildNote, data: Path) -> processes.Family | None:
    """The processes of a noted child; its pid counts only while it has the birth mark that was noted."""
    if child.pid is None:
        return None
    now = processes.birth(child.pid)
    recycled = now is not None and now != child.birth
    return processes.Family(
        child.pid,
        child.tag,
        sure=processes.alive(child.pid, child.birth),
        home=None if recycled else data,  # the session of a stranger is not ours, wherever its members work
        postgres_in=child.postgres_in,
    )


def clean_up(data: Path) -> int:
    """End what a killed supervisor left running; returns how many processes that were."""
    note = read_note(data)
    if note is None or note.alive:
        return 0
    ended = processes.end_all([found for child in note.children if (found := family(child, data))])
    drop_note(data)
    return ended
