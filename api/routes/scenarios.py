"""What-ifs that people keep."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from api.auth import needs
from api.comparing import compared
from api.deps import ModelName, ServicesDep, StoreDep
from api.openapi import json_body
from api.strict import body_of
from ml.records import PlanDifferences, Scenario, ScenarioPlan
from ml.scenarios import Scenarios

router = APIRouter(prefix="/v1", tags=["scenarios"])

ScenarioId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{8,64}$", description="Chosen by whoever keeps it first.")]
Plan = Annotated[ScenarioPlan, body_of(ScenarioPlan)]


class ScenarioList(BaseModel):
    items: list[Scenario]


@router.get("/scenarios", dependencies=needs("viewer"), summary="The scenarios, last changed first")
def scenarios(store: StoreDep, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> ScenarioList:
    return ScenarioList(items=Scenarios(store).all(limit))


@router.get("/scenarios/{scenario_id}", dependencies=needs("viewer"), summary="One scenario")
def scenario(store: StoreDep, scenario_id: ScenarioId) -> Scenario:
    """The plan, not its numbers: ask `/predict` for them, so that they are those of the present model."""
    return Scenarios(store).find(scenario_id)


@router.put(
    "/scenarios/{scenario_id}", dependencies=needs("planner"), summary="Keep a scenario", **json_body(ScenarioPlan)
)
def keep(request: Request, store: StoreDep, scenario_id: ScenarioId, plan: Plan) -> Scenario:
    """Under an id of the caller's; keeping it again replaces its plan."""
    return Scenarios(store).keep(scenario_id, plan, request.scope["caller"].name)


@router.delete("/scenarios/{scenario_id}", dependencies=needs("planner"), status_code=204, summary="Forget a scenario")
def delete(store: StoreDep, scenario_id: ScenarioId) -> None:
    Scenarios(store).delete(scenario_id)


@router.post(
    "/differences",
    dependencies=needs("viewer"),
    summary="What each variant of a plan sells beside the first",
    **json_body(ScenarioPlan),
)
def differences(services: ServicesDep, plan: Plan, model: ModelName = "champion") -> PlanDifferences:
    """With the interval of the difference: the same day's error is shared by both plans and mostly cancels, how well
    the effect of price and promotion is known follows from the similar days in history. Nothing is logged."""
    return compared(services.champion.get(model), plan)
