"""Large files: what a job answers and what it refuses, and each row in the log once. Workers in this process."""

from __future__ import annotations

import datetime as dt
import io
import threading
import time

import polars as pl
import pytest
import sqlalchemy as sa

from api import jobfiles, jobwork
from api.openapi import PARQUET, XLSX
from api.worker import Worker
from control_room.clients.api import ApiClient
from deploy import probes
from ml.errors import Conflict, ServiceDown
from ml.jobboard import JobBoard, JobLost
from ml.records import Job
from ml.store import predictions
from tests.api.jobs import READ, begun, one, result, worked_off

TYPES = {"csv": "text/csv", "xlsx": XLSX, "parquet": PARQUET}


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(jobwork, "CHUNK_ROWS", 25)


def frame_of(many, salt):
    """Rows that no other test has asked for: their price is ``salt``."""
    rows = pl.DataFrame(many).with_columns(pl.col("date").str.to_date(), price=pl.lit(float(salt)))
    return rows.select("date", "store", "product", "price", "promotion")


def as_file(frame, format="csv"):
    buffer = io.BytesIO()
    {"csv": frame.write_csv, "xlsx": frame.write_excel, "parquet": frame.write_parquet}[format](buffer)
    return buffer.getvalue()


def asked(api, data, format="csv", **query):
    return begun(api.post("/v1/jobs", params=query, content=data, headers={"Content-Type": TYPES[format]}))


def logged_rows(api, job):
    query = sa.select(predictions.c.store, predictions.c.product, predictions.c.date, predictions.c.prediction)
    with api.services.store.begin() as connection:
        found = connection.execute(query.where(predictions.c.request_id == job.job_id)).all()
    return sorted(tuple(row) for row in found)


@pytest.mark.parametrize("format", ["csv", "xlsx", "parquet"])
def test_a_job_answers_what_predict_answers_in_the_same_order(served, worker, many, small_chunks, format):
    frame = frame_of(many, 2.0 + len(format) / 8).sample(120, seed=1, shuffle=True)
    data = as_file(frame, format)
    status, job = asked(served, data, format, filename=f"rows.{format}")
    assert (status, job.state, job.progress.share) == (202, "queued", 0.0)
    worked_off(worker)
    done = one(served, job)
    assert (done.state, done.rows_refused, done.error) == ("done", 0, None)
    assert done.progress.model_dump() == {
        "rows_done": 120, "rows_total": 120, "chunks_done": 5, "chunks_total": 5, "share": 1.0,
    }  # fmt: skip
    assert done.created_at <= done.started_at <= done.ended_at
    direct = served.post("/predict", content=data, headers={"Content-Type": TYPES[format]}).json()["predictions"]
    for kind in READ:
        found = result(served, job, kind)
        assert found["row"].to_list() == list(range(2, 122))
        assert found["store"].to_list() == [answer["store"] for answer in direct]
        for name, values in (
            ("prediction", [answer["prediction"] for answer in direct]),
            ("low_80", [answer["interval"]["80"][0] for answer in direct]),
            ("high_95", [answer["interval"]["95"][1] for answer in direct]),
        ):
            assert found[name].to_list() == pytest.approx(values, abs=1e-6)
        assert found["similar_days"].to_list() == [answer["support"]["similar_days"] for answer in direct]
        assert found["model_version"].cast(pl.String).unique().to_list() == [done.model.version]
    history = served.get("/historical-predictions", params={"source": "job", "limit": 1000}).json()["items"]
    mine = [item for item in history if item["request_id"] == job.job_id]
    assert len(mine) == 120
    by_key = {(a["store"], a["product"], a["date"]): a for a in direct}
    for item in mine:
        answer = by_key[item["store"], item["product"], item["date"]]
        assert item["prediction"] == pytest.approx(answer["prediction"], abs=1e-6)
        assert item["inputs"] == answer["inputs"]
        assert item["interval"]["95"] == pytest.approx(answer["interval"]["95"], abs=1e-6)


