"""The champion through everything that can go wrong around it."""

import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import psycopg2
import pytest

from api import trial
from api.loading import KEPT_BUNDLES
from api.trial import tried
from ml import jobs
from ml.bundle import MANIFEST, sha256
from ml.errors import BundleDamaged
from ml.onedal_trees import OneDalTrees
from ml.records import ETL_DAG, Health, Promotion
from ml.registry import Registry
from ml.store import Store

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def own(trained, served, tmp_path):
    """The trained settings with a data folder of their own, as the API has left it after a good start."""
    served.ready()
    shutil.copytree(served.services.settings.data_dir / "api", tmp_path / "api", ignore=shutil.ignore_patterns("spool"))
    return trained.model_copy(update={"data_dir": tmp_path})


@pytest.fixture
def registry(trained, served):
    """MLflow; afterwards 1 is champion and 2 challenger again, and the shared API knows."""
    made = Registry(trained.mlflow)
    yield made
    made.set_alias("champion", "1")
    made.set_alias("challenger", "2")
    served.wait_for(lambda: served.get("/readyz").json().get("version") == "1")


def health(api):
    return Health.model_validate(api.get("/health").json())


def part(api, name):
    return next(part for part in health(api).parts if part.name == name)


def champion_bundle(settings, version="1"):
    return settings.data_dir / "api" / "bundles" / version


# ---------------------------------------------------------------- away


def test_it_starts_without_mlflow_from_the_last_good_one(serve, own, row):
    with serve(own.model_copy(update={"mlflow_url": AWAY})) as api:
        api.ready()
        answer = api.post("/predict", json=row).json()
        assert answer["model"]["version"] == "1"
        api.wait_for(lambda: part(api, "champion").state == "degraded")
        assert "mlflow" in part(api, "champion").detail
        assert part(api, "mlflow").state == "down"
        assert health(api).status == "degraded"


