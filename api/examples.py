"""An example for each operation of the OpenAPI document: of its parameters, of its body, and of an answer.

The answers in ``examples.json`` are the demo's own. With ``RECORD=1`` set, ``pytest tests/api/test_examples.py`` writes
them anew; without it the same test sends every example and compares the shapes.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("examples.json")
MOST_ITEMS = 2  # of each list in a recorded answer

PARAMETERS: dict[str, Any] = {
    "version": "1",
    "model": "1",
    "prediction_id": 1,
    "upload_id": "8f14e45fceea167a5a36dedd4bea2543",
    "job_id": "c9f0f895fb98ab9159f51fd0297e236d",
    "scenario_id": "45c48cce2e2d7fbdea1afc51c7c6ad26",
    "key_id": "1a2b3c4d5e6f",
    "account_id": "5e6f1a2b3c4d",
    "webhook_id": "6f5e4d3c2b1a",
    "event_id": "promotion-1",
    "dag_id": "retrain_sales_model",
    "run_id": "manual__2026-01-04T10-42-11Z_1a2b3c",
    "model_name": "sales",
    "filename": "sales.csv",
}
CHANGE = {"reason": "Better in each of the last four weeks", "actor": "ana@shop.example"}
PLAN: dict[str, Any] = {
    "name": "Ten per cent off in the first week",
    "store": "S01",
    "product": "P001",
    "date_from": "2026-01-05",
    "periods": 14,
    "variants": [
        {"name": "As planned", "days": []},
        {"name": "Ten per cent off", "days": [{"date": "2026-01-05", "price": 8.99, "promotion": 1}]},
    ],
}
BODIES: dict[str, Any] = {
    "PUT /v1/actuals": {"rows": [{"date": "2026-01-05", "store": "S01", "product": "P001", "sales": 21}]},
    "PUT /v1/overrides": {
        "date": "2026-01-05",
        "store": "S01",
        "product": "P001",
        "units": 30,
        "reason": "The fair is in town",
    },
    "PUT /v1/scenarios/{scenario_id}": PLAN,
    "POST /v1/differences": PLAN | {"store": "Madrid Centro", "product": "BAK-01 Country bread"},
    "POST /v1/models/rollback": CHANGE,
    "POST /v1/models/{version}/promote": CHANGE,
    "PATCH /v1/accounts/{account_id}": {"role": "analyst"},
    "PUT /v1/accounts/{account_id}/password": {"password": "three words and more"},
    "PUT /v1/me/password": {"present": "three words and more", "new": "quite another sentence"},
    "POST /v1/sessions": {"name": "ana", "password": "three words and more", "address": "192.0.2.7"},
    "POST /v1/sessions/identity": {
        "issuer": "https://id.example",
        "subject": "248289761001",
        "name": "ana@shop.example",
        "role": "planner",
        "address": "192.0.2.7",
    },
    "PUT /v1/pipelines/process_etl_sales_data/paused": {"paused": True},
    "PUT /v1/pipelines/retrain_sales_model/paused": {"paused": True},
    "POST /v1/models/{version}/reject": CHANGE,
}
_RUN: dict[str, Any] = {
    "dag_id": "retrain_sales_model",
    "run_id": "manual__2026-01-04T10-42-11Z_1a2b3c",
    "state": "running",
    "started_at": "2026-01-04T10:42:12Z",
    "ended_at": None,
    "conf": {},
    "tasks": [],
    "progress": None,
}
_PROMOTION: dict[str, Any] = {
    "promotion_id": 7,
    "at": "2026-01-04T10:42:12Z",
    "action": "promote",
    "version": "8",
    "previous": "7",
    **CHANGE,
    "decision": None,
}
_ETL_RUN = {**_RUN, "dag_id": "process_etl_sales_data"}
_SESSION: dict[str, Any] = {
    "token": "scs_0a1b2c3d4e5f_…",
    "account": {
        "account_id": "5e6f1a2b3c4d",
        "name": "ana",
        "kind": "local",
        "role": "planner",
        "created_at": "2026-01-04T10:42:12Z",
        "created_by": "command line",
        "changed_at": "2026-01-04T10:42:12Z",
        "changed_by": "command line",
        "disabled_at": None,
        "last_sign_in_at": "2026-01-05T08:00:00Z",
    },
    "expires_at": "2026-01-05T20:00:00Z",
}


def _paused(dag_id: str) -> dict[str, Any]:
    return {"dag_id": dag_id, "paused": True, "schedule": None, "next_run_at": None}


def _json(status: str, answer: Any) -> dict[str, Any]:
    return {"status": status, "type": "application/json", "answer": answer}


BY_HAND: dict[str, Any] = {
    "POST /v1/etl": _json("202", _ETL_RUN),
    "POST /v1/retrain": _json("202", _RUN),
    "GET /v1/runs/{dag_id}": _json("200", {"items": [_RUN]}),
    "GET /v1/runs/{dag_id}/{run_id}": _json("200", _RUN),
    "POST /v1/models/{version}/promote": _json("200", _PROMOTION),
    "POST /v1/models/{version}/reject": _json("200", {**_PROMOTION, "action": "reject"}),
    "POST /v1/models/rollback": _json("200", {**_PROMOTION, "action": "rollback", "version": "7", "previous": "8"}),
    "DELETE /v1/runs/process_etl_sales_data/{run_id}": _json("200", {**_ETL_RUN, "state": "failed"}),
    "DELETE /v1/runs/retrain_sales_model/{run_id}": _json("200", {**_RUN, "state": "failed"}),
    "PUT /v1/pipelines/process_etl_sales_data/paused": _json("200", _paused("process_etl_sales_data")),
    "PUT /v1/pipelines/retrain_sales_model/paused": _json("200", _paused("retrain_sales_model")),
    "POST /v1/sessions": _json("201", _SESSION),
    "POST /v1/sessions/identity": _json("201", _SESSION),
}  # what needs Airflow or the console's key, or moves the champion
ALIKE = {
    "DELETE /v1/jobs/{job_id}": "GET /v1/jobs/{job_id}",
    "POST /v1/uploads/{upload_id}/check": "GET /v1/uploads/{upload_id}",
}  # answered by the same record
CSV = "date,store,product,sales,price,promotion\n2026-01-05,S01,P001,21,9.99,0\n"


def add_examples(document: dict[str, Any]) -> None:
    """Put an example beside each parameter that has to be given, each JSON or CSV body, and each answer."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", []):
                if parameter["required"] and parameter["name"] in PARAMETERS:
                    parameter["example"] = PARAMETERS[parameter["name"]]
            _of_body(name, operation.get("requestBody", {}).get("content", {}))
            _of_answer(name, operation["responses"])


def _of_body(name: str, content: dict[str, Any]) -> None:
    if name in BODIES:
        content["application/json"]["example"] = BODIES[name]
    if "text/csv" in content and not {"example", "examples"} & set(content["text/csv"]):
        content["text/csv"]["example"] = CSV


def _of_answer(name: str, responses: dict[str, Any]) -> None:
    found = recorded().get(ALIKE.get(name, name))
    if found is not None:
        response = responses.setdefault(found["status"], {"description": "Done"})
        content = response.setdefault("content", {}).setdefault(found["type"], {})
        if "examples" not in content:
            content.setdefault("example", found["answer"])


@cache
def recorded() -> dict[str, Any]:
    """By operation: ``status``, ``type`` and ``answer``."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def short(answer: Any) -> Any:
    """An answer with few items in each list.

    Examples
    --------
    >>> short({"items": [{"a": [1, 2, 3]}, 2, 3]})
    {'items': [{'a': [1, 2]}, 2]}
    """
    if isinstance(answer, dict):
        return {key: short(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [short(item) for item in answer[:MOST_ITEMS]]
    return answer
