"""Many logged predictions as one CSV, written while it is sent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ml.records import LEVELS, HistoryItem

PLAIN = (
    "prediction_id", "created_at", "date", "store", "product", "prediction", "unit", "model_version", "data_version",
    "source", "request_id", "support", "actual", "error",
)  # fmt: skip
BOUNDS = tuple(f"{side}_{level}" for level in LEVELS for side in ("low", "high"))
COLUMNS = (*PLAIN, *BOUNDS, "inputs")
TOGETHER = 500  # rows that are sent at once


def as_csv(items: Iterator[HistoryItem]) -> Iterator[str]:
    """Pieces of the file, the headings first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for number, item in enumerate(items, 1):
        writer.writerow(_cells(item))
        if number % TOGETHER == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _cells(item: HistoryItem) -> list[Any]:
    bounds = [item.interval.get(str(level), (None, None))[side] for level in LEVELS for side in (0, 1)]
    return [*(getattr(item, name) for name in PLAIN), *bounds, json.dumps(item.inputs, ensure_ascii=False)]


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