def test_it_starts_without_the_object_store_too(serve, own, row, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", AWAY)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with serve(own.model_copy(update={"mlflow_url": AWAY, "lake": "s3://gone/away"})) as api:
        api.wait_for(lambda: api.get("/readyz").status_code == 200, seconds=60)
        assert api.post("/predict", json=row).json()["prediction"] > 0
        assert api.get("/v1/catalog").json()["stores"]
        assert api.get("/v1/sales").json()["points"]
        assert api.get("/readyz").status_code == 200


@pytest.fixture
def silent():
    """A server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_health_answers_within_its_time_when_nothing_else_does(serve, make_settings, silent):
    with serve(make_settings(mlflow_url=silent, airflow_url=silent)) as api:
        api.get("/health")
        time.sleep(2.1)
        begin = time.perf_counter()
        seen = health(api)
        assert time.perf_counter() - begin < 1.5
        states = {part.name: part.state for part in seen.parts}
        assert (states["mlflow"], states["airflow"], states["champion"]) == ("down", "down", "absent")
        assert (states["database"], states["object store"]) == ("ok", "ok")
        assert seen.champion is None
        assert api.get("/livez").status_code == 200
        assert api.get("/readyz").json()["code"] == "no_champion"


def test_an_mlflow_that_is_gone_is_told_in_plain_words(serve, make_settings):
    with serve(make_settings(mlflow_url="http://127.0.0.1:9")) as api:
        told = api.get("/v1/models")
        assert (told.status_code, told.json()["code"]) == (503, "service_down")
        assert told.json()["detail"] == "mlflow does not answer: ConnectionError"


@pytest.fixture
def apart(own, new_database):
    """As ``own``, with a database of its own that knows the champion's bundle."""
    url = new_database()
    store = Store(url)
    store.migrate()
    store.record_bundle("1", sha256((champion_bundle(own) / MANIFEST).read_bytes()))
    store.close()
    return own.model_copy(update={"database_url": url})


def test_without_the_database_answers_wait_on_the_disk_and_reach_the_history_once(serve, apart, row, postgres):
    with serve(apart) as api:
        api.ready()
        assert api.post("/predict", json=row).status_code == 200
        assert len(api.get("/historical-predictions").json()["items"]) == 1
        with closed(postgres, apart.database_url.rpartition("/")[2]):
            one = api.post("/predict", json=row, headers={"X-Request-ID": "while-away"})
            assert one.status_code == 200
            assert api.post("/predict", json={"instances": [row] * 200}).status_code == 200
            api.wait_for(lambda: health(api).status == "down")
            assert part(api, "prediction log").state == "degraded"
            assert "2 batches" in part(api, "prediction log").detail
            assert api.get("/readyz").status_code == 200
            assert api.get("/historical-predictions").status_code == 503
        api.wait_for(lambda: part(api, "prediction log").state == "ok")
        items = api.get("/historical-predictions", params={"limit": 1000}).json()["items"]
        assert len(items) == 202
        (waited,) = [item for item in items if item["request_id"] == "while-away"]
        assert waited["prediction"] == one.json()["prediction"]
        assert waited["created_at"] == one.json()["created_at"]
        assert api.services.spool.drain() == 0


def test_an_api_that_is_killed_while_the_database_is_away_loses_no_answer(serve, apart, row, postgres):
    with serve(apart) as api:
        api.ready()
        with closed(postgres, apart.database_url.rpartition("/")[2]):
            assert api.post("/predict", json=row, headers={"X-Request-ID": "before-the-end"}).status_code == 200
            api.services.spool.stop()
    with serve(apart) as again:
        again.wait_for(lambda: not again.services.spool.waiting())
        items = again.get("/historical-predictions").json()["items"]
        assert "before-the-end" in {item["request_id"] for item in items}


class closed:
    """A database that accepts nobody, for a while."""

    def __init__(self, server, name):
        self.name = name
        self.connection = psycopg2.connect(
            host="127.0.0.1", port=server.port, user="postgres", password=server.password, dbname="postgres"
        )
        self.connection.autocommit = True

    def _say(self, allowed):
        self.connection.cursor().execute(f"ALTER DATABASE {self.name} WITH ALLOW_CONNECTIONS {allowed}")

    def __enter__(self):
        self._say("false")
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        self.connection.cursor().execute(query, [self.name])

    def __exit__(self, *_):
        self._say("true")
        self.connection.close()


# ---------------------------------------------------------------- damaged


def damage(settings):
    """One flipped bit in the largest file of the bundle."""
    path = max((p for p in champion_bundle(settings).iterdir()), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path.name


def test_a_damaged_bundle_is_fetched_again(serve, own, row):
    damage(own)
    with serve(own) as api:
        api.ready()
        assert api.post("/predict", json=row).json()["prediction"] > 0


def test_a_damaged_bundle_never_answers(serve, own, row):
    name = damage(own)
    with serve(own.model_copy(update={"mlflow_url": AWAY})) as api:
        api.wait_for(lambda: "mlflow" in part(api, "champion").detail)
        assert api.get("/readyz").status_code == 503
        assert api.post("/predict", json=row).status_code == 503
    assert not (champion_bundle(own) / name).exists()


def test_a_manifest_that_was_not_recorded_is_not_loaded(serve, own, registry, served, row, tmp_path):
    bundle = registry.download("1", tmp_path / "bundle")
    with registry.run("swapped", "swapped-1", finish=True) as run:
        example = pl.DataFrame({"store": ["S01"], "price": [1.0]}).to_pandas()
        version = registry.register(run, bundle, {"kind": "xgboost"}, example)
    reply = served.post("/predict", params={"model": version}, json=row)
    assert (reply.status_code, reply.json()["code"]) == (503, "bundle_damaged")
    promoted = served.post(f"/v1/models/{version}/promote", json={"reason": "try", "actor": "eve"})
    assert promoted.json()["code"] == "bundle_damaged"
    assert registry.alias("champion").version == "1"
    registry.set_alias("champion", version)  # and when the alias is moved behind our back
    time.sleep(3)
    assert served.post("/predict", json=row).json()["model"]["version"] == "1"
    assert "recorded" in part(served, "champion").detail


# ---------------------------------------------------------------- following


def test_a_moved_alias_is_followed_without_a_lost_request(registry, served, many):
    stop, seen = threading.Event(), []

    def ask(number):
        while not stop.is_set():
            reply = served.post("/predict", json=many[number])
            seen.append((reply.status_code, reply.json().get("model", {}).get("version")))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version in ("2", "1", "2"):
            registry.set_alias("champion", version)
            served.wait_for(lambda wanted=version: served.get("/readyz").json().get("version") == wanted)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {"1", "2"}


def test_new_data_moves_the_origin(serve, apart, tmp_path):
    shutil.copytree(apart.lake, tmp_path / "lake")
    settings = apart.model_copy(update={"lake": str(tmp_path / "lake")})
    with serve(settings) as api:
        before = health(api.ready())
        context = jobs.Context(settings, "etl-next-week", {"source": "demo_next_week"})
        for step in jobs.STEPS[ETL_DAG]:
            jobs.step_of(ETL_DAG, step)(context)
        api.wait_for(lambda: health(api).data_version != before.data_version)
        after = health(api)
        assert (after.data_until - before.data_until).days == 7
        assert after.champion.version == before.champion.version
        assert str(after.data_until) == api.get("/v1/catalog").json()["date_to"]


# ---------------------------------------------------------------- changing


def promote(api, version, **changes):
    return api.post(f"/v1/models/{version}/promote", json={"reason": "better", "actor": "ana"} | changes)


def test_promote_and_back_through_the_api(registry, served, row):
    made = Promotion.model_validate(promote(served, "2").json())
    assert (made.action, made.version, made.previous, made.actor, made.reason) == (
        "promote",
        "2",
        "1",
        "ana",
        "better",
    )
    assert served.post("/predict", json=row).json()["model"]["version"] == "2"
    assert registry.alias("champion").version == "2"
    again = promote(served, "2")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    back = served.post("/v1/models/rollback", json={"reason": "worse", "actor": "ben"}).json()
    assert (back["action"], back["version"], back["previous"]) == ("rollback", "1", "2")
    assert served.post("/predict", json=row).json()["model"]["version"] == "1"
    audit = served.get("/v1/promotions").json()["items"]
    assert [item["promotion_id"] for item in audit[:2]] == [back["promotion_id"], made.promotion_id]
    assert served.services.store.broken_promotion() is None


def test_of_twenty_racing_promotions_one_counts(registry, served):
    before = len(served.get("/v1/promotions").json()["items"])
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda number: promote(served, "2", actor=f"a{number}").status_code, range(20)))
    audit = served.get("/v1/promotions").json()["items"]
    assert len(audit) == before + 1
    assert audit[0]["version"] == "2"
    assert set(codes) <= {200, 409}
    assert registry.alias("champion").version == "2"
    assert served.services.store.broken_promotion() is None
    assert served.post("/v1/models/rollback", json={"reason": "end of test", "actor": "ana"}).status_code == 200


