"""Retrain or wait."""

from __future__ import annotations

from fastapi import APIRouter

from api.advising import advice as advised
from api.auth import needs
from api.deps import ServicesDep
from ml.records import Advice

router = APIRouter(prefix="/v1", tags=["runs"])


@router.get("/advice", dependencies=needs("viewer"), summary="Retrain now, or wait?")
def advice(services: ServicesDep) -> Advice:
    """Weighs new rows, drift, age, and live against expected accuracy; says what is in the way of a retraining.
    `unknown` names the parts that did not answer: their facts are left out."""
    return advised(services)
