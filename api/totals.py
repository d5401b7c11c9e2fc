"""Answers added up: per date and over everything that was asked, with the intervals of the sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from api.loading import Loaded
from api.scoring import Parts
from ml.records import LEVELS, Answer, ForecastReply, Total

KEY = ("date", "store", "product", "prediction")


def forecast_reply(loaded: Loaded, answers: Sequence[Parts]) -> ForecastReply:
    """The answers with their totals; those of a model without intervals of sums have only the sum."""
    total = sum(answer["prediction"] for answer in answers)
    whole: Total | None = None
    by_date: tuple[Total, ...] = ()
    if answers and loaded.forecaster.bundle.sums is not None:
        rows = _frame(answers)
        first, last = rows["date"].min(), rows["date"].max()
        found = loaded.forecaster.totals(rows).row(0, named=True)
        whole = _total(found, date_from=first, date_to=last)
        per_date = loaded.forecaster.totals(rows, ["date"]).iter_rows(named=True)
        by_date = tuple(_total(row, date_from=row["date"], date_to=row["date"]) for row in per_date)
    return ForecastReply(
        predictions=tuple(map(Answer.model_validate, answers)),
        total=total,
        unit=loaded.forecaster.unit,
        whole=whole,
        by_date=by_date,
    )


def _frame(answers: Sequence[Parts]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {name: [answer[name] for answer in answers] for name in KEY}
    for level in LEVELS:
        columns[f"low_{level}"] = [answer["interval"][str(level)][0] for answer in answers]
        columns[f"high_{level}"] = [answer["interval"][str(level)][1] for answer in answers]
    return pl.DataFrame(columns)


def _total(row: dict[str, Any], **dates: Any) -> Total:
    interval = {str(level): (row[f"low_{level}"], row[f"high_{level}"]) for level in LEVELS}
    return Total(prediction=row["prediction"], interval=interval, **dates)
