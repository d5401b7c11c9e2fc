"""Why forecasts are what they are, in units that add up to them."""

from __future__ import annotations

from typing import Any

import polars as pl

from api.loading import Loaded
from api.rows import Input
from api.scoring import frame_of
from ml.errors import TooLarge
from ml.explain import telling
from ml.records import Contribution, ExplainReply, Explanation, RowError

MAX_ROWS = 500  # exact contributions take milliseconds per row


def refuse_many(rows: int) -> None:
    if rows > MAX_ROWS:
        raise TooLarge(f"At most {MAX_ROWS} rows are explained at once; these are {rows:,}.", limit=MAX_ROWS)


def explained(loaded: Loaded, rows: list[Input | RowError]) -> ExplainReply:
    """One explanation per good row, the errors in their places."""
    good = [row for row in rows if not isinstance(row, RowError)]
    told = loaded.forecaster.explain(frame_of(loaded, good)) if good else pl.DataFrame()
    following = (_explanation(loaded, row) for row in told.iter_rows(named=True))
    return ExplainReply(explanations=tuple(row if isinstance(row, RowError) else next(following) for row in rows))


def _explanation(loaded: Loaded, row: dict[str, Any]) -> Explanation:
    drivers = telling(row["prediction"], row["base"], row["contributions"])
    return Explanation(
        **{name: row[name] for name in ("date", "store", "product", "prediction", "base", "sentence")},
        unit=loaded.forecaster.unit,
        contributions=tuple(Contribution(**item) for item in row["contributions"]),
        drivers=tuple(Contribution.model_validate(item) for item in drivers),
        model=loaded.ref,
        data_version=loaded.data_version,
    )
