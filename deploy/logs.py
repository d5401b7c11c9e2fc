"""The log file of one child: kept within a size, and read along for the lines that a person should see."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import IO, Literal

LIMIT_BYTES = 8_000_000  # per child, and as much again for the one kept before it

Level = Literal["WARNING", "ERROR", "FATAL"]
WORDS: dict[Level, str] = {
    "FATAL": "FATAL|PANIC|CRITICAL",
    "ERROR": "FATAL|PANIC|CRITICAL|ERROR",
    "WARNING": "FATAL|PANIC|CRITICAL|ERROR|WARNING",
}
# the word as loggers write it; "error_count=0", "/error.html" or "StarletteDeprecationWarning" are none
TROUBLE = {
    level: re.compile(rf"(?<![\w/.-])({words})(?=[\s:\]|])|\[({words.lower()})\s*\]|^Traceback ")
    for level, words in WORDS.items()
}
# what a task prints to stderr is an error to Airflow, even if it is a progress bar; a task that fails says so itself.
# Our own question whether PostgreSQL is ready is fatal to the one connection that asks.
NO_TROUBLE = ("[task.stderr]", "FATAL:  the database system is starting up")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ChildLog:
    """Append-only file that a child writes to itself, so that nothing is lost when the supervisor is killed."""

    def __init__(self, path: Path, limit: int = LIMIT_BYTES) -> None:
        self.path, self.limit = path, limit
        self._read_to = 0

    def open(self) -> IO[bytes]:
        """The file for a new child; what was there stays above it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.shrink()
        file = self.path.open("ab")
        self._read_to = file.tell()
        return file

    def shrink(self) -> None:
        """Copy a file that is too long aside and empty it; the child goes on writing, it appends."""
        if self.path.exists() and self.path.stat().st_size > self.limit:
            shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
            with self.path.open("r+b") as file:
                file.truncate(0)
            self._read_to = 0

    def news(self, level: Level) -> list[str]:
        """The lines from this level on that were written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            text = file.read(1_000_000)
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole) if whole else (len(text) if len(text) == 1_000_000 else 0)
        lines = (_readable(COLOUR.sub("", line)) for line in whole.decode("utf-8", "replace").splitlines())
        return [line for line in lines if TROUBLE[level].search(line) and not any(part in line for part in NO_TROUBLE)]

    def tail(self, lines: int = 20) -> str:
        """The last lines, to show why a child failed."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 20_000))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(_readable(line) for line in COLOUR.sub("", text).splitlines()[-lines:])


def _readable(line: str) -> str:
    """A line of JSON (ml.logs) as text; any other as it is."""
    if not line.startswith("{"):
        return line
    try:
        said = json.loads(line)
        return "\n".join(
            [f"{said['level']} {said['logger']}: {said['message']}", *said.get("exception", "").splitlines()]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
