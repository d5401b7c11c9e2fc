from __future__ import annotations

import json

import numpy as np
import pytest

from ml.evaluation import pinball
from ml.intervals import QUANTILES, Bins, Curve, Few, Intervals


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


def inside(bounds, y, level):
    low, high = bounds[level]
    return float(((y >= low) & (y <= high)).mean())


def test_rows_that_mostly_sell_nothing_are_not_covered_too_often():
    """The lower bound is 0 for most; a tail left above as well would cover 90 instead of 80 %."""
    rng = np.random.default_rng(6)
    mean = rng.gamma(1.0, 1.0, 60_000)
    y = rng.poisson(mean).astype(float)
    half, block = 30_000, np.full(60_000, 7)
    assert (y == 0).mean() == pytest.approx(0.5, abs=0.01)
    bounds = Intervals.fit(mean[:half], y[:half], block[:half]).bounds(mean[half:], block[half:])
    assert inside(bounds, y[half:], 80) == pytest.approx(0.80, abs=0.03)
    assert inside(bounds, y[half:], 95) == pytest.approx(0.95, abs=0.02)
    below_one = mean[half:] < 1
    assert bounds[80][0][below_one].max() == 0


def test_equal_forecasts_share_a_bin_whatever_their_order(counts):
    mean, y, block = counts
    forecast = np.round(mean / 20) * 20  # a naive model repeats itself
    made = Intervals.fit(forecast, y, np.full(len(y), 7))
    for table in made.blocks[7].values():
        assert table["centre"] == sorted(set(table["centre"]))
    turned = Intervals.fit(forecast[::-1], y[::-1], np.full(len(y), 7))
    for level, (low, high) in made.bounds(forecast, block).items():
        other = turned.bounds(forecast, block)[level]
        assert np.allclose(low, other[0])
        assert np.allclose(high, other[1])
    assert made.blocks[7]["95"]["high"] == pytest.approx(turned.blocks[7]["95"]["high"])


def test_levels_are_nested_however_few_there_are():
    rng = np.random.default_rng(7)
    for n in (1, 2, 5, 12, 25, 38, 39, 60):
        forecast, y = rng.gamma(2, 5, n), rng.poisson(4, n).astype(float)
        for few in (None, Few(1, 2), Few(5, 2), Few(50, 2)):
            bounds = Bins.fit(forecast, y, np.sqrt(forecast + 1), few=few).bounds(forecast, np.sqrt(forecast + 1))
            assert (bounds[95][0] <= bounds[80][0]).all(), (n, few)
            assert (bounds[80][1] <= bounds[95][1]).all(), (n, few)


def test_what_goes_together_is_wider():
    rng = np.random.default_rng(8)
    residual = rng.normal(size=5000)
    forecast, scale = np.full(5000, 100.0), np.ones(5000)
    wide = [
        float(
            np.diff(Bins.fit(forecast, 100 + residual, scale, few=few).bounds(forecast[:1], scale[:1])[95], axis=0)[
                0, 0
            ]
        )
        for few in (None, Few(500, 2), Few(20, 2), Few(3, 2))
    ]
    assert wide == sorted(wide)
    assert wide[1] / wide[0] == pytest.approx(1, abs=0.02)
    assert wide[3] > 1.5 * wide[0]


def test_quantiles_lose_less_than_others(counts):
    mean, y, block = counts
    intervals = Intervals.fit(mean[::2], y[::2], block[::2])
    found = intervals.quantiles(mean[1::2], block[1::2])
    assert tuple(found) == QUANTILES
    for q, values in found.items():
        assert (y[1::2] <= values).mean() == pytest.approx(q, abs=0.04)
        own = pinball(y[1::2], {q: values}).mean()
        assert own < pinball(y[1::2], {q: values * 1.1}).mean()
        assert own < pinball(y[1::2], {q: values * 0.9}).mean()


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no backtest rows"):
        Intervals.fit(np.zeros(0), np.zeros(0), np.zeros(0))


# ---------------------------------------------------------------- one short series


def shop(rng, days, kind):
    """Daily sales of one shop with a weekly pattern."""
    t = np.arange(days)
    mean = rng.choice([3, 20, 100, 300]) * (1 + 0.4 * np.sin(2 * np.pi * t / 7 + rng.random() * 6))
    if kind == "drift":
        mean = mean * np.exp(np.cumsum(rng.normal(0, 0.02, days)))
    if kind == "noisy":
        mean = mean * rng.gamma(4, 0.25, days)
    return rng.poisson(mean).astype(float)


def naive(y, origin, horizon):
    """Seasonal naive as the product does it: the newest week that the block may use, else the mean of what is known."""
    ahead = np.arange(1, horizon + 1)
    block = np.where(ahead <= 7, 7, 28)
    past = origin + ahead - 1 - block
    known = y[max(0, origin - 28) : origin].mean()
    return np.where(past >= 0, y[np.maximum(past, 0)], known), y[origin : origin + horizon], block


