"""The same predictions in two protocols that other software speaks: MLflow's scoring server and Open Inference.

Rows are read by the same form, answered by the same model and logged like those of ``/predict``. These protocols know
no errors of single rows: one row that cannot be used refuses the request, and every such row is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from api import __version__
from api.auth import needs
from api.deps import ChampionDep, ServicesDep
from api.errors import RowsRefused, request_id_of
from api.loading import Loaded
from api.openapi import INFER, INVOCATIONS
from api.reading import PREDICT_LIMIT, read_body
from api.rows import Form, refuse_many
from api.scoring import Parts
from api.services import Services
from api.strict import parse, refuse_bad
from ml.errors import InputError
from ml.records import LEVELS, MODEL_NAME, RowError

router = APIRouter(tags=["other protocols"])
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
OUTPUTS = ("prediction", *(f"{side}_{level}" for level in LEVELS for side in ("low", "high")))
ModelOnly = Annotated[Literal["sales"], Path(description="There is one.")]
Table = Sequence[Any]


# ---------------------------------------------------------------- MLflow's scoring server


@router.get("/ping", summary="A model is loaded (MLflow)", response_class=PlainTextResponse)
async def ping(champion: ChampionDep) -> str:
    """503 until a champion can answer."""
    champion.require()
    return "\n"


@router.get(
    "/version", summary="Version of the API (MLflow)", response_class=PlainTextResponse, dependencies=needs("viewer")
)
async def version() -> str:
    return __version__


@router.post("/invocations", summary="Predict in MLflow's form", dependencies=needs("planner"), **INVOCATIONS)
async def invocations(request: Request, services: ServicesDep) -> dict[str, list[float]]:
    """`dataframe_split`, `dataframe_records`, `instances` or `inputs` (lists by column), answered by
    `{"predictions": [...]}` in the order of the rows."""
    loaded = services.champion.require()
    rows = invoked(parse(await read_body(request, PREDICT_LIMIT)))
    answers = await _answers(services, loaded, rows, "mlflow", request)
    return {"predictions": [answer["prediction"] for answer in answers]}


def invoked(unchecked: Any) -> Table:
    """The rows of a body in one of MLflow's forms; raises InputError."""
    if not isinstance(unchecked, dict) or len(unchecked) != 1 or next(iter(unchecked)) not in FORMS:
        raise InputError(f"The body is an object with one of {', '.join(FORMS)}, and nothing beside it.")
    ((form, value),) = unchecked.items()
    if form == "dataframe_split":
        return _split(value)
    if form == "inputs":
        return _columns(value)
    if not isinstance(value, list) or not value:
        raise InputError(f"{form} must be a list of at least one row.", field=form)
    return value