def test_refused_rows_are_listed_with_row_column_code_and_reason(served, worker, many):
    good = as_file(frame_of(many, 3.125).head(4)).decode().splitlines()
    late = str(dt.date.fromisoformat(many[0]["date"]) + dt.timedelta(days=1000))
    store, product = many[0]["store"], many[0]["product"]
    lines = [*good[:2], f"soon,{store},{product},3.125,0", "", *good[2:4]]
    lines += [f"{late},{store},{product},3.125,0", f"{many[0]['date']},{store},{product},-1,0", good[4]]
    _, job = asked(served, ("\n".join(lines) + "\n").encode())
    early = served.get(f"/v1/jobs/{job.job_id}/rejected")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    worked_off(worker)
    done = one(served, job)
    assert (done.state, done.rows_refused, done.progress.rows_done) == ("done", 3, 4)
    assert result(served, job)["row"].to_list() == [2, 5, 6, 9]
    for format in ("csv", "xlsx"):
        reply = served.get(f"/v1/jobs/{job.job_id}/rejected", params={"format": format})
        found = READ[format](io.BytesIO(reply.content))
        assert found.select(pl.col("row").cast(pl.Int64), "column", "code").rows() == [
            (3, "date", "date_invalid"),
            (7, "date", "too_far_ahead"),
            (8, "price", "price_not_positive"),
        ]
        assert all(found["reason"])
        assert found["store"].to_list() == [store] * 3


def test_a_file_without_a_usable_row_is_done_with_nothing(served, worker):
    _, job = asked(served, b"date,store,product\nnever,S01,P001\n")
    worked_off(worker)
    done = one(served, job)
    assert (done.state, done.rows_refused, done.progress.rows_total) == ("done", 1, 0)
    reply = served.get(f"/v1/jobs/{job.job_id}/result")
    assert reply.status_code == 409
    assert "rejected" in reply.json()["detail"]


def test_a_file_that_is_no_table_fails_with_its_reason_and_may_be_sent_again(served, worker):
    data = b"%PDF-1.7 no table"
    _, job = asked(served, data)
    worked_off(worker)
    failed = one(served, job)
    assert (failed.state, failed.error_code) == ("failed", "input")
    assert "PDF" in failed.error
    for what in ("result", "rejected"):
        reply = served.get(f"/v1/jobs/{job.job_id}/{what}")
        assert reply.status_code == 409
        assert "PDF" in reply.json()["detail"]
    status, again = asked(served, data)
    assert (status, again.job_id == job.job_id) == (202, False)
    served.http.delete(f"/v1/jobs/{again.job_id}")


def test_the_same_file_for_the_same_versions_is_the_same_job(served, worker, many):
    data = as_file(frame_of(many, 4.5).head(10))
    _, first = asked(served, data)
    status, again = asked(served, data, filename="another name.csv")
    assert (status, again.job_id) == (200, first.job_id)
    other_model, challenger = asked(served, data, model="challenger")
    assert (other_model, challenger.model.version, challenger.model.alias) == (202, "2", "challenger")
    worked_off(worker)
    assert asked(served, data)[1].state == "done"
    assert result(served, challenger)["model_version"].unique().to_list() == [2]


