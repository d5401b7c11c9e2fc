"""The same work on a cluster of two real worker processes gives what one machine gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from distributed import Client, LocalCluster, wait
from polars.testing import assert_frame_equal

from ml.bundle import load_bundle
from ml.cluster import ClusterTables, cluster, forecast, parts_of
from ml.errors import ServiceDown
from ml.evaluation import wape
from ml.features import KEY, SERIES
from ml.forecasting import Forecaster
from ml.records import Recipe
from ml.training import Rows, backtest, train_until
from tests.ml.conftest import BLOCKS, Chain

SIMPLE = {kind: Recipe(kind=kind, blocks=BLOCKS) for kind in ("seasonal_naive", "moving_average", "linear")}


@pytest.fixture(scope="module")
def client(dask_scheduler: str) -> Iterator[Client]:
    with cluster(dask_scheduler) as connected:
        yield connected


@pytest.fixture(scope="module")
def spread(client: Client, chain: Chain) -> ClusterTables:
    return ClusterTables(client, chain.data, BLOCKS)


def test_parts_are_of_like_size_and_cut_no_series(chain: Chain):
    panel = chain.panel.frame
    parts = parts_of(panel, 5)
    assert_frame_equal(pl.concat(parts), panel)
    series = [set(part.select(SERIES).unique().iter_rows()) for part in parts]
    assert sum(map(len, series)) == len(set.union(*series)) == 12
    assert max(part.height for part in parts) <= 3 * panel.height // 12
    assert len(parts_of(panel, 100)) == 12
    assert len(parts_of(panel.filter(pl.col("product") == panel["product"][0]).head(300), 4)) == 1


def test_both_workers_hold_parts_of_a_table(client: Client, spread: ClusterTables):
    table = spread[7]
    wait(table.parts)
    where = client.who_has(list(table.parts))
    assert len({worker for holders in where.values() for worker in holders}) == 2


def test_counts_and_rows_of_a_sample_are_those_of_one_machine(chain: Chain, spread: ClusterTables):
    origin, local = chain.splits[0].origin, chain.tables[7]
    assert spread[7].count(origin) == local.count(origin)
    for recipe, limit in ((chain.recipe, 500), (SIMPLE["linear"], None)):
        theirs, ours = spread[7].sample(recipe, origin, limit).gathered(), local.sample(recipe, origin, limit)
        assert len(ours.y) == (limit or local.count(origin))
        for name in ("x", "level", "seasonal_naive", "moving_average"):
            np.testing.assert_array_equal(getattr(theirs.rows, name), getattr(ours.rows, name))
        np.testing.assert_array_equal(theirs.y, ours.y)
        np.testing.assert_array_equal(theirs.weight, ours.weight)


def test_a_share_of_the_rows_is_the_same_share(chain: Chain, client: Client):
    rows = Rows(None, chain.last, 0.3)
    from ml.training import build_table

    ours, theirs = build_table(chain.data, 28, rows), ClusterTables(client, chain.data, BLOCKS, rows)[28]
    assert 0 < theirs.count(chain.last) == len(ours.y) < 0.5 * len(chain.tables[28].y)


def test_simple_models_are_judged_alike_to_the_last_digit(chain: Chain, spread: ClusterTables):
    ours = backtest(SIMPLE, chain.data, chain.tables, chain.splits)
    theirs = backtest(SIMPLE, chain.data, spread, chain.splits)
    assert ours.height > 500
    assert_frame_equal(theirs, ours, rel_tol=1e-9)


@pytest.mark.parametrize("objective", ["tweedie", "log", "squared+share"])
def test_trees_err_as_much_as_those_of_one_machine(chain: Chain, spread: ClusterTables, objective: str):
    recipe = chain.recipe.model_copy(update={"params": chain.recipe.params | {"objective": objective}})
    split = chain.splits[-1:]
    ours = backtest({"m": recipe}, chain.data, chain.tables, split)
    theirs = backtest({"m": recipe}, chain.data, spread, split)
    assert_frame_equal(theirs.drop("m"), ours.drop("m"))
    error = [wape(rows["y"].to_numpy(), rows["m"].to_numpy()) for rows in (ours, theirs)]
    assert error[1] == pytest.approx(error[0], rel=0.05)
    assert theirs["m"].sum() == pytest.approx(ours["m"].sum(), rel=0.03)
    # Trees of one machine under another seed are as far away as this.
    assert wape(ours["m"].to_numpy(), theirs["m"].to_numpy()) < 0.08


def test_trees_of_the_cluster_can_be_saved_and_answer_alike(chain: Chain, spread: ClusterTables, tmp_path):
    from ml.models import load_model

    model = train_until(chain.recipe, chain.data, spread, chain.last)
    model.save(tmp_path)
    rows = chain.tables[7].seen_from(chain.last).take(np.arange(50))
    loaded = load_model(chain.recipe, tmp_path)
    np.testing.assert_allclose(loaded.predict(7, rows), model.predict(7, rows), rtol=1e-6)


def test_forecasts_of_the_cluster_are_those_of_one_machine(client: Client, bundle_folder: Path):
    forecaster = Forecaster(load_bundle(bundle_folder))
    usual = forecaster.next_days([], []).select(KEY)
    last: dt.date = usual["date"].max()  # type: ignore[assignment]
    strange = pl.DataFrame(
        {
            "store": [usual["store"][0], "a new store", usual["store"][0]],
            "product": [usual["product"][0], usual["product"][0], "a new product"],
            "date": [last + dt.timedelta(days=9), last, last],
        },
        schema=usual.schema,
    )
    rows = pl.concat([usual, strange]).sample(fraction=1.0, shuffle=True, seed=3)
    assert 0 < forecaster.usual(rows).sum() < rows.height
    assert_frame_equal(forecast(client, forecaster, rows), forecaster.forecast(rows), rel_tol=1e-6)


def test_nothing_listens_at_the_address():
    with (
        pytest.raises(ServiceDown, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_without_workers_is_said():
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as started,
        pytest.raises(ServiceDown, match="has no workers"),
        cluster(started.scheduler_address),
    ):
        pass
