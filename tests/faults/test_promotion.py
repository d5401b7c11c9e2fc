"""The step that moves the champion, killed at each of its writes: a process of the product on real services.

No model is trained: a version is a small file, and the step is handed the decision that the steps before it would have
handed it. ``python -m bench.faults`` does the same with whole pipelines.
"""

from __future__ import annotations

import hashlib
import random
import uuid

import pytest

from bench.faults import champion_of
from bench.proxy import Trap
from bench.races import race_all
from bench.world import kill
from ml.records import Decision
from ml.registry import Registry
from ml.succession import move_champion, settle

DECISION = Decision(verdict="better", promote=True, needs_approval=False, gain=0.1, reason="beats the champion")
ROW = "postgres INSERT INTO promotions"
ALIAS = "mlflow POST /api/2.0/mlflow/registered-models/alias"
COMMIT = "postgres COMMIT"


def register(world) -> str:
    """A version with one small file, recorded."""
    registry: Registry = world.registry
    content = uuid.uuid4().hex
    with registry.run("faults", content, finish=True) as run:
        registry.client.log_text(run, content, "bundle/manifest.json")
        source = registry.client.get_run(run).info.artifact_uri
    if not registry.client.search_registered_models(f"name='{registry.name}'"):
        registry.client.create_registered_model(registry.name)
    version = str(registry.client.create_model_version(registry.name, source, run).version)
    world.store.record_bundle(version, hashlib.sha256(content.encode()).hexdigest())
    return version


@pytest.fixture
def champion(world):
    """Somebody is champion, and the next one is ready."""
    version = register(world)
    settle(world.registry, world.store)
    move_champion(
        world.registry, world.store, version, expected=world.store.champion(), actor="test", reason="to be replaced"
    )
    return version


def handed_over(world, champion) -> tuple[str, str]:
    """A run whose steps before the promotion are done; returns its id and its version."""
    run_id, version = f"promotion-{uuid.uuid4().hex[:8]}", register(world)
    for name, content in (
        ("challenger.json", {"version": version}),
        ("champion.json", {"version": champion, "data_version": "d", "known": 1.0}),
        ("decision.json", DECISION.model_dump(mode="json")),
    ):
        world.lake.put_json(f"runs/{run_id}/{name}", content)
    return run_id, version


def promote(world, run_id, trap=None):
    process = world.job("retrain", run_id, {}, "promote")
    if trap is not None:
        trap.strike = lambda: kill(process)
    world.set_trap(trap)
    said, _ = process.communicate(timeout=120)
    world.set_trap(None)
    return process.returncode, said


def rows_of(world, version):
    return [(row.action, row.previous) for row in world.store.promotions(limit=500) if row.version == version]


@pytest.mark.parametrize("write", [ROW, ALIAS, COMMIT])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_a_write_of_the_promotion(world, champion, write, when):
    run_id, version = handed_over(world, champion)
    done = (write, when) == (COMMIT, "after")
    moved = (write, when) == (ALIAS, "after") or write == COMMIT

    trap = Trap(number=0, when=when, wanted=lambda name: name == write)
    code, said = promote(world, run_id, trap)
    assert (trap.struck, code) == (1, -9), said
    assert champion_of(world) == (version if moved else champion)
    assert rows_of(world, version) == ([("promote", champion)] if done else [])
    assert world.store.champion() == (version if done else champion)

    if moved and not done:  # any step of another run puts the alias back first
        assert settle(world.registry, world.store)
        assert champion_of(world) == champion

    code, said = promote(world, run_id)
    assert code == 0, said
    assert champion_of(world) == world.store.champion() == version
    assert rows_of(world, version) == [("promote", champion)]
    assert world.store.broken_promotion() is None


def test_a_retry_after_a_rollback_changes_nothing(world, champion):
    run_id, version = handed_over(world, champion)
    assert promote(world, run_id)[0] == 0
    move_champion(
        world.registry, world.store, champion, expected=version, actor="ana", reason="worse", action="rollback"
    )
    code, said = promote(world, run_id)
    assert code == 0, said
    assert champion_of(world) == world.store.champion() == champion
    assert rows_of(world, version) == [("promote", champion)]


def test_postgresql_killed_in_the_middle_of_a_promotion(world, champion):
    run_id, version = handed_over(world, champion)
    process = world.job("retrain", run_id, {}, "promote")
    trap = Trap(lambda: world.stop("postgres", kill=True), 0, "before", lambda name: name == COMMIT)
    world.set_trap(trap)
    said, _ = process.communicate(timeout=120)
    world.set_trap(None)
    world.postgres.prepare()
    world.start("postgres")
    assert (trap.struck, process.returncode) == (1, 1), said
    assert "database does not answer" in said
    assert world.store.champion() == champion
    for _ in range(5):  # each of MLflow's own connections to the old server fails once
        code, said = promote(world, run_id)
        if code == 0:
            break
    assert code == 0, said
    assert champion_of(world) == world.store.champion() == version
    assert rows_of(world, version) == [("promote", champion)]


def test_the_best_of_racing_versions_wins(world):
    rows = {row["case"]: row for row in race_all(world, 11, random.Random(5), print)}
    assert (rows["promotion races"]["as_it_must_be"], rows["promotion races"]["tries"]) == (10, 10)
    one_killed = rows["promotion races, one racer killed"]
    assert (one_killed["struck"], one_killed["as_it_must_be"]) == (1, 1)
