from __future__ import annotations

import datetime as dt

import pytest

from ml.errors import NotEnoughData
from ml.splits import block_of, default_blocks, rolling_origins

FIRST = dt.date(2025, 1, 1)


def test_folds_touch_and_end_at_the_last_day():
    last = FIRST + dt.timedelta(days=364)
    splits = rolling_origins(FIRST, last, 28, 3, "D")
    assert [s.end for s in splits] == [last - dt.timedelta(days=28 * k) for k in (2, 1, 0)]
    assert all(s.end - s.origin == dt.timedelta(days=28) for s in splits)


@pytest.mark.parametrize(("days", "folds"), [(14, 1), (60, 1), (113, 2), (365, 3)])
def test_training_never_has_fewer_periods_than_are_judged(days, folds):
    last = FIRST + dt.timedelta(days=days - 1)
    splits = rolling_origins(FIRST, last, 28, 3, "D")
    assert len(splits) == folds
    judged = (last - splits[0].origin).days
    assert days - judged >= judged


def test_too_short_a_history_is_refused():
    with pytest.raises(NotEnoughData, match="at least 14"):
        rolling_origins(FIRST, FIRST + dt.timedelta(days=10), 28, 3, "D")


def test_blocks():
    assert default_blocks(28, "D") == (7, 14, 28)
    assert default_blocks(48, "D") == (7, 14, 28, 48)
    assert default_blocks(7, "D") == (7,)
    assert default_blocks(8, "W") == (1, 2, 4, 8)
    assert [block_of(ahead, (7, 28)) for ahead in (1, 7, 8, 28, 40, -3)] == [7, 7, 28, 28, 28, 7]
