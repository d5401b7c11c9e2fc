"""What was answered once is answered again by the bundle and the history that gave it."""

import datetime as dt
import hashlib
import shutil
import time

import pytest

from ml import jobs
from ml.bundle import MANIFEST
from ml.records import ETL_DAG, ChampionsPage, Promotion, Replay, Retellings
from ml.registry import Registry
from ml.retirement import retire_old
from ml.store import Store


def replayed(api, prediction_id):
    reply = api.post(f"/v1/predictions/{prediction_id}/replay")
    assert reply.status_code == 200, reply.text
    return Replay.model_validate(reply.json())


def newest(api):
    return api.get("/historical-predictions", params={"limit": 1}).json()["items"][0]


def test_an_answer_is_given_again(served, row):
    answer = served.post("/predict", json=row).json()
    logged = newest(served)
    again = replayed(served, logged["prediction_id"])
    assert (again.then, again.agrees) == (answer["prediction"], True)
    assert again.difference == pytest.approx(0, abs=1e-9)
    for level, bounds in again.interval_then.items():  # one row is answered by other code: the last digit may differ
        assert again.interval_now[level] == pytest.approx(bounds, rel=1e-12)
    assert again.interval_now.keys() == again.interval_then.keys() == {"80", "95"}
    assert (again.model_version, again.data_version) == (answer["model"]["version"], answer["data_version"])
    manifest = served.services.settings.data_dir / "api" / "bundles" / again.model_version / MANIFEST
    assert again.manifest_sha256 == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert newest(served)["prediction_id"] == logged["prediction_id"]  # a replay is no prediction


def test_every_row_of_a_batch_agrees(served, many):
    served.post("/predict", json={"instances": many[:60]})
    items = served.get("/historical-predictions", params={"limit": 60}).json()["items"]
    assert all(replayed(served, item["prediction_id"]).agrees for item in items[::12])


def test_after_new_data_and_another_champion_the_old_answer_stands(serve, moved, row):
    with serve(moved) as api:
        api.ready()
        api.wait_for(lambda: api.get("/v1/snapshot").status_code == 200)
        before = api.post("/predict", json=row).json()
        old = newest(api)
        context = jobs.Context(moved, "etl-replay", {"source": "demo_next_week"})
        for step in jobs.STEPS[ETL_DAG]:
            jobs.step_of(ETL_DAG, step)(context)
        api.wait_for(lambda: api.get("/health").json()["data_version"] != before["data_version"])
        now = api.post("/predict", json=row | {"date": str(dt.date.fromisoformat(row["date"]) + dt.timedelta(7))})
        fresh = newest(api)
        assert now.json()["data_version"] != before["data_version"]
        for item in (old, fresh):
            again = replayed(api, item["prediction_id"])
            assert (again.then, again.data_version) == (item["prediction"], item["data_version"])
            assert again.agrees

        # the history that answered is given up
        for key in context.lake.list(f"snapshots/{now.json()['data_version']}/"):
            context.lake.delete(key)
        shutil.rmtree(moved.data_dir / "api" / "replayed")
        reply = api.post(f"/v1/predictions/{fresh['prediction_id']}/replay")
        assert (reply.status_code, reply.json()["code"]) == (410, "retired")
        assert now.json()["data_version"] in reply.json()["detail"]
        assert replayed(api, old["prediction_id"]).agrees  # the bundle's own history is in the bundle


@pytest.fixture
def moved(trained, served, new_database, tmp_path):
    """The trained settings with a lake, a folder and a database of their own."""
    shutil.copytree(trained.lake, tmp_path / "lake")
    shutil.copytree(
        served.ready().services.settings.data_dir / "api",
        tmp_path / "data" / "api",
        ignore=shutil.ignore_patterns("spool"),
    )
    url = new_database()
    own, shared = Store(url), Store(trained.database_url)
    own.migrate()
    for version in ("1", "2"):
        own.record_bundle(version, shared.bundle_sha256(version))
    own.close()
    shared.close()
    changes = {"database_url": url, "lake": str(tmp_path / "lake"), "data_dir": tmp_path / "data"}
    return trained.model_copy(update=changes)


def test_what_is_not_there(served):
    reply = served.post("/v1/predictions/999999999/replay")
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


# ---------------------------------------------------------------- another version


def retold(api, **query):
    reply = api.get("/v1/retellings", params=query)
    assert reply.status_code == 200, reply.text
    return Retellings.model_validate(reply.json())


def test_another_version_answers_what_was_asked_then(forgetful, many):
    served = forgetful
    served.post("/predict", params={"source": "retold"}, json={"instances": many[:40]})
    said = served.post("/predict", params={"model": "2", "source": "beside"}, json={"instances": many[:40]}).json()
    found = retold(served, model="2", source="retold", limit=30)
    assert [item.now for item in found.items] == [p["prediction"] for p in reversed(said["predictions"])][:30]
    assert {(item.version, item.learned) for item in found.items} == {("1", False)}
    assert (found.gone, found.judged, found.wape_now) == (0, 0, None)
    assert not served.get("/historical-predictions", params={"source": "retold", "version": "2"}).json()["items"]


