"""The OpenAPI document: bodies that we read ourselves, examples, and ``python -m api.openapi`` which writes it down."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.examples import add_examples
from api.idempotency import BY_CONTENT, CHANGING, holds_secret
from ml.records import Answer, ExplainedAnswer, ExplainReply, ForecastReply, ForecastRequest, RowError

if TYPE_CHECKING:
    from fastapi import FastAPI

UNSEEN: list[type[BaseModel]] = [Answer, ExplainedAnswer, ExplainReply, ForecastReply, ForecastRequest, RowError]
COMMITTED = Path(__file__).resolve().parent.parent / "openapi.json"
REFS = "#/components/schemas/{model}"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"
BINARY = {"schema": {"type": "string", "format": "binary"}}

DESCRIPTION = """Forecasts of sales per store and product, with intervals, and everything around them.

Errors are problem documents (RFC 9457): `code` is stable, `errors` names row and field, and what was sent is never
repeated. 503 answers carry `Retry-After`. With a key set, send it as `X-API-Key` or `Authorization: Bearer`.

What changes something may be sent with an `Idempotency-Key`: sent again under the same key, it is answered for a day by
the answer of the first time, and not done again."""
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and request: the same answer. Another request: 422. Still worked on: 409.",
    "schema": {"type": "string", "pattern": '^"?[!#-~]{1,255}"?$'},
}


def body_with(content: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The part of a route's declaration that describes a body which we read ourselves."""
    return {"openapi_extra": {"requestBody": {"required": required, "content": content}}}


ROW = {"store": "S01", "product": "P001", "date": "2026-01-05", "price": 9.99, "promotion": 1}
ANSWER = {
    "date": "2026-01-05",
    "store": "S01",
    "product": "P001",
    "prediction": 21.7,
    "unit": "units/day",
    "interval": {"80": [16.0, 27.9], "95": [12.8, 32.5]},
    "support": {"similar_days": 28, "level": "ok", "similar_sibling_days": 203, "outside": []},
    "inputs": {"price": 9.99, "promotion": 1.0, "holiday": 0},
    "model": {"name": "sales", "version": "8", "alias": "champion", "run_id": "5f0c1a"},
    "data_version": "0d9f2c41",
    "request_id": "1f6c2a",
    "created_at": "2026-01-04T10:42:11Z",
    "warnings": [],
}
ROW_ERROR = {"row": 2, "field": "price", "code": "out_of_range", "message": "price must be above 0."}

ROW_SCHEMA = {
    "type": "object",
    "required": ["date"],
    "description": "The model's regressors stand beside these, under their own names. Spanish names too: "
    "fecha, tienda, producto, precio, promocion (promociones), festivo.",
    "properties": {
        "date": {"type": "string", "format": "date"},
        "store": {"type": ["string", "null"], "description": "May be left out when the data has one store."},
        "product": {"type": ["string", "null"], "description": "May be left out when the data has one product."},
        "price": {"type": ["number", "null"], "exclusiveMinimum": 0, "description": "Left out: the last known one."},
        "promotion": {"type": ["number", "boolean", "null"], "minimum": 0, "maximum": 1},
        "holiday": {"type": ["integer", "boolean", "null"], "minimum": 0, "maximum": 1},
    },
    "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail", "instance", "code", "request_id")},
        "status": {"type": "integer"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/RowError"}},
    },
}
PREDICT: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/Row"},
                            {
                                "type": "object",
                                "required": ["instances"],
                                "additionalProperties": False,
                                "properties": {
                                    "instances": {
                                        "type": "array",
                                        "minItems": 1,
                                        "maxItems": 5000,
                                        "items": {"$ref": "#/components/schemas/Row"},
                                    }
                                },
                            },
                        ]
                    },
                    "examples": {
                        "one": {"summary": "One row", "value": ROW},
                        "several": {"summary": "Several rows", "value": {"instances": [ROW, {**ROW, "promotion": 0}]}},
                        "spanish": {
                            "summary": "Spanish names",
                            "value": {"tienda": "S01", "producto": "P001", "fecha": "2026-01-05", "precio": 9.99},
                        },
                    },
                },
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "date,store,product,price\n2026-01-05,S01,P001,9.99\n",
                },
                XLSX: BINARY,
                PARQUET: BINARY,
            },
        }
    },
    "responses": {
        200: {
            "description": "One answer, or one per row in the order of the rows",
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/Answer"},
                            {"$ref": "#/components/schemas/ExplainedAnswer"},
                            {
                                "type": "object",
                                "required": ["predictions"],
                                "properties": {
                                    "predictions": {
                                        "type": "array",
                                        "items": {
                                            "anyOf": [
                                                {"$ref": "#/components/schemas/Answer"},
                                                {"$ref": "#/components/schemas/ExplainedAnswer"},
                                                {
                                                    "type": "object",
                                                    "required": ["error"],
                                                    "properties": {"error": {"$ref": "#/components/schemas/RowError"}},
                                                },
                                            ]
                                        },
                                    }
                                },
                            },
                        ]
                    },
                    "examples": {
                        "one": {"value": ANSWER},
                        "several": {"value": {"predictions": [ANSWER, {"error": ROW_ERROR}]}},
                    },
                }
            },
        }
    },
}
SPLIT = {"columns": list(ROW), "data": [list(ROW.values())]}
INVOCATIONS = body_with(
    {
        "application/json": {
            "schema": {"type": "object", "minProperties": 1, "maxProperties": 1},
            "examples": {
                "records": {"value": {"dataframe_records": [ROW]}},
                "split": {"value": {"dataframe_split": SPLIT}},
                "inputs": {"value": {"inputs": {name: [value] for name, value in ROW.items()}}},
            },
        }
    }
)
TENSORS = [
    {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
    for name, value in ROW.items()
]
INFER = body_with(
    {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {"inputs": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
            },
            "example": {"inputs": TENSORS},
        }
    }
)
JSON = "application/json"
ROWS_BODY = body_with({JSON: PREDICT["openapi_extra"]["requestBody"]["content"][JSON]})
UPLOAD = body_with({"application/octet-stream": BINARY, "text/csv": BINARY}, required=False)  # nothing: an empty file