def test_two_who_ask_at_once_get_one_job(served, worker, many):
    data = as_file(frame_of(many, 4.75).head(10))
    found = []
    threads = [threading.Thread(target=lambda: found.append(asked(served, data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.job_id for _, job in found}) == 1
    assert sorted(status for status, _ in found) == [200] * 7 + [202]
    worked_off(worker)
    files = [key for key in served.services.lake.list("jobs/") if "/file/" in key]
    assert len({key.split("/")[1] for key in files} - {job.job_id for job in served.services.board.jobs(1000)}) == 0


def test_a_stored_upload_is_read_as_it_was_told(served, worker, many):
    frame = frame_of(many, 5.25).head(6).rename({"price": "a", "date": "Fecha"})
    made = served.post("/v1/uploads", params={"filename": "x.csv", "purpose": "predict"}, content=as_file(frame)).json()
    mapping = {"roles": {"date": "Fecha", "store": "store", "product": "product", "price": "a"}}
    served.post(f"/v1/uploads/{made['upload_id']}/check", json={"mapping": mapping})
    reply = served.post("/v1/jobs", params={"upload_id": made["upload_id"]})
    assert reply.status_code == 202
    assert served.post("/v1/jobs", params={"upload_id": made["upload_id"]}).status_code == 200
    worked_off(worker)
    done = one(served, Job.model_validate(reply.json()))
    assert (done.state, done.upload_id, done.filename) == ("done", made["upload_id"], "x.csv")
    assert result(served, done)["price"].to_list() == [5.25] * 6
    assert served.post("/v1/jobs", params={"upload_id": "0" * 32}).status_code == 404


def test_what_waits_is_cancelled_at_once_and_may_be_asked_for_again(served, worker, many):
    data = as_file(frame_of(many, 6.5).head(10))
    _, job = asked(served, data)
    gone = served.http.delete(f"/v1/jobs/{job.job_id}")
    assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
    again = served.http.delete(f"/v1/jobs/{job.job_id}")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    worked_off(worker)
    assert logged_rows(served, job) == []
    reply = served.get(f"/v1/jobs/{job.job_id}/result")
    assert reply.status_code == 409
    assert "cancelled" in reply.json()["detail"]
    status, second = asked(served, data)
    assert (status, second.job_id == job.job_id) == (202, False)
    worked_off(worker)
    assert one(served, second).state == "done"


def test_a_job_that_is_worked_on_ends_after_its_present_chunk(served, worker, many, small_chunks, monkeypatch):
    _, job = asked(served, as_file(frame_of(many, 6.75).head(196)))
    write = jobwork.JobWork._write

    def written(self, number, found):
        if number == 1:
            told = served.http.delete(f"/v1/jobs/{job.job_id}").json()
            assert (told["state"], told["cancelling"]) == ("running", True)
        write(self, number, found)

    monkeypatch.setattr(jobwork.JobWork, "_write", written)
    worked_off(worker)
    ended = one(served, job)
    assert (ended.state, ended.cancelling) == ("cancelled", True)
    assert ended.progress.chunks_done < 6
    assert len(logged_rows(served, job)) == ended.progress.rows_done == 25 * ended.progress.chunks_done


def test_a_worker_that_is_told_to_end_leaves_the_rest_to_the_next(served, trained, many, small_chunks, monkeypatch):
    _, job = asked(served, as_file(frame_of(many, 7.5).head(100)))
    first, second = Worker(trained), Worker(trained)
    write = jobwork.JobWork._write

    def written(self, number, found):
        write(self, number, found)
        first.stop()

    monkeypatch.setattr(jobwork.JobWork, "_write", written)
    first.run()
    left = one(served, job)
    assert left.state == "queued"
    assert 0 < left.progress.chunks_done < 4
    worked_off(second)
    assert one(served, job).state == "done"
    assert len(logged_rows(served, job)) == 100
    second.store.close()


def test_a_worker_that_lost_its_job_writes_nothing(served, trained, worker, many, small_chunks, monkeypatch):
    """It slept longer than its lease; meanwhile another one has done the job."""
    _, job = asked(served, as_file(frame_of(many, 7.75).head(60)))
    slow = Worker(trained, lease=0.0)
    claim = slow.board.claim(slow.name, 0.0)
    work = jobwork.JobWork(claim, slow._model(claim), slow.board, slow.lake)
    chunks = work._chunks()
    worked_off(worker)
    assert one(served, job).state == "done"
    with pytest.raises(JobLost):
        work._write(0, work._forecast(chunks[0]))
    with pytest.raises(JobLost):
        slow.board.finish(claim)
    assert len(logged_rows(served, job)) == 60
    slow.store.close()


def test_two_workers_on_several_jobs_write_each_row_once(served, trained, many, small_chunks):
    frames = [frame_of(many, 8 + number / 16).head(110) for number in range(6)]
    jobs = [asked(served, as_file(frame))[1] for frame in frames]
    workers = [Worker(trained), Worker(trained)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    served.wait_for(lambda: all(not one(served, job).active for job in jobs), seconds=120)
    queue = JobBoard(served.services.store).queue()
    for worker, thread in zip(workers, threads, strict=True):
        worker.stop()
        thread.join()
    assert queue.workers == 2
    for frame, job in zip(frames, jobs, strict=True):
        assert one(served, job).state == "done"
        wanted = sorted(frame.select("store", "product", "date").rows())
        assert [row[:3] for row in logged_rows(served, job)] == wanted
        assert sorted(result(served, job, "parquet").select("store", "product", "date").rows()) == wanted


def test_what_is_away_is_waited_for_and_said(served, worker, many, monkeypatch):
    _, job = asked(served, as_file(frame_of(many, 9.5).head(5)))

    def away(key):
        raise ServiceDown("object store", "refused")

    with monkeypatch.context() as patch:
        patch.setattr(worker.lake, "get", away)
        assert worker.work_once()
    waits = one(served, job)
    assert (waits.state, waits.error_code) == ("queued", "service_down")
    assert "object store" in waits.error
    assert not worker.work_once()  # not before its time
    with served.services.store.begin() as connection:
        connection.execute(sa.text("UPDATE jobs SET lease_until = now() WHERE job_id = :id"), {"id": job.job_id})
    worked_off(worker)
    assert (one(served, job).state, one(served, job).error) == ("done", None)


def test_a_file_that_kills_its_workers_is_given_up(served, worker, many):
    _, job = asked(served, as_file(frame_of(many, 9.75).head(5)))
    for _ in range(10):
        assert worker.board.claim(f"killed-{time.monotonic_ns()}", 0.0).job_id == job.job_id
    worked_off(worker)
    given_up = one(served, job)
    assert given_up.state == "failed"
    assert "without finishing a chunk" in given_up.error


def test_series_are_never_cut_where_closed_days_tell_and_the_result_is_in_the_order_of_the_file(
    served, worker, many, small_chunks, monkeypatch
):
    monkeypatch.setattr(jobwork.JobWork, "_whole_series", True)
    frame = frame_of(many, 10.5).sample(120, seed=2, shuffle=True)
    _, job = asked(served, as_file(frame))
    seen = []
    monkeypatch.setattr(jobwork.JobBoard, "note_file", lambda *_, **__: None)
    worked_off(worker)
    found = result(served, job, "parquet")
    assert found["row"].to_list() == list(range(2, 122))
    assert found.select("date", "store", "product").equals(frame.select("date", "store", "product"))
    keys = served.services.lake.list(f"jobs/{job.job_id}/parts/")
    for key in keys:
        seen += served.services.lake.get_frame(key).select("store", "product").unique().rows()
    assert len(keys) > 1
    assert len(seen) == len(set(seen))


def test_text_that_looks_like_a_formula_stays_text(served, worker, many):
    frame = frame_of(many, 11.5).head(2).with_columns(product=pl.Series(["=1+1", "+SUM(A1)"]))
    _, job = asked(served, as_file(frame, "parquet"), "parquet")
    worked_off(worker)
    for format in ("csv", "xlsx"):
        assert result(served, job, format)["product"].to_list() == ["'=1+1", "'+SUM(A1)"]
    assert result(served, job, "parquet")["product"].to_list() == ["=1+1", "+SUM(A1)"]


def test_more_rows_than_a_sheet_holds_are_refused_as_xlsx_only(served, worker, many, monkeypatch):
    _, job = asked(served, as_file(frame_of(many, 12.5).head(3)))
    worked_off(worker)
    monkeypatch.setattr(jobfiles, "EXCEL_ROWS", 2)
    reply = served.get(f"/v1/jobs/{job.job_id}/result", params={"format": "xlsx"})
    assert reply.status_code == 422
    assert "csv or parquet" in reply.json()["detail"]
    assert result(served, job, "csv").height == 3


def test_files_that_are_let_go_are_said_to_be(served, worker, many):
    _, job = asked(served, as_file(frame_of(many, 13.5).head(3)))
    worked_off(worker)
    for key in served.services.lake.list(f"jobs/{job.job_id}/"):
        served.services.lake.delete(key)
    for what in ("result", "rejected"):
        reply = served.get(f"/v1/jobs/{job.job_id}/{what}")
        assert (reply.status_code, reply.json()["code"]) == (410, "retired")


def test_a_file_over_the_limit_is_cut_off(served):
    reply = served.post("/v1/jobs", content=b"x" * 3_000_000, headers={"Content-Type": "text/csv"})
    assert reply.status_code == 413


@pytest.mark.parametrize("how", [
    {"content": b"{}", "headers": {"Content-Type": "application/json"}},
    {"content": b""},
    {"files": {"file": ("x.csv", b"date\n2026-01-01\n")}},
    {"content": b"date\n", "params": {"model": "best"}},
    {"params": {"upload_id": "../x"}},
])  # fmt: skip
def test_what_is_no_file_is_refused(served, how):
    assert served.post("/v1/jobs", **how).status_code == 422


def test_a_job_that_is_not_there(served):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/rejected")):
        assert served.http.request(method, f"/v1/jobs/{'0' * 32}{path}").status_code == 404


def test_jobs_are_listed_newest_first(served, worker, many):
    made = [asked(served, as_file(frame_of(many, 14 + n / 8).head(2)))[1].job_id for n in range(3)]
    items = served.get("/v1/jobs", params={"limit": 3}).json()["items"]
    assert [item["job_id"] for item in items] == made[::-1]
    worked_off(worker)


def test_how_many_wait_and_whether_a_worker_lives_is_in_health_and_metrics(served, trained, many):
    worker = Worker(trained, lease=1.0)
    _, job = asked(served, as_file(frame_of(many, 15.5).head(2)))
    text = served.get("/metrics").text
    assert 'control_room_jobs{state="queued"} 1.0' in text
    thread = threading.Thread(target=worker.run)
    thread.start()

    def part():
        return next(part for part in served.get("/health").json()["parts"] if part["name"] == "worker")

    served.wait_for(lambda: part()["state"] == "ok" and not one(served, job).active)
    assert probes.beats(trained.data_dir)()
    worker.stop()
    thread.join()
    served.wait_for(lambda: part()["state"] == "down")
    assert "0 waiting" in part()["detail"]
    assert "control_room_workers 0.0" in served.get("/metrics").text


def test_the_client_speaks_the_same(served, worker, many):
    client = ApiClient(str(served.http.base_url))
    frame = frame_of(many, 16.5).head(4)
    made = client.make_job(as_file(frame), "csv", filename="four.csv")
    assert client.make_job(as_file(frame), "csv").job_id == made.job_id
    with pytest.raises(Conflict):
        client.job_result(made.job_id)
    worked_off(worker)
    assert client.job(made.job_id) == client.jobs(limit=1)[0]
    assert client.job(made.job_id).state == "done"
    assert pl.read_parquet(io.BytesIO(client.job_result(made.job_id, "parquet"))).height == 4
    assert pl.read_csv(io.BytesIO(client.job_rejected(made.job_id))).height == 0
    with pytest.raises(Conflict):
        client.cancel_job(made.job_id)
    upload = client.send("rows.csv", as_file(frame_of(many, 16.75).head(4)), "predict")
    again = client.make_job_of_upload(upload.upload_id)
    assert client.cancel_job(again.job_id).state == "cancelled"
