"""All logged predictions that fit, written into a file by a worker: the same rows, once, whatever happens meanwhile."""

from __future__ import annotations

import io
import uuid

import fastexcel
import polars as pl
import pytest

from api import exporting
from api.worker import Worker
from control_room.clients.api import ApiClient
from ml.errors import ServiceDown
from ml.records import HistoryItem
from tests.api.jobs import begun, content, one, result, worked_off


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(exporting, "CHUNK_IDS", 25)


@pytest.fixture
def logged(served, many):
    """150 predictions of a source of this test's own, in three requests between others."""
    source = f"exports-{uuid.uuid4().hex[:8]}"
    for start in (0, 60, 120):
        served.post("/predict", params={"source": source}, json={"instances": many[start : start + 50]})
        served.post("/predict", params={"source": "between"}, json={"instances": many[:30]})
    return source


def asked(api, **filters):
    return begun(api.post("/v1/exports/predictions", params=filters))


def history(api, **filters):
    found, cursor = [], None
    while True:
        query = filters | ({"cursor": cursor} if cursor else {})
        page = api.get("/historical-predictions", params={"limit": 70, **query}).json()
        found += [HistoryItem.model_validate(item) for item in page["items"]]
        if not (cursor := page["next_cursor"]):
            return found


@pytest.mark.parametrize("format", ["csv", "xlsx", "parquet"])
def test_the_file_holds_what_the_history_shows(served, worker, logged, format):
    status, job = asked(served, source=logged)
    assert (status, job.kind, job.state, job.model, job.data_version) == (202, "export", "queued", None, None)
    worked_off(worker)
    done = one(served, job)
    assert (done.state, done.progress.rows_done, done.progress.rows_total) == ("done", 150, 150)
    assert done.progress.chunks_total > 5
    found = result(served, job, format)
    items = history(served, source=logged)
    assert found.columns == list(exporting.COLUMNS)
    assert found["prediction_id"].to_list() == [item.prediction_id for item in items]
    assert found["prediction"].to_list() == pytest.approx([item.prediction for item in items])
    assert found["low_80"].to_list() == pytest.approx([item.interval["80"][0] for item in items])
    assert found["support"].to_list() == [item.support for item in items]
    assert found["created_at"].to_list() == [f"{item.created_at:%Y-%m-%dT%H:%M:%SZ}" for item in items]


def test_the_streamed_file_has_the_same_columns_and_rows(served, worker, logged):
    _, job = asked(served, source=logged)
    worked_off(worker)
    streamed = pl.read_csv(io.BytesIO(served.get("/v1/exports/predictions", params={"source": logged}).content))
    written = result(served, job)
    apart = ("created_at", "inputs")  # written in other ways
    assert written.drop(apart).equals(streamed.drop(apart))


def test_filters_by_what_sold_are_kept_to_and_said_in_the_workbook(served, worker, logged, many, forgetful):
    row = {name: many[0][name] for name in ("date", "store", "product")}
    served.http.put("/v1/actuals", json={"rows": [{**row, "sales": 7}]}).raise_for_status()
    _, job = asked(served, source=logged, has_actual=True, store=row["store"])
    worked_off(worker)
    book = fastexcel.read_excel(content(served, job, "xlsx"))
    (found,) = result(served, job, "xlsx").iter_rows(named=True)
    assert (found["product"], found["actual"]) == (row["product"], 7)
    assert found["error"] == pytest.approx(found["prediction"] - 7)
    assert book.sheet_names == ["result", "about"]
    about = dict(book.load_sheet("about", header_row=None).to_polars().iter_rows())
    assert about["filters"] == f"store = {row['store']}, source = {logged}, has_actual = True"
    assert about["job"] == job.job_id


def test_what_comes_later_is_not_in_it(served, worker, logged, many):
    _, job = asked(served, source=logged)
    served.post("/predict", params={"source": logged}, json={"instances": many[:10]})
    worked_off(worker)
    assert one(served, job).progress.rows_done == 150
    assert len(history(served, source=logged)) == 160


def test_asked_twice_it_is_the_same_while_it_is_worked_on_and_another_afterwards(served, worker, logged):
    _, job = asked(served, source=logged)
    status, again = asked(served, source=logged)
    assert (status, again.job_id) == (200, job.job_id)
    assert asked(served, source=logged, supported=True)[1].job_id != job.job_id
    worked_off(worker)
    status, later = asked(served, source=logged)
    assert (status, later.job_id == job.job_id) == (202, False)
    worked_off(worker)


def test_a_worker_that_ends_leaves_the_rest_to_the_next(served, trained, logged, monkeypatch):
    _, job = asked(served, source=logged)
    first, written = Worker(trained, lease=0.5), []
    put = first.lake.put_frame

    def some(key, frame):
        if len(written) == 3:
            raise ServiceDown("object store", "it went away")
        written.append(key)
        put(key, frame)

    monkeypatch.setattr(first.lake, "put_frame", some)
    first.work_once()
    first.store.close()
    seen = one(served, job)
    assert (seen.state, seen.progress.chunks_done, seen.error_code) == ("queued", 3, "service_down")
    monkeypatch.setattr("api.worker.RETRY_SECONDS", 0.0)
    second = Worker(trained)
    served.wait_for(lambda: second.work_once() or not one(served, job).active, seconds=30)
    second.store.close()
    found = result(served, job)
    assert found["prediction_id"].to_list() == [item.prediction_id for item in history(served, source=logged)]


def test_nothing_that_fits_is_done_with_nothing(served, worker):
    _, job = asked(served, source="nobody")
    worked_off(worker)
    assert one(served, job).state == "done"
    reply = served.get(f"/v1/jobs/{job.job_id}/result")
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert "No prediction fits" in reply.json()["detail"]


def test_it_is_cancelled_like_any_job(served, worker, logged):
    _, job = asked(served, source=logged)
    assert served.http.delete(f"/v1/jobs/{job.job_id}").json()["state"] == "cancelled"
    worked_off(worker)
    assert one(served, job).progress.rows_done == 0
    assert asked(served, source=logged)[0] == 202
    worked_off(worker)


def test_exports_and_files_are_listed_apart_and_the_client_speaks_the_same(served, worker, logged):
    client = ApiClient(served.url, token="")
    job = client.make_export({"source": logged})
    assert job.job_id in {item.job_id for item in client.jobs(kind="export")}
    assert job.job_id not in {item.job_id for item in client.jobs(kind="predict")}
    worked_off(worker)
    assert pl.read_csv(io.BytesIO(client.job_result(job.job_id))).height == 150
    assert pl.read_csv(io.BytesIO(client.export_history({"source": logged}, 100))).height == 100


def test_a_filter_that_is_none_is_refused(served):
    assert served.post("/v1/exports/predictions", params={"from": "yesterday"}).status_code == 422
