"""A FastAPI application whose POST does nothing: what is left of an API's time when no work is in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
async def predict(row: dict[str, Any]) -> dict[str, str]:
    return {"status": "ok"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {"status": "ok"}