JOB_ANSWER = {
    "job_id": "6f1f0c2e8d7b4a5c9e3d2b1a0f9e8d7c",
    "state": "running",
    "filename": "next-month.csv",
    "bytes": 48211034,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "upload_id": None,
    "model": ANSWER["model"],
    "data_version": ANSWER["data_version"],
    "created_at": "2026-01-04T10:42:11Z",
    "created_by": "Cash registers",
    "started_at": "2026-01-04T10:42:12Z",
    "ended_at": None,
    "cancelling": False,
    "progress": {"rows_done": 250000, "rows_total": 999988, "chunks_done": 10, "chunks_total": 40, "share": 0.25},
    "rows_refused": 12,
    "error_code": None,
    "error": None,
}
JOB: dict[str, Any] = body_with(
    {
        "text/csv": {**BINARY, "example": PREDICT["openapi_extra"]["requestBody"]["content"]["text/csv"]["example"]},
        XLSX: BINARY,
        PARQUET: BINARY,
    },
    required=False,
) | {
    "responses": {
        202: {"description": "Put into the queue", "content": {JSON: {"example": JOB_ANSWER}}},
        200: {
            "description": "Known already: the same file for the same versions",
            "content": {JSON: {"schema": {"$ref": REFS.format(model="Job")}, "example": JOB_ANSWER}},
        },
    }
}


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The part of a route's declaration that describes a body read by :func:`api.strict.body_of`."""
    schema = {"$ref": REFS.format(model=model.__name__)}
    return body_with({JSON: {"schema": schema}}, required=required)


def reply(model: type[BaseModel]) -> dict[str, Any]:
    """The same for an answer that is written straight to bytes."""
    schema = {"$ref": REFS.format(model=model.__name__)}
    return {"responses": {200: {"description": "Done", "content": {"application/json": {"schema": schema}}}}}


def document(app: FastAPI, models: list[type[BaseModel]]) -> dict[str, Any]:
    """The document of the app, with the models that FastAPI does not see and the one shape of all errors."""
    made = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    wanted: list[type[BaseModel]] = [
        Answer,
        ExplainedAnswer,
        ExplainReply,
        ForecastReply,
        ForecastRequest,
        RowError,
        *models,
    ]
    _, definitions = models_json_schema([(m, "validation") for m in wanted], ref_template=REFS)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in {**definitions["$defs"], "Row": ROW_SCHEMA, "Problem": PROBLEM}.items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    made["security"] = [{}, {"key": []}, {"bearer": []}]
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _describe_errors(operation["responses"])
            if method.upper() in CHANGING and path not in BY_CONTENT and not holds_secret(path):
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    add_examples(made)
    return made


def _describe_errors(responses: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses.pop("422", None)
    responses["default"] = {"description": "A problem document", "content": problem}


def as_text(app: FastAPI) -> str:
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    """Write ``openapi.json`` at the root of the project."""
    from api.main import create_app
    from ml.settings import Settings

    COMMITTED.write_text(as_text(create_app(Settings.model_validate({}))))
    print(f"wrote {COMMITTED.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
