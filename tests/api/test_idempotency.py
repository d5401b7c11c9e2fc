"""A request under an Idempotency-Key is done once, whatever happens to its answers."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml.errors import InProgress
from ml.idempotency import LEASE, Claim, Idempotency, KeptAnswer, requests


def new_key():
    return f"order-{uuid.uuid4()}"


@pytest.fixture
def kept(served):
    return Idempotency(served.services.store)


def logged(served, request_id):
    page = served.get("/historical-predictions", params={"limit": 200}).json()["items"]
    return [item for item in page if item["request_id"] == request_id]


def test_the_same_key_and_body_get_the_same_answer_and_one_row_in_the_log(served, row):
    headers = {"Idempotency-Key": new_key()}
    first = served.post("/predict", json=row, headers=headers)
    again = served.post("/predict", json=row, headers={**headers, "X-Request-ID": "another"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert len(logged(served, first.json()["request_id"])) == 1
    assert logged(served, "another") == []


def test_another_body_or_address_under_the_same_key_is_refused(served, row):
    headers = {"Idempotency-Key": new_key()}
    assert served.post("/predict", json=row, headers=headers).status_code == 200
    for path, body in (("/predict", {**row, "price": 2.5}), ("/v1/predict", row), ("/predict?source=x", row)):
        reply = served.post(path, json=body, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (422, "key_reused")


def test_keys_of_different_callers_are_different_keys(served, row, kept):
    key = new_key()
    assert kept.claim(Claim("one", key, "f")) is None
    assert kept.claim(Claim("another", key, "g")) is None


def test_a_refusal_is_an_answer_too(served):
    headers = {"Idempotency-Key": new_key()}
    first = served.post("/predict", json={"date": "never"}, headers=headers)
    again = served.post("/predict", json={"date": "never"}, headers=headers)
    assert first.status_code == again.status_code == 422
    assert again.headers["content-type"] == "application/problem+json"
    assert again.json() == first.json()


def test_what_failed_here_may_be_tried_again(bare):
    headers = {"Idempotency-Key": new_key()}
    for _ in range(2):  # no champion
        reply = bare.post("/predict", json={"date": "2026-01-05"}, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (503, "no_champion")
        assert "idempotency-replayed" not in reply.headers


def test_many_at_once_are_one(served, row):
    headers = {"Idempotency-Key": new_key()}
    together = threading.Barrier(8)

    def ask(_):
        together.wait()
        return served.post("/predict", json=row, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(8)))
    answered = [reply for reply in replies if reply.status_code == 200]
    assert {reply.status_code for reply in replies} <= {200, 409}
    assert {reply.json()["code"] for reply in replies if reply.status_code == 409} <= {"in_progress"}
    assert len({reply.json()["request_id"] for reply in answered}) == 1
    assert len(logged(served, answered[0].json()["request_id"])) == 1


def test_a_claim_whose_process_was_killed_is_taken_over_after_its_lease(served, kept):
    claim = Claim("somebody", new_key(), "f")
    assert kept.claim(claim) is None
    with pytest.raises(InProgress):
        kept.claim(claim)
    aged(served, claim, LEASE)
    assert kept.claim(claim) is None


def test_after_a_day_a_key_is_free_again(served, kept):
    claim = Claim("somebody", new_key(), "f")
    kept.claim(claim)
    kept.finish(claim, KeptAnswer(200, {}, b"{}"))
    assert kept.claim(claim) == KeptAnswer(200, {}, b"{}")
    aged(served, claim, dt.timedelta(days=1))
    assert kept.claim(Claim(claim.caller, claim.key, "another")) is None
    aged(served, claim, dt.timedelta(days=1))
    assert kept.forget_old() >= 1


def aged(served, claim, by):
    with served.services.store.begin() as connection:
        earlier = requests.c.claimed_at - by - dt.timedelta(seconds=1)
        connection.execute(requests.update().where(claim.mine).values(claimed_at=earlier))


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_a_key_that_is_none_is_refused(served, row, key):
    reply = served.post("/predict", json=row, headers=[("Idempotency-Key", key.encode())])
    assert reply.status_code == 422
    assert "Idempotency-Key" in reply.json()["detail"]


def test_what_holds_a_secret_is_not_kept(served):
    reply = served.post("/v1/keys", json={"name": "x", "role": "viewer"}, headers={"Idempotency-Key": new_key()})
    assert reply.status_code == 422
    assert "secret" in reply.json()["detail"]


def test_while_the_database_is_away_nothing_is_promised(serve, make_settings):
    away = make_settings(database_url="postgresql://nobody@127.0.0.1:9/none")
    with serve(away) as api:
        reply = api.post("/predict", json={"date": "2026-01-05"}, headers={"Idempotency-Key": new_key()})
    assert (reply.status_code, reply.json()["code"]) == (503, "service_down")
