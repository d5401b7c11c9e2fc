"""Predictions: one row, many rows, or a file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.auth import needs
from api.deps import ModelName, ServicesDep, Source
from api.errors import RowsRefused, request_id_of
from api.explaining import explained, refuse_many
from api.filerows import SUFFIXES, read_file
from api.loading import Loaded
from api.openapi import PREDICT
from api.reading import PREDICT_LIMIT, read_body
from api.rows import Form, Input, instances
from api.scoring import Parts, written
from api.services import Services
from api.strict import parse
from ml.errors import InputError
from ml.records import LEVELS, RowError

router = APIRouter(tags=["predictions"])
LARGE = 4096  # bytes of a body whose rows are worth a try by columns
WHY = {"base", "contributions", "sentence", "drivers"}  # beside what an answer has anyway
Levels = Annotated[
    str, Query(pattern=r"^(80|95)(,(80|95))?$", description="Which intervals to send: `80`, `95` or both.")
]


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the rows."""

    loaded: Loaded
    source: str
    request_id: str
    levels: tuple[str, ...]
    explain: bool

    @property
    def plain(self) -> bool:
        """Whether answers are sent as they are logged."""
        return not self.explain and self._all_levels

    @property
    def _all_levels(self) -> bool:
        return set(self.levels) == {str(level) for level in LEVELS}

    async def answers(self, services: Services, rows: list[Input]) -> list[Parts]:
        """In the log with both levels, and as they were asked for."""
        if self.explain:
            refuse_many(len(rows))
        answers = await services.scorer.score(self.loaded, rows, self.source, self.request_id)
        if not self._all_levels:
            answers = [{**a, "interval": {level: a["interval"][level] for level in self.levels}} for a in answers]
        if not self.explain:
            return answers
        told = await asyncio.to_thread(explained, self.loaded, list(rows))
        reasons = (item.model_dump(include=WHY) for item in told.explanations)
        return [answer | why for answer, why in zip(answers, reasons, strict=True)]


@router.post("/predict", dependencies=needs("planner"), summary="Predict one row, many rows or a file", **PREDICT)
@router.post("/v1/predict", dependencies=needs("planner"), include_in_schema=False)
async def predict(
    request: Request,
    services: ServicesDep,
    model: ModelName = "champion",
    source: Source = "api",
    levels: Levels = "80,95",
    explain: Annotated[bool, Query(description="Say why, in contributions that add up; at most 500 rows.")] = False,
) -> Response:
    """One object is answered by one answer; `{"instances": [...]}`, CSV, XLSX and Parquet (at most 5,000 rows) by
    `{"predictions": [...]}` in the order of the rows. A row that cannot be used gets `{"error": {row, field, code,
    message}}` in its place and does not keep the others from their answers; `row` counts from 1, in a file as a person
    sees it there (the header is row 1). Every answer is written down before it is sent; whoever asks for the history
    afterwards finds it there. With `explain=true` it also
    has `base`, `contributions`, `sentence` and `drivers`, as `/v1/explain` gives them."""
    loaded = await loaded_model(services, model)
    wanted = Wanted(loaded, source, request_id_of(request), tuple(levels.split(",")), explain)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    body = await read_body(request, PREDICT_LIMIT)
    if kind in SUFFIXES:
        return await _many(services, wanted, await asyncio.to_thread(read_file, loaded, body, SUFFIXES[kind]))
    if kind not in ("application/json", "text/json", "application/x-www-form-urlencoded"):
        raise InputError(f"The Content-Type is not one of application/json, {', '.join(SUFFIXES)}.")
    if len(body) > LARGE and wanted.plain:
        told = await services.scorer.score_columns(loaded, body, source, wanted.request_id)
        if told is not None:
            return Response(told, media_type="application/json")
    unchecked, form = parse(body), Form.of(loaded)
    rows = instances(unchecked)
    if rows is None:
        return await _one(services, wanted, form.read(1, unchecked))
    return await _many(services, wanted, [form.read(i, row) for i, row in enumerate(rows, 1)])


async def loaded_model(services: Services, model: str) -> Loaded:
    if model == "champion":
        return services.champion.require()
    return await asyncio.to_thread(services.champion.get, model)


async def _one(services: Services, wanted: Wanted, row: Input | RowError) -> Response:
    if isinstance(row, RowError):
        raise RowsRefused(row.message, [row])
    (answer,) = await wanted.answers(services, [row])
    return Response(written(answer), media_type="application/json")


async def _many(services: Services, wanted: Wanted, rows: list[Input | RowError]) -> Response:
    good = [row for row in rows if not isinstance(row, RowError)]
    following = iter(await wanted.answers(services, good) if good else [])
    parts = [{"error": row.model_dump()} if isinstance(row, RowError) else next(following) for row in rows]
    return Response(await asyncio.to_thread(written, {"predictions": parts}), media_type="application/json")
