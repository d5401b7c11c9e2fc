"""From a user's sales to the tables that the engine learns from, as ETL and retraining make them."""

from __future__ import annotations

import datetime as dt
import resource
import sys
from pathlib import Path

import polars as pl

from ml.attributes import attach
from ml.cleaning import Panel, make_panel
from ml.encoding import fit_encoding
from ml.features import SERIES, Columns
from ml.records import Frequency, Manifest, Recipe
from ml.training import Data


def as_data(
    panel: pl.DataFrame,
    frequency: Frequency,
    country: str,
    regressors: tuple[str, ...],
    closed_when: dict[str, float],
    static: tuple[str, ...],
) -> Data:
    """A cleaned panel with its columns and the categories of all its rows."""
    columns = Columns.of(panel, regressors, closed_when, static)
    encoding = fit_encoding(panel, [*SERIES, *columns.text, *columns.static_text], [])
    return Data(panel, frequency, columns, encoding, country)


def cleaned(sales: pl.DataFrame, side: pl.DataFrame, country: str) -> tuple[Data, Panel, tuple[str, ...]]:
    """Sales and a side table of attributes as ETL leaves them; with the panel and what was decided about them."""
    panel = make_panel(sales, country=country)
    attached = attach(panel.frame, side)
    data = as_data(
        attached.frame, panel.frequency, country, panel.regressors, panel.closed_when, tuple(attached.static)
    )
    return data, panel, (*panel.decisions, *attached.notes)


def manifest_of(data: Data, recipe: Recipe, horizon: int, trained_until: dt.date) -> Manifest:
    """The manifest of a bundle that never leaves a benchmark."""
    columns = data.columns
    return Manifest(
        created_at=dt.datetime.now(dt.UTC),
        data_version="bench",
        trained_until=trained_until,
        frequency=data.frequency,
        horizon=horizon,
        unit="units/day" if data.frequency == "D" else "units/week",
        country=data.country,
        recipe=recipe,
        features=tuple(data.names),
        regressors=(*columns.regressors, *columns.text),
        static=(*columns.static, *columns.static_text),
        derived=tuple(name for name in ("price", "promotion") if getattr(columns, name)),
        closed_when=dict(columns.closed_when),
        encoding=data.encoding,
        files={},
    )


def peak_gb() -> float:
    """The most memory that this process has held; of its own, where the system says so, not of its parent's fork."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e6
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
