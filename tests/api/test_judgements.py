"""Actual sales that are told by hand, and numbers in the place of forecasts."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room.clients.api import ApiClient
from ml.records import NewJudgement

ACTUAL = {"date": "2026-01-05", "store": "told", "product": "P1", "sales": 4}
JUDGED = {"date": "2026-01-05", "store": "S1", "product": "P1", "units": 30, "reason": "fair in town"}


def test_actuals_judge_predictions_at_once_and_again_change_nothing(served, row):
    made = served.post("/predict", json=row).json()
    key = {"date": made["date"], "store": made["store"], "product": made["product"]}
    for changed, sales in ((1, 7), (0, 7), (1, 8)):
        reply = served.http.put("/v1/actuals", json={"rows": [{**key, "sales": sales}]})
        assert (reply.status_code, reply.json()) == (200, {"rows": 1, "changed": changed})
    items = served.get("/historical-predictions").json()["items"]
    judged = next(item for item in items if item["request_id"] == made["request_id"])
    assert judged["actual"] == 8
    assert judged["error"] == pytest.approx(made["prediction"] - 8)


@pytest.mark.parametrize(
    ("field", "value"),
    [("sales", -1), ("sales", "4"), ("sales", None), ("date", "5.1.2026"), ("store", ""), ("product", 7)],
)
def test_actuals_are_taken_all_or_not_at_all(served, field, value):
    good = {**ACTUAL, "store": "all or none"}
    reply = served.http.put("/v1/actuals", json={"rows": [good, {**ACTUAL, field: value}]})
    assert reply.status_code == 422
    error = reply.json()["errors"][0]
    assert (error["row"], error["field"]) == (2, f"rows.{field}")
    assert served.http.put("/v1/actuals", json={"rows": [good]}).json()["changed"] in (0, 1)


def test_nothing_of_a_refused_body_was_taken(served):
    good = {**ACTUAL, "store": "never taken before"}
    served.http.put("/v1/actuals", json={"rows": [good, {**good, "sales": -1}]})
    assert served.http.put("/v1/actuals", json={"rows": [good]}).json() == {"rows": 1, "changed": 1}


def test_no_rows_too_many_and_numbers_that_are_none_are_refused(served):
    for body in ('{"rows": []}', '{"rows": [{"date": "2026-01-05", "store": "a", "product": "b", "sales": NaN}]}'):
        assert served.http.put("/v1/actuals", content=body).status_code == 422
    assert served.http.put("/v1/actuals", json={"rows": [ACTUAL] * 5001}).status_code == 422


def test_an_override_stands_beside_the_forecast_until_it_is_taken_back(served):
    first = served.http.put("/v1/overrides", json=JUDGED).json()
    assert (first["units"], first["made_by"]) == (30, "this machine")
    again = served.http.put("/v1/overrides", json=JUDGED).json()
    assert again["override_id"] == first["override_id"]
    changed = served.http.put("/v1/overrides", json={**JUDGED, "units": 25}).json()
    assert changed["override_id"] > first["override_id"]
    where = {"store": "S1", "product": "P1", "from": "2026-01-05", "to": "2026-01-05"}
    assert [item["units"] for item in served.get("/v1/overrides", params=where).json()["items"]] == [25]
    served.http.put("/v1/overrides", json={**JUDGED, "units": None, "reason": "rain"})
    assert served.get("/v1/overrides", params=where).json()["items"] == []


def test_overrides_are_found_by_day_and_series(served):
    for day, store in ((1, "A"), (2, "A"), (3, "B")):
        body = {**JUDGED, "date": str(dt.date(2027, 3, day)), "store": store}
        assert served.http.put("/v1/overrides", json=body).status_code == 200
    found = served.get("/v1/overrides", params={"from": "2027-03-01", "to": "2027-03-02"}).json()["items"]
    assert [(item["date"], item["store"]) for item in found] == [("2027-03-02", "A"), ("2027-03-01", "A")]
    assert len(served.get("/v1/overrides", params={"store": "B"}).json()["items"]) == 1


@pytest.mark.parametrize("change", [{"reason": ""}, {"units": -1}, {"units": "5"}, {"by": "me"}, {"date": 5}])
def test_an_override_that_is_none_is_refused(served, change):
    assert served.http.put("/v1/overrides", json={**JUDGED, **change}).status_code == 422


def test_the_client_does_the_same(served):
    client = ApiClient(served.url)
    rows = [{"date": dt.date(2026, 2, day), "store": "client", "product": "P", "sales": day} for day in (1, 2)]
    assert (client.put_actuals(rows), client.put_actuals(rows)) == (2, 0)
    asked = NewJudgement(date=dt.date(2027, 2, 1), store="client", product="P", units=3.5, reason="known better")
    made = client.put_override(asked)
    assert client.overrides({"store": "client", "from": "2027-02-01"}) == (made,)
