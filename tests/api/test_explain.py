"""Why, over HTTP: explanations add up to what /predict says of the same rows."""

from __future__ import annotations

import json

import pytest

from ml.records import ExplainedAnswer, ExplainReply, Explanation, RowError


def explain(served, body, status=200, **query):
    reply = served.post("/v1/explain", json=body, params=query)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_one_row_is_explained_in_units_that_add_up(served, row):
    (told,) = ExplainReply.model_validate(explain(served, row)).explanations
    assert isinstance(told, Explanation)
    said = served.post("/predict", json=row).json()
    assert told.prediction == pytest.approx(said["prediction"], rel=1e-9)
    assert told.base + sum(c.units for c in told.contributions) == pytest.approx(told.prediction, rel=1e-6)
    assert {"price", "promotion", "weekday", "season", "trend", "level"} <= {c.group for c in told.contributions}
    assert "other" not in {c.group for c in told.contributions}
    sizes = [abs(c.units) for c in told.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert set(told.drivers) <= set(told.contributions)
    assert len(told.drivers) <= 3
    assert (told.unit, told.model.version) == ("units/day", "1")


def test_many_rows_keep_their_order_and_errors_their_places(served, many):
    rows = [many[0], {**many[1], "price": -1}, many[60]]
    first, wrong, last = ExplainReply.model_validate(explain(served, {"instances": rows})).explanations
    assert isinstance(wrong, RowError)
    assert (wrong.row, wrong.field) == (2, "price")
    for told, asked in ((first, rows[0]), (last, rows[2])):
        assert (told.store, told.product, str(told.date)) == (asked["store"], asked["product"], asked["date"])


def test_only_wrong_rows_are_answered_row_by_row(served, row):
    (wrong,) = explain(served, {"instances": [{**row, "date": "soon"}]})["explanations"]
    assert wrong["code"] == "not_a_date"


def test_one_wrong_row_too_many_rows_and_an_unknown_model_are_refused(served, row):
    assert explain(served, {**row, "date": None}, 422)["errors"][0]["field"] == "date"
    assert explain(served, {"instances": [row] * 501}, 413)["code"] == "too_large"
    assert explain(served, row, 404, model="99")["code"] == "not_found"


def test_explaining_leaves_no_trace_in_the_history(served, row):
    count = len(served.get("/historical-predictions", params={"limit": 1000}).json()["items"])
    explain(served, row)
    assert len(served.get("/historical-predictions", params={"limit": 1000}).json()["items"]) == count


def test_support_counts_siblings_and_names_what_lies_outside(served, row):
    odd = served.post("/predict", json={**row, "price": 9999}).json()
    assert odd["support"] == {"similar_days": 0, "level": "none", "similar_sibling_days": 0, "outside": ["price"]}
    assert {"price_outside", "no_similar_days"} <= set(odd["warnings"])


def test_predict_says_why_when_asked(served, row):
    body = {"instances": [row, {**row, "price": -1}, {**row, "promotion": 0}]}
    reply = served.post("/predict", json=body, params={"explain": "true"}).json()["predictions"]
    assert reply[1]["error"]["field"] == "price"
    for answer in (reply[0], reply[2]):
        made = ExplainedAnswer.model_validate_json(json.dumps(answer))
        assert made.base + sum(c.units for c in made.contributions) == pytest.approx(made.prediction, rel=1e-5)
    alone = served.post("/predict", json=row, params={"explain": "true"}).json()
    assert alone["contributions"] == reply[0]["contributions"]
    assert "contributions" not in served.post("/predict", json=row).json()


def test_predict_explains_no_more_rows_than_explain_does(served, row):
    reply = served.post("/predict", json={"instances": [row] * 501}, params={"explain": "true"})
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(("levels", "sent"), [("80", {"80"}), ("95", {"95"}), ("95,80", {"80", "95"})])
def test_intervals_are_sent_at_the_asked_levels_and_logged_at_both(served, row, levels, sent):
    answer = served.post("/predict", json=row, params={"levels": levels}).json()
    assert set(answer["interval"]) == sent
    (logged, *_) = served.get("/historical-predictions", params={"limit": 1}).json()["items"]
    assert logged["request_id"] == answer["request_id"]
    assert set(logged["interval"]) == {"80", "95"}
    assert served.post("/predict", json=row, params={"levels": "50"}).status_code == 422
