"""MLflow's scoring protocol and Open Inference give what ``/predict`` gives, and refuse what it refuses."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def wanted(served, row):
    reply = served.post("/predict", json={"instances": [row, {**row, "promotion": 0}]})
    return reply.json()["predictions"]


@pytest.fixture
def rows(row):
    return [row, {**row, "promotion": 0}]


def forms(rows):
    frame = pd.DataFrame(rows)
    return {
        "records": {"dataframe_records": rows},
        "split": {"dataframe_split": frame.to_dict(orient="split")},
        "instances": {"instances": rows},
        "inputs": {"inputs": frame.to_dict(orient="list")},
    }


def tensors(rows):
    return [
        {
            "name": name,
            "shape": [len(rows)],
            "datatype": "BYTES" if isinstance(rows[0][name], str) else "FP64",
            "data": [row[name] for row in rows],
        }
        for name in rows[0]
    ]


@pytest.mark.parametrize("form", ["records", "split", "instances", "inputs"])
def test_each_form_of_mlflow_gives_the_predictions_in_order(served, rows, wanted, form):
    reply = served.post("/invocations", json=forms(rows)[form])
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"predictions": [answer["prediction"] for answer in wanted]}


def test_open_inference_gives_the_prediction_and_its_bounds(served, rows, wanted):
    reply = served.post("/v2/models/sales/infer", json={"inputs": tensors(rows)}, headers={"X-Request-ID": "tensors"})
    assert reply.status_code == 200, reply.text
    found = reply.json()
    outputs = {tensor["name"]: tensor for tensor in found["outputs"]}
    assert (found["model_name"], found["model_version"], found["id"]) == ("sales", "1", "tensors")
    assert outputs["prediction"]["data"] == [answer["prediction"] for answer in wanted]
    assert outputs["low_80"]["data"] == [answer["interval"]["80"][0] for answer in wanted]
    assert outputs["high_95"]["data"] == [answer["interval"]["95"][1] for answer in wanted]
    assert all(tensor["shape"] == [2] for tensor in found["outputs"])


def test_both_are_in_the_history_under_their_names(served, row):
    for path, body, source in (
        ("/invocations", {"instances": [row]}, "mlflow"),
        ("/v2/models/sales/infer", {"inputs": tensors([row])}, "open_inference"),
    ):
        served.post(path, json=body, headers={"X-Request-ID": f"from-{source}"})
        items = served.get("/historical-predictions", params={"source": source}).json()["items"]
        assert f"from-{source}" in {item["request_id"] for item in items}


def test_the_model_says_which_columns_it_takes(served):
    facts = served.get("/v2/models/sales").json()
    inputs = {tensor["name"]: tensor["datatype"] for tensor in facts["inputs"]}
    assert {"date": "BYTES", "store": "BYTES", "price": "FP64"}.items() <= inputs.items()
    assert facts["versions"] == ["1"]
    assert served.get("/v2/models/other").status_code == 422


def test_probes_say_yes_with_a_champion_and_no_without(served, bare):
    for path in ("/ping", "/v2/health/ready"):
        assert served.get(path).status_code == 200
        assert bare.get(path).status_code == 503
    assert served.get("/v2/health/live").json() == {"live": True}
    assert served.get("/v2/models/sales/ready").status_code == 200
    assert served.get("/version").text == served.get("/health").json()["version"]
    assert served.get("/v2").json()["name"] == "sales-control-room"


@pytest.mark.parametrize("spoil", [
    lambda rows: {"dataframe_records": []},
    lambda rows: {"dataframe_records": rows, "params": {}},
    lambda rows: {"dataframe_records": rows[0]},
    lambda rows: {"dataframe_split": {"columns": ["date"], "data": [["2026-01-05", 1]]}},
    lambda rows: {"dataframe_split": {"columns": ["date", "date"], "data": [["2026-01-05", "2026-01-05"]]}},
    lambda rows: {"dataframe_split": {"columns": "date", "data": []}},
    lambda rows: {"inputs": {"date": ["2026-01-05"], "store": []}},
    lambda rows: {"inputs": {}},
    lambda rows: {"rows": rows},
    lambda rows: rows,
])  # fmt: skip
def test_what_is_no_table_is_refused(served, rows, spoil):
    reply = served.post("/invocations", json=spoil(rows))
    assert (reply.status_code, reply.json()["code"]) == (422, "input")


@pytest.mark.parametrize("spoil", [
    lambda one: {"inputs": []},
    lambda one: {"inputs": [one[0], one[0]]},
    lambda one: {"inputs": [{**one[0], "shape": [7]}]},
    lambda one: {"inputs": [{**one[0], "name": 7}]},
    lambda one: {"inputs": [{"name": "date"}]},
    lambda one: {},
    lambda one: [],
])  # fmt: skip
def test_what_are_no_tensors_is_refused(served, row, spoil):
    reply = served.post("/v2/models/sales/infer", json=spoil(tensors([row])))
    assert (reply.status_code, reply.json()["code"]) == (422, "input")


def test_one_bad_row_refuses_all_and_every_bad_one_is_named(served, row):
    reply = served.post("/invocations", json={"instances": [row, {**row, "price": -1}, {**row, "promotion": "2"}]})
    problem = reply.json()
    assert reply.status_code == 422
    assert [(error["row"], error["field"]) for error in problem["errors"]] == [(2, "price"), (3, "promotion")]
    raw = served.post("/invocations", content='{"instances": [{"date": NaN}]}')
    assert (raw.status_code, raw.json()["errors"][0]["field"]) == (422, "date")
    assert served.post("/invocations", json={"instances": [row] * 5001}).status_code == 413