def test_a_version_that_is_not_wanted_is_noted_and_nothing_moves(served):
    asked = {"reason": "bread is worse", "actor": "ana"}
    noted = Promotion.model_validate(served.post("/v1/models/2/reject", json=asked).json())
    assert (noted.action, noted.version, noted.actor, noted.reason) == ("reject", "2", "ana", "bread is worse")
    assert served.get("/v1/promotions").json()["items"][0]["promotion_id"] == noted.promotion_id
    assert served.get("/v1/champions").json()["items"][0]["version"] == "1"
    for path, status in (("1", 409), ("99", 404)):
        assert served.post(f"/v1/models/{path}/reject", json=asked).status_code == status
    assert served.post("/v1/models/2/reject", json={"reason": " ", "actor": "ana"}).status_code == 422


def test_a_version_that_is_not_there_is_not_promoted(served):
    assert promote(served, "99").status_code == 404


def test_models_and_their_evidence(served):
    items = served.get("/v1/models").json()["items"]
    assert {"1", "2"} <= {item["version"] for item in items}
    report = served.get("/v1/models/1").json()
    assert report["model"]["aliases"] == ["champion"]
    assert report["evaluation"]["overall"]["challenger"]["wape"] > 0
    assert report["decision"]["verdict"] == "first"
    assert served.get("/v1/models/99").status_code == 404


def test_runs_say_when_airflow_is_away(served):
    for method, path in (("POST", "/v1/etl"), ("POST", "/v1/retrain"), ("GET", "/v1/runs/retrain_sales_model")):
        reply = served.http.request(method, path)
        assert (reply.status_code, reply.json()["code"]) == (503, "service_down")
        assert "airflow" in reply.json()["detail"]


# ---------------------------------------------------------------- tried in a process of its own


