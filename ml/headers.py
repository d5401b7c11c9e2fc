"""The row that names the columns, wherever it is and however it is spelt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from ml.findings import finding, refused, shown
from ml.records import Finding
from ml.values import INVISIBLE, blank
from ml.vocabulary import meaning_of

MAX_COLUMNS = 1_000


@dataclass(frozen=True)
class Record:
    """One record of the first lines; ``cells`` are trimmed, ``raw`` are not."""

    raw: list[str]
    row: int
    lines: int

    @property
    def cells(self) -> list[str]:
        return [cell.strip() for cell in self.raw]


def known_names(cells: Iterable[str]) -> tuple[int, bool]:
    """How many cells are column names that we know, and whether one of them is a date."""
    meanings = [meaning_of(cell) for cell in cells if cell]
    sure = [meaning for meaning in meanings if meaning.score >= 0.9]
    return len(sure), any(meaning.kind == "date" for meaning in meanings)


def header_at(records: list[Record], first: int) -> int:
    """Index of the row that names the columns: one with two known names and a date, else the first that is no title."""
    for at, record in enumerate(records[:30]):
        known, date = known_names(record.cells[:MAX_COLUMNS])
        if at >= first and known >= 2 and date:
            return at
    return _first_row(records, first)


def _first_row(records: list[Record], first: int) -> int:
    """The first row that fills more than half as many cells as most do: spreadsheets pad a title with separators."""
    filled = [sum(map(bool, record.cells)) for record in records]
    usual = Counter(filter(None, filled[first:])).most_common(1)
    return next((at for at, count in enumerate(filled) if at >= first and usual and count * 2 > usual[0][0]), 0)


def trim(name: str) -> str:
    """A column name without the spaces and invisible characters around it."""
    return re.sub(f"[{INVISIBLE}]", "", name).strip()


def column_names(raw: Iterable[str], row: int) -> tuple[list[str], list[str]]:
    """Trimmed, unique names, and the names that had to be made up for columns without one."""
    names = [trim(name) for name in raw]
    if len(names) > MAX_COLUMNS:
        raise refused("too_many_columns", columns=len(names), limit=MAX_COLUMNS)
    for name, times in Counter(filter(None, names)).items():
        if times > 1:
            raise refused("duplicate_header", row=row, column=shown(name), times=times)
    taken, made = set(names), []
    for at, name in enumerate(names):
        if not name:
            names[at] = next(f"column_{at + 1}{'_' * i}" for i in range(99) if f"column_{at + 1}{'_' * i}" not in taken)
            made.append(names[at])
    return names, made


def preamble(lines: list[str]) -> Iterator[Finding]:
    """Say what was skipped above the header."""
    if lines:
        yield finding("preamble_skipped", "fix", row=1, count=len(lines), sample=lines[0])


def trimmed(raw: Iterable[str]) -> Iterator[Finding]:
    """Say which names had something around them."""
    changed = [name for name in raw if name != trim(name)]
    if any(map(trim, changed)):
        yield finding("header_trimmed", "fix", count=len(changed), names=", ".join(map(shown, changed[:5])))


def drop_nameless(frame: pl.DataFrame, made: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Without the columns that have neither name nor values; and which these were."""
    empty = [name for name in made if blank(frame[name]).all()]
    return frame.drop(empty), empty


def nameless_findings(made: list[str], dropped: list[str], names: list[str]) -> Iterator[Finding]:
    """Say what became of the columns without a name."""
    if dropped and dropped[-1] == names[-1]:
        yield finding("trailing_separator", "fix")
    kept = [name for name in made if name not in dropped]
    if kept:
        yield finding("header_empty", "fix", column=kept[0], count=len(kept))
