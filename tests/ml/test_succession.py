"""Audit, alias and files of models in a real PostgreSQL and a real MLflow: they end up saying the same."""

import hashlib
import uuid

import pytest

from ml.copying import Logged
from ml.errors import Conflict, Retired, ServiceDown
from ml.records import Answer, Decision, ModelRef, Support
from ml.registry import DECISION, Registry
from ml.retirement import retire_old
from ml.succession import REPAIR, drop_challenger, move_champion, settle

DECIDED = Decision(verdict="first", promote=True, needs_approval=False, reason="beats seasonal naive")


@pytest.fixture
def registry(mlflow_server):
    made = Registry(mlflow_server, f"succession-{uuid.uuid4().hex[:8]}")
    made.client.create_registered_model(made.name)
    return made


@pytest.fixture
def add(registry, store):
    """Registers a version with one file, recorded unless told otherwise."""

    def make(*, recorded=True):
        content = uuid.uuid4().hex
        with registry.run("succession", content, finish=True) as run:
            registry.client.log_text(run, content, "model/artifacts/bundle/manifest.json")
            registry.client.log_text(run, DECIDED.model_dump_json(), DECISION)
            source = f"{registry.client.get_run(run).info.artifact_uri}/model"
        version = str(registry.client.create_model_version(registry.name, source, run).version)
        if recorded:
            store.record_bundle(version, hashlib.sha256(content.encode()).hexdigest())
        return version

    return make


def crown(registry, store, version, **changes):
    arguments = {"expected": store.champion(), "actor": "ana", "reason": "better"}
    return move_champion(registry, store, version, **(arguments | changes))


def champion(registry):
    found = registry.alias("champion")
    return found and found.version


# ---------------------------------------------------------------- one word about the champion


def test_an_alias_that_no_row_explains_is_put_back(registry, store, add):
    first, second = add(), add()
    crown(registry, store, first)
    assert settle(registry, store) is None
    registry.set_alias("champion", second)  # what a kill between alias and commit leaves
    assert f"was at version {second}" in settle(registry, store)
    assert champion(registry) == first
    registry.drop_alias("champion")
    assert "was missing" in settle(registry, store)
    assert champion(registry) == first
    assert len(store.promotions()) == 1


def test_a_killed_first_promotion_is_entered_once_with_its_decision(registry, store, add):
    version = add()
    registry.set_alias("champion", version)
    assert "entered" in settle(registry, store)
    assert settle(registry, store) is None
    (row,) = store.promotions()
    assert (row.version, row.previous, row.actor, row.decision) == (version, None, REPAIR, DECIDED)
    crown(registry, store, version, expected=None)  # the rerun of the promotion
    assert len(store.promotions()) == 1


def test_a_champion_that_was_never_recorded_is_not_entered(registry, store, add):
    registry.set_alias("champion", add(recorded=False))
    assert settle(registry, store) is None
    assert store.promotions() == []


def test_a_promotion_that_mlflow_does_not_take_leaves_nothing(registry, store, add):
    first, second = add(), add()
    crown(registry, store, first)
    away = Registry("http://127.0.0.1:9", registry.name)
    with pytest.raises(ServiceDown):
        crown(away, store, second)
    assert store.champion() == champion(registry) == first


def test_a_stale_promotion_moves_nothing_and_says_who_was_faster(registry, store, add):
    first, second, third = add(), add(), add()
    crown(registry, store, first)
    crown(registry, store, second, actor="ben")
    with pytest.raises(Conflict, match="by ben"):
        crown(registry, store, third, expected=first)
    assert champion(registry) == second


def test_only_ones_own_challenger_alias_is_dropped(registry, store, add):
    first, second = add(), add()
    registry.set_alias("challenger", second)
    crown(registry, store, first)
    assert registry.alias("challenger").version == second
    crown(registry, store, second)
    assert registry.alias("challenger") is None
    drop_challenger(registry, second)


# ---------------------------------------------------------------- what is given up


def files(registry, version):
    """The files of a version that are still there."""
    run = registry.version(version).run_id
    return [item.path for item in registry.client.list_artifacts(run, "model/artifacts/bundle")]


def predicted(store, version, date="2026-01-04"):
    answer = Answer(
        date=date,
        store="S1",
        product="P1",
        prediction=1.0,
        unit="units/day",
        interval={},
        support=Support(similar_days=1, level="thin"),
        inputs={},
        model=ModelRef(name="sales", version=version, alias=None, run_id="r"),
        data_version="d",
        request_id="q",
        created_at="2026-01-04T10:00:00Z",
    )
    store.log_predictions([Logged(answer, "api")])


def test_what_nothing_needs_is_given_up(registry, store, add, tmp_path):
    versions = [add() for _ in range(8)]
    named, before, now, challenger = versions[0], versions[1], versions[2], versions[3]
    predicted(store, named)
    crown(registry, store, before)
    crown(registry, store, now)
    registry.set_alias("challenger", challenger)
    gone = retire_old(registry, store, keep=2, actor="test")
    assert gone == versions[4:6]
    assert {version for version in versions if files(registry, version)} == set(versions) - set(gone)
    assert [v.version for v in registry.versions() if v.retired_at] == gone[::-1]
    assert registry.report(gone[0]).decision == DECIDED  # the evidence stays
    with pytest.raises(Retired, match=f"version {gone[0]} are not kept"):
        registry.download(gone[0], tmp_path / "bundle")
    rows = [row for row in store.promotions() if row.action == "retire"]
    assert sorted(row.version for row in rows) == sorted(gone)
    assert {row.actor for row in rows} == {"test"}
    assert store.champion() == now
    assert store.broken_promotion() is None
    assert retire_old(registry, store, keep=2, actor="test") == []


def test_what_a_killed_run_began_is_finished(registry, store, add, monkeypatch):
    versions = [add() for _ in range(4)]
    crown(registry, store, versions[-1])

    def killed(version):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry, "free", killed)
        with pytest.raises(KeyboardInterrupt):
            retire_old(registry, store, keep=1, actor="test")
    assert store.retired_versions() == {versions[0]}
    assert files(registry, versions[0])
    with pytest.raises(Conflict, match="given up"):
        crown(registry, store, versions[0])
    assert retire_old(registry, store, keep=4, actor="test") == [versions[0]]  # keeping more does not bring it back
    assert not files(registry, versions[0])
    assert len([row for row in store.promotions() if row.action == "retire"]) == 1


def test_a_version_crowned_meanwhile_stays(registry, store, add, monkeypatch):
    versions = [add() for _ in range(3)]
    seen = store.named_by_predictions

    def crowned_now(asked):
        crown(registry, store, versions[0])
        return seen(asked)

    monkeypatch.setattr(store, "named_by_predictions", crowned_now)
    assert retire_old(registry, store, keep=1, actor="test") == [versions[1]]
    assert files(registry, versions[0])


def test_more_versions_than_mlflow_gives_at_once(registry):
    with registry.run("succession", "many") as run:
        source = registry.client.get_run(run).info.artifact_uri
        for _ in range(203):
            registry.client._get_registry_client().store.create_model_version(registry.name, f"{source}/model", run)
    assert len(registry.versions()) == 203
