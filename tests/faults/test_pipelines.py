"""A small share of ``python -m bench.faults``: both pipelines killed, cut off and doubled, then run again."""

from __future__ import annotations

import random

import pytest

from bench.faults import Bench, cut, killed, rollback, two_at_once

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bench(world):
    made = Bench(world, random.Random(3))
    made.prepare()
    return made


def number(bench, pipeline, end, *, last=False):
    """The first (or last) write whose name ends so."""
    found = [k for k, name in enumerate(bench.writes[pipeline]) if name.endswith(end)]
    assert found, bench.writes[pipeline]
    return found[-1 if last else 0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_etl_killed_as_it_publishes(bench, when):
    out = killed(bench, "etl", (number(bench, "etl", "snapshots/current.json"), when))
    assert (out.struck, out.problems) == (True, [])


def test_retraining_killed_as_its_version_is_registered(bench):
    out = killed(bench, "retrain", (number(bench, "retrain", "model-versions/create"), "after"))
    assert (out.struck, out.problems) == (True, [])


def test_an_upload_of_the_bundle_cut_in_the_middle(bench):
    uploads = [name for name in bench.writes["retrain"] if name.startswith(("s3 PUT", "mlflow PUT"))]
    out = cut(bench, "retrain", next(k for k, name in enumerate(uploads) if name.endswith("state.parquet")))
    assert (out.struck, out.problems) == (True, [])


def test_two_retrainings_at_once(bench):
    assert two_at_once(bench).problems == []


def test_rollback_within_five_seconds(bench):
    assert rollback(bench).problems == []
