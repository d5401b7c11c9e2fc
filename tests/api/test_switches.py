"""The champion moves while requests run: each answer is whole, and is what the version it names says.

Four moves here; ``MODEL_SWITCHES=20 pytest tests/api/test_switches.py -s`` for more, with the counts printed.
"""

from __future__ import annotations

import os

import httpx
import pytest

from ml import jobs
from ml.records import RETRAIN_DAG

SWITCHES = int(os.environ.get("MODEL_SWITCHES", "4"))


@pytest.fixture(scope="module")
def other(trained, served):
    """A version that answers otherwise than 1: other trees, of other days. Afterwards 1 is champion again."""
    context = jobs.Context(trained, "switch-1", {"window_days": 90, "seed": 5, "policy": "approval"})
    for name in ("snapshot", "tune", "backtest", "train"):
        jobs.step_of(RETRAIN_DAG, name)(context)
    version = served.get("/v1/models").json()["items"][0]["version"]
    yield version
    served.post("/v1/models/1/promote", json={"reason": "as it was", "actor": "tests"})
    served.wait_for(lambda: served.get("/readyz").json().get("version") == "1")
    context.registry.set_alias("challenger", "2")


def answers(reply):
    items = reply.json()["predictions"]
    return {item["model"]["version"] for item in items}, [item["prediction"] for item in items]


def test_every_answer_is_of_the_version_it_names(served, other, many, under_load):
    bodies = [many[:1], many[1:2], many[2:5], many[5:125]]
    said = {
        version: [
            answers(served.post("/predict", params={"model": version}, json={"instances": rows}))[1] for rows in bodies
        ]
        for version in ("1", other)
    }
    assert said["1"] != said[other]
    seen: list[tuple[str, int]] = []

    def ask(client: httpx.Client, number: int) -> None:
        reply = client.post("/predict", json={"instances": bodies[number]})
        assert reply.status_code == 200, reply.text
        versions, found = answers(reply)
        assert len(versions) == 1, versions
        (version,) = versions
        assert found == pytest.approx(said[version][number], rel=1e-5, abs=1e-4)
        seen.append((version, number))

    with under_load(served.url, ask, len(bodies)) as load:
        for turn in range(SWITCHES):
            version, path = ((other, f"{other}/promote"), ("1", "rollback"))[turn % 2]
            moved = served.post(f"/v1/models/{path}", json={"reason": f"turn {turn}", "actor": "tests"})
            assert moved.status_code == 200, moved.text
            # in force when the answer has gone out: whoever asks from now on is answered by it
            assert answers(served.post("/predict", json={"instances": bodies[0]}))[0] == {version}
            load.go_on()
    print(f"{SWITCHES} switches, {len(seen)} answers under load")
    assert {version for version, _ in seen} == {"1", other}
