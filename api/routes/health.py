"""How it is: always answered, by what is known."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from api import __version__
from api.auth import needs
from api.champion import Champion
from api.deps import ChampionDep, ServicesDep
from api.metrics import TEXT
from api.spool import Spool
from ml.records import Health, PartHealth, PartState

router = APIRouter(tags=["health"])


@router.get("/health", summary="The whole and its parts")
def health(services: ServicesDep) -> Health:
    """Answers 200 whatever is away: `status` is `down` without the database (history, uploads and runs need it),
    `degraded` when something else is missing, and each part says since when and why. Predictions are answered all the
    same by a loaded champion: while the database is away, they wait on the disk (`prediction log`)."""
    champion, snapshot = services.champion, services.published.current
    own = (PartHealth(name="api", state="ok", checked_at=_now()), _champion_part(champion), _log_part(services.spool))
    parts = (*own, *services.parts.now())
    loaded = champion.current
    return Health(
        status=_status(parts),
        version=__version__,
        champion=loaded.ref if loaded else None,
        data_version=loaded.data_version if loaded else snapshot.snapshot.data_version if snapshot else None,
        data_until=loaded.forecaster.origin if loaded else snapshot.snapshot.date_to if snapshot else None,
        parity=loaded.parity if loaded else None,
        parts=parts,
    )


@router.get("/livez", summary="The process answers")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", summary="A verified champion is loaded")
async def readyz(champion: ChampionDep) -> dict[str, str]:
    """503 until a champion can answer."""
    return {"status": "ok", "version": champion.require().ref.version}


@router.get("/metrics", dependencies=needs("viewer"), summary="For Prometheus", response_class=PlainTextResponse)
def metrics(services: ServicesDep) -> Response:
    """Requests and times by route, rows predicted by version, the model that answers with its parity, the parts."""
    return Response(services.metrics.text(), media_type=TEXT)


def _champion_part(champion: Champion) -> PartHealth:
    if champion.current is None:
        return PartHealth(name="champion", state="absent", checked_at=_now(), detail=champion.error or "none yet")
    since = f"version {champion.current.ref.version} since {champion.current.since:%Y-%m-%d %H:%M:%S} UTC"
    state: PartState = "degraded" if champion.error else "ok"
    detail = f"{since}; {champion.error}" if champion.error else since
    return PartHealth(name="champion", state=state, checked_at=_now(), detail=detail)


def _log_part(spool: Spool) -> PartHealth:
    """Answers are on the disk for a moment in any case: only what the database did not take is said."""
    behind = spool.behind
    detail = f"{spool.waiting()} batches of answers wait on the disk for the database" if behind else ""
    return PartHealth(name="prediction log", state="degraded" if behind else "ok", checked_at=_now(), detail=detail)


def _status(parts: tuple[PartHealth, ...]) -> Literal["ok", "degraded", "down"]:
    if any(part.name == "database" and part.state == "down" for part in parts):
        return "down"
    return "ok" if all(part.state == "ok" for part in parts) else "degraded"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