@pytest.mark.parametrize("days", [14, 60, 365])
def test_short_series_hold_what_they_say_on_the_days_that_follow(days):
    """Folds as :func:`ml.splits.rolling_origins` cuts them; coverage on average over many series."""
    rng, hits = np.random.default_rng(days), {80: [], 95: []}
    horizon = min(28, days // 3)
    folds = max(1, min(3, days // (2 * horizon)))
    for number in range(240):
        y = shop(rng, days + 28, ("stable", "drift", "noisy")[number % 3])
        parts = [naive(y, days - horizon * k, horizon) for k in range(folds, 0, -1)]
        intervals = Intervals.fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        forecast, actual, block = naive(y, days, 28)
        bounds = intervals.bounds(forecast, block)
        for level, found in hits.items():
            found.append(inside(bounds, actual, level))
    for level, found in hits.items():
        assert np.mean(found) >= level / 100 - 0.03, (days, level)


# ---------------------------------------------------------------- few rows of sellers of very different size


def tiny_chain(rng, kind, weeks=9):
    """Seven sellers from 0.3 to 75 units a day, as rows of a backtest: forecast, sales, block, seller."""
    level = np.array([0.3, 0.6, 3, 21, 42, 60, 75])
    days = np.arange(7 * weeks)
    mean = level[:, None] * (1 + 0.3 * np.sin(2 * np.pi * days / 7))
    forecast = mean * np.exp(rng.normal(0, 0.08, mean.shape))
    if kind == "negative binomial":
        mean = mean * rng.gamma(5, 1 / 5, mean.shape)
    if kind == "intermittent":
        mean = mean * (rng.random(mean.shape) < 0.9) / 0.9
    block = np.broadcast_to(np.where(days % 28 < 7, 7, 28), mean.shape)
    seller = np.broadcast_to(np.arange(len(level))[:, None], mean.shape)
    return tuple(part.ravel() for part in (forecast, rng.poisson(mean).astype(float), block, seller))


@pytest.mark.parametrize("kind", ["poisson", "negative binomial", "intermittent"])
def test_small_and_large_sellers_are_covered_alike_on_few_rows(kind):
    rng, hits = np.random.default_rng(9), {80: [], 95: []}
    for _ in range(40):
        forecast, y, block, seller = tiny_chain(rng, kind)
        intervals = Intervals.fit(forecast, y, block)
        forecast, y, block, seller = tiny_chain(rng, kind)
        for level, (low, high) in intervals.bounds(forecast, block).items():
            hits[level].append([float(((y >= low) & (y <= high))[seller == k].mean()) for k in range(7)])
    for level, found in hits.items():
        by_seller = np.mean(found, axis=0)
        # Of those that sell a handful no bound can hold exactly 80 %: one unit more is the next step.
        assert by_seller[:3].mean() > level / 100 - 0.05, (kind, level, by_seller)
        assert np.all(np.abs(by_seller[3:] - level / 100) < 0.06), (kind, level, by_seller)


def test_a_tiny_seller_does_not_bring_a_large_one_down_to_nothing():
    """As seen on a small chain: 43.8 units a day with 80 % between 0.0 and 53.7."""
    rng = np.random.default_rng(10)
    for _ in range(20):
        forecast, y, block, _ = tiny_chain(rng, "negative binomial")
        low, high = Intervals.fit(forecast, y, block).bounds(np.array([0.3, 43.8]), np.array([7, 7]))[80]
        assert low[0] == 0
        assert 8 < low[1] < 35
        assert 55 < high[1] < 95


def test_intervals_of_the_first_format_are_read_as_they_were_meant():
    """The bound of a bundle written before there was a format: forecast + bound × sqrt(forecast + 1)."""
    names = {"low_80": -1.0, "high_80": 2.0, "low_95": -2.0, "high_95": 3.0, "q_2.5": -2.0, "q_10": -1.0, "q_50": 0.0}
    table = {"centre": [1.0, 100.0], "spread": [1.0, 1.0], "q_90": [1.5, 1.5], "q_97.5": [3.0, 3.0]}
    text = json.dumps({"7": table | {name: [value, value] for name, value in names.items()}})
    found = Intervals.from_json(text)
    bounds = found.bounds(np.array([99.0, 0.0]), np.array([7, 28]))
    assert [part.tolist() for part in bounds[80]] == [[89.0, 0.0], [119.0, 2.0]]
    assert [part.tolist() for part in bounds[95]] == [[79.0, 0.0], [129.0, 3.0]]
    assert found.quantiles(np.array([99.0]), np.array([7]))[0.9].tolist() == [114.0]
    assert json.loads(found.to_json()) == json.loads(text)


def test_a_later_format_is_refused(counts):
    mean, y, block = counts
    text = Intervals.fit(mean[:500], y[:500], block[:500]).to_json().replace('"format": 2', '"format": 3')
    with pytest.raises(ValueError, match="format 3, this program reads 2: upgrade"):
        Intervals.from_json(text)


@pytest.mark.parametrize("power", [0.02, 0.3, 0.5])
def test_the_curve_comes_back(power):
    curve, units = Curve(power), np.array([0.0, 0.3, 5.0, 2e5])
    assert curve.bent(units)[0] == 0
    assert curve.units(curve.bent(units)) == pytest.approx(units, abs=1e-9)
    slope = (curve.bent(units[2:] + 1e-3) - curve.bent(units[2:])) / 1e-3
    assert 1 / slope == pytest.approx(curve.slope(units[2:]), rel=1e-3)


def test_the_curve_finds_how_errors_grow():
    rng = np.random.default_rng(11)
    size = rng.gamma(1, 100, 3000) + 1
    assert Curve.fit(size, rng.poisson(size).astype(float)).power > 0.4
    assert Curve.fit(size, size * np.exp(rng.normal(0, 0.3, 3000))).power < 0.1
