"""Each operation of the OpenAPI document has examples, and they work: sent as they stand, with ids that are there."""

from __future__ import annotations

import json
import os

import pytest

from api.examples import BY_HAND, CSV, PARAMETERS, RECORDED, recorded, short
from api.main import create_app
from api.worker import Worker
from ml.settings import load_settings

AIRFLOW = {"POST /v1/etl", "POST /v1/retrain", "GET /v1/runs/{dag_id}", "GET /v1/runs/{dag_id}/{run_id}",
           "GET /v1/runs/process_etl_sales_data/{run_id}/rejected",
           "DELETE /v1/runs/process_etl_sales_data/{run_id}", "DELETE /v1/runs/retrain_sales_model/{run_id}",
           "PUT /v1/pipelines/process_etl_sales_data/paused", "PUT /v1/pipelines/retrain_sales_model/paused",
           }  # fmt: skip
FOR_THE_CONSOLE = {"POST /v1/sessions", "POST /v1/sessions/identity"}
CONFLICTS = {
    "POST /v1/models/rollback",  # version 1 is the first champion
    "POST /v1/models/{version}/promote",  # and is it already
    "POST /v1/models/{version}/reject",  # nor can it be refused
    "POST /v1/uploads/{upload_id}/check",  # the upload is accepted
    "DELETE /v1/jobs/{job_id}",  # the job has ended
    "DELETE /v1/sessions/current",  # this machine has not signed in
    "PUT /v1/me/password",
}
SHOWN = {"application/json": lambda reply: short(reply.json()), "text/plain": lambda reply: reply.text[:300]}
DOCUMENT = create_app(load_settings({})).openapi()
OPERATIONS = {f"{method.upper()} {path}": o for path, ops in DOCUMENT["paths"].items() for method, o in ops.items()}


def test_every_parameter_body_and_answer_has_one():
    for name, operation in OPERATIONS.items():
        needed = [p for p in operation.get("parameters", []) if p["required"]]
        assert all("example" in p or "enum" in p["schema"] for p in needed), name
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            if kind in ("application/json", "text/csv"):
                assert example_of(content) is not None, (name, kind)
        answers = [c for r in operation["responses"].values() for c in r.get("content", {}).values()]
        nothing = "204" in operation["responses"] or name.endswith(("/rejected", "/result", "/template"))
        assert nothing or any({"example", "examples"} & set(content) for content in answers), name


def example_of(content):
    if "example" in content:
        return content["example"]
    if "examples" in content:
        return next(iter(content["examples"].values()))["value"]
    return filled(content.get("schema", {}))


def filled(schema):
    """The first example of each property, as Swagger UI shows them."""
    found = DOCUMENT["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    given = {name: p["examples"][0] for name, p in found.get("properties", {}).items() if "examples" in p}
    return given if set(found.get("required", [])) <= set(given) and found else None


@pytest.fixture(scope="module")
def ids(alone):
    """Real ones for the parameters: something of each kind is made."""
    upload = alone.post("/v1/uploads", params={"filename": "sales.csv"}, content=CSV.encode()).json()
    catalog = alone.get("/v1/catalog").json()
    row = {**catalog["series"][0], "date": catalog["date_to"]}
    asked = f"date,store,product\n{row['date']},{row['store']},{row['product']}\n"
    job = alone.post("/v1/jobs", content=asked.encode(), headers={"Content-Type": "text/csv"}).json()
    worker = Worker(alone.services.settings)
    assert worker.work_once()
    worker.store.close()
    key = alone.post("/v1/keys", json={"name": "x", "role": "viewer"}).json()
    person = alone.post("/v1/accounts", json={"name": "somebody", "role": "viewer"}).json()
    hook = {"url": "http://127.0.0.1:9/", "events": ["data.accepted"]}
    webhook = alone.post("/v1/webhooks", json=hook).json()
    alone.post(f"/v1/uploads/{upload['upload_id']}/accept")
    alone.services.teller.look()
    predicted = alone.post("/predict", json={k: row[k] for k in ("date", "store", "product")}).json()
    items = alone.get("/historical-predictions").json()["items"]
    number = next(item["prediction_id"] for item in items if item["request_id"] == predicted["request_id"])
    return PARAMETERS | {
        "upload_id": upload["upload_id"],
        "job_id": job["job_id"],
        "key_id": key["key"]["key_id"],
        "account_id": person["account"]["account_id"],
        "webhook_id": webhook["webhook"]["webhook_id"],
        "event_id": f"upload-{upload['upload_id']}",
        "prediction_id": number,
    }


def sent(alone, name, ids):
    method, path = name.split(" ")
    operation = OPERATIONS[name]
    query = {p["name"]: ids[p["name"]] for p in operation.get("parameters", []) if p["in"] == "query" and p["required"]}
    how = {"params": query}
    bodies = operation.get("requestBody", {}).get("content", {})
    if "application/json" in bodies:
        how["json"] = example_of(bodies["application/json"])
    elif "text/csv" in bodies:
        how |= {"content": example_of(bodies["text/csv"]).encode(), "headers": {"Content-Type": "text/csv"}}
    return alone.http.request(method, path.format(**ids), **how)


def test_every_example_works_and_its_answer_is_as_shown(alone, ids):
    found = {}
    for name in sorted(set(OPERATIONS) - AIRFLOW, key=lambda n: (n.startswith("DELETE"), not n.startswith("PUT"), n)):
        reply = sent(alone, name, ids)
        if name in FOR_THE_CONSOLE:
            assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), reply.text
            continue
        if name in CONFLICTS:
            assert (reply.status_code, reply.json()["code"]) == (409, "conflict"), reply.text
            continue
        assert reply.is_success, (name, reply.text)
        kind = reply.headers.get("content-type", "").partition(";")[0]
        if reply.content and kind in SHOWN:
            found[name] = {"status": str(reply.status_code), "type": kind, "answer": SHOWN[kind](reply)}
    if os.environ.get("RECORD"):
        RECORDED.write_text(json.dumps(found | BY_HAND, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        recorded.cache_clear()
    shown = {name: (recorded()[name]["status"], shape(recorded()[name]["answer"])) for name in found}
    assert shown == {name: (now["status"], shape(now["answer"])) for name, now in found.items()}


def shape(answer):
    """The names of the fields, which do not depend on when it was asked."""
    return sorted(answer) if isinstance(answer, dict) else type(answer).__name__


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_what_is_written_by_hand_is_of_the_shape_it_has(name):
    (status,) = (r for r in OPERATIONS[name]["responses"] if r.startswith("2"))
    reference = OPERATIONS[name]["responses"][status]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[
        2
    ]
    properties = DOCUMENT["components"]["schemas"][reference]["properties"]
    assert set(BY_HAND[name]["answer"]) == set(properties)