def crashing(bundle):
    """A bundle whose trees point beyond their end, with sums that agree: XGBoost crashes on it."""
    trees = max(bundle.glob("*.ubj"), key=lambda p: p.stat().st_size)
    data = bytearray(trees.read_bytes())
    first = data.index(b"L", data.index(b"left_children") + len(b"left_children")) + 9
    data[first : first + 4] = (0x00FFFFFF).to_bytes(4, "big")
    trees.write_bytes(data)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][trees.name] = sha256(bytes(data))
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_a_bundle_that_crashes_its_process_leaves_the_api_and_the_champion_alone(served, registry, tmp_path, row):
    bundle = registry.download("1", tmp_path / "bundle")
    crashing(bundle)
    with registry.run("crashing", "crashing-1", finish=True) as run:
        example = pl.DataFrame({"store": ["S01"], "price": [1.0]}).to_pandas()
        version = registry.register(run, bundle, {"kind": "xgboost"}, example)
    served.services.store.record_bundle(version, sha256((bundle / MANIFEST).read_bytes()))
    registry.set_alias("champion", version)
    served.wait_for(lambda: "SIGSEGV" in part(served, "champion").detail)
    answer = served.post("/predict", json=row)
    assert (answer.status_code, answer.json()["model"]["version"]) == (200, "1")


def test_a_trial_says_what_is_wrong(tmp_path):
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(BundleDamaged, match="the manifest can't be read"):
        tried(tmp_path, "not tried before")


def test_versions_asked_for_do_not_push_the_champion_off_this_disk(serve, own, served, registry, tmp_path, row):
    bundle = registry.download("2", tmp_path / "bundle")
    example = pl.DataFrame({"store": ["S01"], "price": [1.0]}).to_pandas()
    asked = []
    for number in range(KEPT_BUNDLES + 1):
        with registry.run(f"other {number}", f"other-{number}", finish=True) as run:
            asked.append(registry.register(run, bundle, {"kind": "xgboost"}, example))
        served.services.store.record_bundle(asked[-1], sha256((bundle / MANIFEST).read_bytes()))
    with serve(own) as api:
        api.ready()
        for version in asked:
            assert api.post(f"/predict?model={version}", json=row).json()["model"]["version"] == version
        kept = {folder.name for folder in champion_bundle(own).parent.iterdir()}
    assert kept == {"1", *asked[-KEPT_BUNDLES:]}
    with serve(own.model_copy(update={"mlflow_url": AWAY})) as api:
        assert api.ready().post("/predict", json=row).json()["model"]["version"] == "1"


def test_golden_rows_far_off_are_refused(served, registry, tmp_path):
    bundle = registry.download("1", tmp_path / "bundle")
    golden = json.loads((bundle / "golden.json").read_text())
    golden[0]["prediction"] += 0.01
    raw = json.dumps(golden)
    (bundle / "golden.json").write_text(raw)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"]["golden.json"] = sha256(raw.encode())
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with registry.run("far", "far-1", finish=True) as run:
        example = pl.DataFrame({"store": ["S01"], "price": [1.0]}).to_pandas()
        version = registry.register(run, bundle, {"kind": "xgboost"}, example)
    served.services.store.record_bundle(version, sha256((bundle / MANIFEST).read_bytes()))
    reply = served.post("/predict", params={"model": version}, json={})
    assert (reply.status_code, reply.json()["code"]) == (503, "bundle_damaged")


def test_a_trial_loads_a_model_as_it_will_answer(served, monkeypatch, capsys):
    """What oneDAL makes of a model, it makes of it in the child process first."""
    seen = []
    monkeypatch.setattr("ml.onedal_trees.hastened", lambda model: seen.append(model) or model)
    bundles = served.ready().services.settings.data_dir / "api" / "bundles"
    assert trial.main(bundles / "1") == 0
    assert len(seen) == 1
    assert json.loads(capsys.readouterr().out)["parity"] < 1e-3


def test_many_rows_of_the_champion_are_answered_by_onedal(served):
    pytest.importorskip("daal4py", reason="NOT CHECKED: there is no oneDAL for this machine")
    model = served.ready().services.champion.require().forecaster.bundle.model
    members = [trees for block in model.blocks.values() for trees in block]
    assert members
    assert all(isinstance(trees, OneDalTrees) for trees in members)
