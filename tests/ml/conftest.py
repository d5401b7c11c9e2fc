"""A small chain, its panel, tables, and a bundle trained on it; made once for all tests of ``ml``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from ml import demo
from ml.bundle import Bundle, write_bundle
from ml.cleaning import Panel, make_panel
from ml.encoding import fit_encoding
from ml.features import Columns
from ml.forecasting import Forecaster, tail_of
from ml.intervals import Intervals
from ml.records import Manifest, Recipe
from ml.splits import Split, rolling_origins
from ml.sums import Sums
from ml.training import Data, Tables, backtest, train_until
from ml.tuning import KNOWN_GOOD

UNTIL = dt.date(2026, 3, 1)
BLOCKS = (7, 28)
SMALL = KNOWN_GOOD | {"rounds": 40, "max_depth": 4}


@dataclass(frozen=True)
class Chain:
    panel: Panel
    data: Data
    tables: Tables
    splits: list[Split]
    recipe: Recipe

    @property
    def last(self) -> dt.date:
        return self.panel.frame["date"].max()  # type: ignore[return-value]


@pytest.fixture(scope="session")
def dask_scheduler() -> Iterator[str]:
    """Address of a cluster of two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as started:
        yield started.scheduler_address


def as_data(panel: Panel) -> Data:
    frame = panel.frame
    text = [name for name in panel.regressors if not frame.schema[name].is_numeric()]
    encoding = fit_encoding(frame, ["store", "product", *text], [])
    columns = Columns.of(frame, panel.regressors, panel.closed_when)
    return Data(frame, panel.frequency, columns, encoding, "ES")


@pytest.fixture(scope="session")
def to_data() -> Callable[[Panel], Data]:
    return as_data


@pytest.fixture(scope="session")
def chain() -> Chain:
    panel = make_panel(demo.generate(UNTIL, days=500, stores=2, products=6), country="ES")
    data = as_data(panel)
    splits = rolling_origins(panel.frame["date"].min(), panel.frame["date"].max(), 28, 2, "D")  # type: ignore[arg-type]
    return Chain(panel, data, Tables(data, BLOCKS), splits, Recipe(kind="xgboost", params=SMALL, blocks=BLOCKS))


@pytest.fixture(scope="session")
def judged(chain: Chain) -> pl.DataFrame:
    """Rows of a backtest of the small recipe and the baselines."""
    recipes = {
        "challenger": chain.recipe,
        "seasonal_naive": Recipe(kind="seasonal_naive", blocks=BLOCKS),
        "moving_average": Recipe(kind="moving_average", blocks=BLOCKS),
        "linear": Recipe(kind="linear", blocks=BLOCKS),
    }
    return backtest(recipes, chain.data, chain.tables, chain.splits)


def write_test_bundle(folder: Path, chain: Chain, judged: pl.DataFrame, recipe: Recipe) -> Bundle:
    rows = {name: judged[name].to_numpy() for name in ("challenger", "y", "block")}
    manifest = Manifest(
        created_at=dt.datetime(2026, 3, 2, tzinfo=dt.UTC),
        data_version="test",
        trained_until=chain.last,
        frequency="D",
        horizon=28,
        unit="units/day",
        country="ES",
        recipe=recipe,
        features=tuple(chain.data.names),
        regressors=(),
        derived=("price", "promotion"),
        encoding=chain.data.encoding,
        files={},
    )
    return write_bundle(
        folder,
        manifest,
        train_until(recipe, chain.data, chain.tables, chain.last),
        Intervals.fit(rows["challenger"], rows["y"], rows["block"]),
        tail_of(chain.panel.frame, "D", 28),
        lambda draft: Forecaster(draft).golden_rows(),
        sums=Sums.fit(judged),
        days=chain.data.effects(chain.last),
    )


@pytest.fixture(scope="session")
def make_bundle() -> Callable[[Path, Chain, pl.DataFrame, Recipe], Bundle]:
    return write_test_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, chain: Chain, judged: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "xgboost"
    write_test_bundle(folder, chain, judged, chain.recipe)
    return folder
