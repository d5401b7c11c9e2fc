"""What the person at the terminal sees: one line per change, a colour per part, nothing else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

COLOURS = ("36", "35", "33", "32", "34", "96", "95", "93", "92", "94")
RED, BOLD, DIM = "31", "1", "2"


class Terminal:
    """Prints prefixed lines with the seconds since the start; goes quiet when the terminal has gone away."""

    def __init__(self, stream: TextIO | None = None, colour: bool | None = None, began: float | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
        self.began = time.monotonic() if began is None else began
        self._colours: dict[str, str] = {}

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def line(self, name: str, text: str, bad: bool = False) -> None:
        """One line of one part."""
        code = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        seconds = self.paint(f"{time.monotonic() - self.began:6.1f} s", DIM)
        self.write(f"{seconds}  {self.paint(f'{name:<22}', code)} {self.paint(text, RED) if bad else text}")

    def block(self, text: str) -> None:
        """Several lines as they are, for the tail of a log."""
        self.write("\n".join(f"            | {line}" for line in text.splitlines()))

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        width = max(len(row[0]) for row in rows)
        body = "\n".join(f"  {self.paint(left.ljust(width), BOLD)}  {right}" for left, right in rows)
        self.write(f"\n{self.paint(title, BOLD)}\n{body}\n")

    def write(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except OSError:  # the terminal or the pipe was closed; the services go on
            self._stream = open(os.devnull, "w")  # noqa: SIM115 - stays open as long as we run
