"""The load generator counts what a real server answers; the table divides as it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import empty
from bench.load import Job, Told, run
from bench.serving import EMPTY, MLFLOW, OURS, Case, Round, ratios, summed_up
from tests.uvicorns import running


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The application that does nothing, under uvicorn."""
    with running(empty.app) as port:
        yield port


@pytest.mark.parametrize("connections", [1, 4])
def test_what_is_acknowledged_and_what_is_not(port, connections):
    told = run(Job(port, "/predict", ['{"a": 1}', "[1]"], connections, 0.3, "load-"))  # a list is refused
    assert len(told.acknowledged) == len(told.milliseconds) > 5
    assert abs(told.failed - len(told.acknowledged)) <= connections
    assert len(set(told.acknowledged)) == len(told.acknowledged)
    assert all(one.startswith("load-") for one in told.acknowledged)
    assert 0 < min(told.milliseconds) <= told.seconds * 1000


def test_large_bodies_come_through_in_pieces(port):
    told = run(Job(port, "/predict", ['{"a": "' + "x" * 3_000_000 + '"}'], 1, 0.2, "large-"))
    assert (told.failed, len(told.acknowledged) > 0) == (0, True)


def test_the_table_holds_medians_and_ratios():
    def line(system: str, per_second: float, milliseconds: float, cpu: float) -> dict:
        rounds = [
            Round(Told(2.0, 0, ["id"] * round(per_second * 2 * k), [milliseconds * k]), cpu * per_second * 2 * k)
            for k in (1, 1, 3)  # one round that was out of the ordinary
        ]
        return summed_up(Case(system, 1, 16, 0, "", [], ()), rounds)

    rows = [line(OURS, 1000, 4.0, 0.001), line(MLFLOW, 100, 50.0, 0.008), line(EMPTY, 5000, 2.0, 0.0001)]
    assert rows[0]["requests_per_second"] == rows[0]["rows_per_second"] == 1000
    assert (rows[0]["p50_ms"], rows[0]["cpu_ms"]) == (4.0, 1.0)
    assert ratios(rows) == [
        {"rows": 1, "connections": 16, "times_mlflow": 10.0, "mlflow_cpu_times": 8.0, "p50_of_empty": 2.0}
    ]