def test_what_a_version_has_learned_from_is_shown_and_not_judged(forgetful, row):
    served = forgetful
    until = dt.date.fromisoformat(served.get("/v1/catalog").json()["date_to"])
    days = [until - dt.timedelta(days=1), until + dt.timedelta(days=2)]
    served.post("/predict", params={"source": "past"}, json={"instances": [row | {"date": str(day)} for day in days]})
    known = {"date": str(days[1]), "store": row["store"], "product": row["product"], "sales": 10}
    assert served.http.put("/v1/actuals", json={"rows": [known]}).status_code == 200
    found = retold(served, model="2", source="past")
    assert {item.date: (item.learned, item.actual is not None) for item in found.items} == {
        days[0]: (True, True), days[1]: (False, True)
    }  # fmt: skip
    ahead = next(item for item in found.items if not item.learned)
    assert (found.judged, found.wape_now) == (1, pytest.approx(abs(ahead.now - 10) / 10))
    assert found.wape_then == pytest.approx(abs(ahead.then - 10) / 10)


def test_rows_whose_data_is_gone_are_counted(served, row):
    answer = served.post("/predict", params={"source": "gone"}, json=row).json()
    assert newest(served)["request_id"] == answer["request_id"]  # it is in the database now
    with served.services.store.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE predictions SET data_version = 'no-such' WHERE request_id = %s", (answer["request_id"],)
        )
    found = retold(served, model="2", source="gone")
    assert (found.items, found.gone) == ((), 1)


def test_a_version_that_is_none_cannot_answer(served):
    assert served.get("/v1/retellings", params={"model": "99"}).status_code == 404
    assert served.get("/v1/retellings", params={"model": "champion"}).status_code == 422
    assert served.get("/v1/retellings", params={"model": "1", "limit": 201}).status_code == 422


# ---------------------------------------------------------------- champions


@pytest.fixture
def back(trained, served):
    """Afterwards 1 is champion and 2 challenger again."""
    registry = Registry(trained.mlflow)
    yield registry
    if registry.alias("champion").version != "1":
        served.post("/v1/models/1/promote", json={"reason": "end of test", "actor": "ana"})
    registry.set_alias("challenger", "2")
    served.wait_for(lambda: served.get("/readyz").json().get("version") == "1")


def change(api, path, **body):
    return api.post(f"/v1/models/{path}", json={"reason": "better", "actor": "ana"} | body)


def test_a_decision_about_another_champion_is_refused_and_says_who_moved_it(served, back):
    stale = change(served, "2/promote", expected="7")
    assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
    assert "it was version 7; now it is version 1" in stale.json()["detail"]
    assert change(served, "2/promote", expected=None).status_code == 409
    assert change(served, "2/promote", expected="1", actor="eva").status_code == 200
    late = change(served, "rollback", expected="1")
    assert late.status_code == 409
    assert "by eva: better" in late.json()["detail"]
    assert back.alias("champion").version == "2"
    assert change(served, "rollback", expected="2").json()["version"] == "1"
    assert change(served, "2/promote", expected="x").status_code == 422


def test_champions_are_listed_with_their_times(served, back):
    Promotion.model_validate(change(served, "2/promote").json())
    change(served, "rollback", actor="ben", reason="worse")
    page = ChampionsPage.model_validate(served.get("/v1/champions", params={"limit": 2}).json())
    now, before = page.items
    assert (now.version, now.until, now.actor, now.reason) == ("1", None, "ben", "worse")
    assert (before.version, before.until) == ("2", now.since)
    following = served.get("/v1/champions", params={"limit": 1, "cursor": page.next_cursor}).json()
    assert following["items"][0]["until"] is not None
    assert served.get("/v1/champions", params={"cursor": "nonsense"}).status_code == 422


def test_a_rollback_is_served_within_five_seconds(served, back, row):
    change(served, "2/promote")
    begin = time.perf_counter()
    assert change(served, "rollback").status_code == 200
    assert served.post("/predict", json=row).json()["model"]["version"] == "1"
    assert time.perf_counter() - begin < 5


# ---------------------------------------------------------------- an API that was killed in between


def test_an_api_that_starts_puts_the_alias_right(serve, trained, served, back, tmp_path, row):
    back.set_alias("champion", "2")  # as a kill between the alias and the commit leaves it
    settings = trained.model_copy(update={"data_dir": tmp_path})
    with serve(settings) as api:
        api.wait_for(lambda: back.alias("champion").version == "1")
        api.wait_for(lambda: api.get("/readyz").json().get("version") == "1")
        assert api.post("/predict", json=row).json()["model"]["version"] == "1"


def test_a_retired_model_is_named_as_such(serve, moved, back, again, row):
    store = Store(moved.database_url)
    store.promote("1", expected_previous=None, actor="ana", reason="first")
    store.record_bundle(again, store.bundle_sha256("1"))
    with serve(moved) as api:
        api.ready()
        assert again in retire_old(back, store, keep=1, actor="test")
        reply = api.post("/predict", params={"model": again}, json=row)
        assert (reply.status_code, reply.json()["code"]) == (410, "retired")
        assert change(api, f"{again}/promote").status_code == 410
        shown = {item["version"]: item["retired_at"] for item in api.get("/v1/models").json()["items"]}
        assert shown[again] is not None
        assert shown["1"] is None
        assert api.get(f"/v1/models/{again}").status_code == 200
        assert api.get("/v1/promotions").json()["items"][0]["action"] == "retire"
    store.close()


@pytest.fixture
def again(trained, back, register):
    """A version that is neither champion nor challenger nor the newest."""
    version = register(trained, "again-to-retire")
    register(trained, "again-newest")
    back.set_alias("challenger", "2")
    return version