def _split(value: Any) -> Table:
    if not isinstance(value, dict) or not {"columns", "data"} <= set(value) <= {"columns", "data", "index"}:
        raise InputError(
            "dataframe_split holds columns and data (and index, which is not read).", field="dataframe_split"
        )
    columns, data = value["columns"], value["data"]
    refuse_bad(columns, "columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise InputError("columns must be a list of names.", field="columns")
    if len(set(columns)) != len(columns):
        raise InputError("A column stands twice.", field="columns")
    if not isinstance(data, list) or not data or not all(isinstance(r, list) and len(r) == len(columns) for r in data):
        raise InputError(f"data must be lists of {len(columns)} values, one for each column.", field="data")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _columns(value: Any) -> Table:
    if not isinstance(value, dict) or not value or not all(isinstance(v, list) for v in value.values()):
        raise InputError("inputs must hold a list of values for each column.", field="inputs")
    if len({len(values) for values in value.values()}) != 1 or not next(iter(value.values())):
        raise InputError("All columns of inputs need as many values, and at least one.", field="inputs")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


# ---------------------------------------------------------------- Open Inference Protocol


class ServerFacts(BaseModel):
    name: str = "sales-control-room"
    version: str = __version__
    extensions: list[str] = []


class TensorFacts(BaseModel):
    name: str
    datatype: Literal["BYTES", "FP64", "INT64"]
    shape: list[int] = [-1]


class ModelFacts(BaseModel):
    name: str
    versions: list[str]
    platform: str = "sales-control-room"
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class OutputTensor(BaseModel):
    name: str
    shape: list[int]
    datatype: Literal["FP64"] = "FP64"
    data: list[float]


class Inferred(BaseModel):
    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


@router.get("/v2", summary="The server (Open Inference)", dependencies=needs("viewer"))
async def server() -> ServerFacts:
    return ServerFacts()


@router.get("/v2/health/live", summary="The process answers (Open Inference)")
async def live() -> dict[str, bool]:
    return {"live": True}


@router.get("/v2/health/ready", summary="A model is loaded (Open Inference)")
async def ready(champion: ChampionDep) -> dict[str, bool]:
    """503 until a champion can answer."""
    champion.require()
    return {"ready": True}


@router.get("/v2/models/{model_name}/ready", summary="The model answers (Open Inference)", dependencies=needs("viewer"))
async def model_ready(model_name: ModelOnly, champion: ChampionDep) -> dict[str, bool]:
    champion.require()
    return {"ready": True}


@router.get("/v2/models/{model_name}", summary="The model's columns (Open Inference)", dependencies=needs("viewer"))
async def model_facts(model_name: ModelOnly, champion: ChampionDep) -> ModelFacts:
    loaded = champion.require()
    form = Form.of(loaded)
    texts = {"date", "store", "product", *form.texts}
    inputs = [TensorFacts(name=name, datatype="BYTES" if name in texts else "FP64") for name in form.names]
    outputs = [TensorFacts(name=name, datatype="FP64") for name in OUTPUTS]
    return ModelFacts(name=MODEL_NAME, versions=[loaded.ref.version], inputs=inputs, outputs=outputs)


@router.post(
    "/v2/models/{model_name}/infer", summary="Predict in Open Inference's form", dependencies=needs("planner"), **INFER
)
async def infer(request: Request, services: ServicesDep, model_name: ModelOnly) -> Inferred:
    """One input per column, each of shape `[n]` or `[n, 1]`; answered by the point forecast and its bounds."""
    loaded = services.champion.require()
    rows = inferred(parse(await read_body(request, PREDICT_LIMIT)))
    answers = await _answers(services, loaded, rows, "open_inference", request)
    bounds = {f"{side}_{level}": (str(level), k) for level in LEVELS for k, side in enumerate(("low", "high"))}
    columns = {"prediction": [answer["prediction"] for answer in answers]}
    columns |= {name: [answer["interval"][level][k] for answer in answers] for name, (level, k) in bounds.items()}
    return Inferred(
        model_name=MODEL_NAME,
        model_version=loaded.ref.version,
        id=request_id_of(request),
        outputs=[OutputTensor(name=name, shape=[len(answers)], data=columns[name]) for name in OUTPUTS],
    )


def inferred(unchecked: Any) -> Table:
    """The rows of an Open Inference request; raises InputError."""
    if not isinstance(unchecked, dict) or not isinstance(unchecked.get("inputs"), list) or not unchecked["inputs"]:
        raise InputError("The body holds inputs: a list with one tensor for each column.", field="inputs")
    columns: dict[str, list[Any]] = {}
    for tensor in unchecked["inputs"]:
        name, data = _tensor(tensor)
        if name in columns:
            raise InputError("A column stands twice.", field="inputs")
        columns[name] = data
    return _columns(columns)


def _tensor(tensor: Any) -> tuple[str, list[Any]]:
    if not isinstance(tensor, dict) or not {"name", "shape", "datatype", "data"} <= set(tensor):
        raise InputError("Each input has name, shape, datatype and data.", field="inputs")
    name, shape, data = tensor["name"], tensor["shape"], tensor["data"]
    refuse_bad([name, shape], "inputs")
    if not isinstance(name, str) or not isinstance(data, list):
        raise InputError("The name of an input is a text and its data a list.", field="inputs")
    flat = [item for row in data for item in (row if isinstance(row, list) else [row])]
    if shape not in ([len(flat)], [len(flat), 1]):
        raise InputError(
            f"The shape of each input is [n] or [n, 1] with n values in data: {len(flat)} here.", field="shape"
        )
    return name, flat


# ---------------------------------------------------------------- both


async def _answers(services: Services, loaded: Loaded, rows: Table, source: str, request: Request) -> Sequence[Parts]:
    refuse_many(len(rows))
    form = Form.of(loaded)
    read = [form.read(number, row) for number, row in enumerate(rows, 1)]
    if errors := [row for row in read if isinstance(row, RowError)]:
        raise RowsRefused(f"Row {errors[0].row}: {errors[0].message}", errors)
    good = [row for row in read if not isinstance(row, RowError)]
    return await services.scorer.score(loaded, good, source, request_id_of(request))
