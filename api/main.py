"""The application: ``uvicorn --factory api.main:create_app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from api import __version__, errors
from api.guard import Guard
from api.idempotency import IdempotencyKeys
from api.openapi import document
from api.routes import (
    accounts,
    accuracy,
    advice,
    alerts,
    audit,
    compat,
    data,
    data_health,
    explain,
    forecast,
    health,
    history,
    jobs,
    judgements,
    keys,
    limits,
    models,
    predict,
    runs,
    scenarios,
    uploads,
    webhooks,
)
from api.services import Services
from api.shortcut import Shortcut
from ml import logs
from ml.records import NewJudgement, ScenarioPlan
from ml.settings import Settings, load_settings

ROUTERS = (
    health,
    predict,
    explain,
    history,
    forecast,
    jobs,
    data,
    uploads,
    runs,
    models,
    advice,
    scenarios,
    accuracy,
    alerts,
    data_health,
    judgements,
    keys,
    accounts,
    audit,
    limits,
    webhooks,
    compat,
)
BODIES: list[type[BaseModel]] = [
    models.Change,
    models.Refusal,
    runs.RunRequest,
    runs.Paused,
    uploads.Reading,
    keys.KeyRequest,
    webhooks.WebhookRequest,
    judgements.ActualRows,
    NewJudgement,
    ScenarioPlan,
    accounts.AccountRequest,
    accounts.AccountChange,
    accounts.PasswordReset,
    accounts.PasswordChange,
    accounts.SignIn,
    accounts.Vouched,
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API with the given settings (from the environment when left out); it connects to nothing before it starts."""
    chosen = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(chosen.log_format)
        services = app.state.services = Services(chosen)
        services.start()
        yield
        services.stop()

    app = FastAPI(title="Sales control room", version=__version__, lifespan=lifespan, redoc_url=None)
    app.add_middleware(Shortcut)
    app.add_middleware(IdempotencyKeys)
    app.add_middleware(Guard, settings=chosen)  # the last one added is the first one asked
    errors.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    app.openapi = lambda: _documented(app)  # type: ignore[method-assign]
    return app


def _documented(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = document(app, BODIES)
    return app.openapi_schema
