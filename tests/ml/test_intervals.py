from __future__ import annotations

import numpy as np
import pytest

from ml.intervals import Intervals


@pytest.fixture
def counts():
    rng = np.random.default_rng(5)
    mean = rng.gamma(2.0, 10.0, 40_000)
    return mean, rng.poisson(mean).astype(float), np.where(rng.random(40_000) < 0.5, 7, 28)


def test_coverage_holds_on_fresh_rows_of_every_size(counts):
    mean, y, block = counts
    half = len(y) // 2
    intervals = Intervals.fit(mean[:half], y[:half], block[:half])
    bounds = intervals.bounds(mean[half:], block[half:])
    for level, (low, high) in bounds.items():
        inside = (y[half:] >= low) & (y[half:] <= high)
        assert inside.mean() == pytest.approx(level / 100, abs=0.03)
        for part in (mean[half:] < 8, mean[half:] > 40):
            assert inside[part].mean() == pytest.approx(level / 100, abs=0.05)


def test_bounds_hold_the_forecast_and_are_not_negative(counts):
    mean, y, block = counts
    asked = np.array([0.0, 0.1, 5.0, 500.0])
    bounds = Intervals.fit(mean, y + 3, block).bounds(asked, np.array([7, 28, 7, 99]))
    for low, high in bounds.values():
        assert (low >= 0).all()
        assert (low <= asked).all()
        assert (high >= asked).all()
    assert (bounds[95][1] >= bounds[80][1]).all()


def test_json_keeps_every_bit(counts):
    mean, y, block = counts
    made = Intervals.fit(mean[:999], y[:999], block[:999])
    assert Intervals.from_json(made.to_json()) == made
