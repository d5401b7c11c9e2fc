"""Time splits: the origins of a rolling backtest, and which horizon block answers which day ahead."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from ml.cleaning import step
from ml.errors import NotEnoughData
from ml.records import Frequency


@dataclass(frozen=True)
class Split:
    """Train on dates up to ``origin`` (included), judge on the ``horizon`` periods after it."""

    origin: dt.date
    end: dt.date


def rolling_origins(first: dt.date, last: dt.date, horizon: int, folds: int, frequency: Frequency) -> list[Split]:
    """Up to ``folds`` non-overlapping test windows of ``horizon`` periods that end at ``last``, oldest first.

    At least as many periods as are judged stay before the first origin, so short histories get fewer folds and, when
    even one full horizon is too much, a shorter one.

    Raises
    ------
    NotEnoughData
        Fewer than 14 periods.
    """
    one = step(frequency)
    periods = (last - first) // one + 1
    if periods < 14:
        raise NotEnoughData(f"{periods} periods of history; at least 14 are needed to judge a forecast.")
    horizon = min(horizon, periods // 3)
    folds = max(1, min(folds, periods // (2 * horizon)))
    ends = [last - one * horizon * k for k in range(folds)]
    return [Split(end - one * horizon, end) for end in reversed(ends)]


def block_of(ahead: int, blocks: tuple[int, ...]) -> int:
    """The block that answers ``ahead`` periods after the origin: the smallest that reaches it, else the longest."""
    return next((block for block in blocks if ahead <= block), blocks[-1])


def default_blocks(horizon: int, frequency: Frequency) -> tuple[int, ...]:
    """Short blocks that may use fresh sales, and one for the whole horizon.

    Each doubles the one before: the fresher the newest sales, the more a period of them is worth.
    """
    shorter = (7, 14, 28) if frequency == "D" else (1, 2, 4)
    return (*(block for block in shorter if block < horizon), horizon)
