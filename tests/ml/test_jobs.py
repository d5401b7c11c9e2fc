"""Both pipelines step by step, against a real MLflow server, a real PostgreSQL and a lake in a folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml import jobs, sources
from ml.bundle import load_bundle
from ml.errors import FileRefused, InputError, NotFound, ServiceDown
from ml.forecasting import Forecaster
from ml.lake import Lake, current_snapshot, load_sales, open_lake
from ml.records import ETL_DAG, RETRAIN_DAG, Override, PredictionInput, Snapshot
from ml.registry import RUN_TAG, Registry
from ml.store import Store

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "ventas_una_tienda.csv"
QUICK = {"trials": 0, "folds": 2}


class Loop:
    """Runs pipelines with their own settings and shows what they left behind."""

    def __init__(self, folder: Path, registry: Registry, store: Store) -> None:
        self.lake: Lake = open_lake(str(folder / "lake"))
        self.registry, self.store = registry, store
        self.runs = 0

    def run(self, dag_id: str, conf: dict[str, Any], run_id: str = "", skip: tuple[str, ...] = ("confirm",)) -> dict:
        self.runs += 1
        run_id = run_id or f"test-{self.runs}"
        steps = [name for name in jobs.STEPS[dag_id] if name not in skip]
        return {name: jobs.run_step(dag_id, name, run_id, conf) for name in steps}

    @property
    def snapshot(self) -> Snapshot:
        found = current_snapshot(self.lake)
        assert found is not None
        return found

    def champion(self) -> str | None:
        found = self.registry.alias("champion")
        return found.version if found else None


@pytest.fixture
def loop(tmp_path, monkeypatch, database_url, mlflow_server, request) -> Loop:
    name = f"sales-{request.node.name[:40]}"
    values = {
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": database_url,
        "MLFLOW_URL": mlflow_server,
        "API_URL": "http://127.0.0.1:9",
        "DEMO_SCALE": "0.1",
    }
    for key, value in values.items():
        monkeypatch.setenv(f"CONTROL_ROOM_{key}", value)
    # one server for all tests: each test gets a registry of its own inside it
    monkeypatch.setattr("ml.context.Registry", lambda url: Registry(url, name))
    store = Store(database_url)
    store.migrate()
    return Loop(tmp_path, Registry(mlflow_server, name), store)


def forecaster(loop: Loop, folder: Path, version: str) -> Forecaster:
    return Forecaster(load_bundle(loop.registry.download(version, folder / version)))


def test_the_loop_on_the_demo(loop: Loop, tmp_path: Path):
    done = loop.run(ETL_DAG, {"source": "demo"}, "etl-1")
    first = loop.snapshot
    assert first.data_version == done["publish"]["data_version"]
    assert (first.stores, first.frequency, first.unit) == (2, "D", "units/day")
    assert first.rows == first.rows_train + first.rows_test
    folder = f"snapshots/{first.data_version}"
    train, test = (loop.lake.get_frame(f"{folder}/{name}.parquet") for name in ("train", "test"))
    assert train["date"].max() == first.split_date < test["date"].min()
    assert {"store_code", "price_std", "weekday_is_1", "store_is_" + train["store"][0]} <= set(train.columns)
    assert train["price_std"].mean() == pytest.approx(0, abs=1e-4)
    assert loop.lake.get_json(f"{folder}/data.json")["data_version"] == first.data_version

    again = loop.run(ETL_DAG, {"source": "demo"}, "etl-2")
    assert again["publish"]["data_version"] == first.data_version

    found = loop.run(RETRAIN_DAG, QUICK, "retrain-1")
    assert found["decide"]["verdict"] == "first"
    version = found["train"]["version"]
    assert loop.champion() == version
    (audit,) = loop.store.promotions()
    assert (audit.version, audit.previous, audit.actor) == (version, None, RETRAIN_DAG)
    report = loop.registry.report(version)
    assert report.model.data_version == first.data_version
    assert report.evaluation is not None
    assert report.evaluation.overall["challenger"].wape < report.evaluation.overall["seasonal_naive"].wape
    assert {m.rows for m in report.evaluation.overall.values()} == {sum(f.rows for f in report.evaluation.folds)}
    assert sum(item.rows for item in report.evaluation.calibration) == report.evaluation.overall["challenger"].rows
    assert ({trial.number for trial in report.trials}, report.importance) == (set(range(len(report.trials))), {})
    served = forecaster(loop, tmp_path, version)
    assert served.check_golden() < 1e-6
    assert loop.store.bundle_sha256(version) == served.bundle.fingerprint

    unchanged = loop.run(RETRAIN_DAG, QUICK, "retrain-2")
    assert unchanged["decide"]["verdict"] == "unchanged"
    assert loop.champion() == version
    assert len(loop.store.promotions()) == 1

    loop.run(ETL_DAG, {"source": "demo_next_week"}, "etl-3")
    assert loop.snapshot.date_to == first.date_to + dt.timedelta(days=7)
    assert loop.snapshot.data_version != first.data_version
    drift = loop.snapshot.drift
    assert drift is not None
    assert (drift.version, drift.data_version) == (version, first.data_version)
    assert (drift.rows > 0, drift.date_to) == (True, loop.snapshot.date_to)
    assert {"sales", "price", "promotion"} <= {item.feature for item in drift.features}
    assert [check for check in loop.snapshot.checks if check.severity == "error"] == []
    progress = loop.lake.get_json("runs/retrain-1/progress.json")
    assert (progress["step"], progress["unit"], progress["number"], progress["total"]) == ("backtest", "fold", 2, 2)
    newer = Forecaster(served.bundle, load_sales(loop.lake, loop.snapshot))
    assert newer.origin == loop.snapshot.date_to
    assert newer.forecast(newer.next_days([], []))["prediction"].is_finite().all()


def test_a_retraining_on_a_cluster_of_two_workers(loop: Loop, dask_scheduler: str, tmp_path: Path, monkeypatch, caplog):
    loop.run(ETL_DAG, {"source": "demo"}, "etl")
    here = loop.run(RETRAIN_DAG, {"trials": 0, "folds": 1, "seed": 5, "monotone": "off"}, "here")
    monkeypatch.setenv("CONTROL_ROOM_DASK", dask_scheduler)
    caplog.set_level("INFO", "ml.jobs")
    there = loop.run(RETRAIN_DAG, {"trials": 0, "folds": 1, "seed": 5, "monotone": "off"}, "there")
    assert caplog.text.count("2 workers of the Dask cluster") == 3  # tune, backtest, train
    assert there["train"]["kind"] == here["train"]["kind"] == "xgboost"
    ours, theirs = (loop.registry.report(found["train"]["version"]).evaluation for found in (here, there))
    for name in ("seasonal_naive", "moving_average", "linear"):
        assert theirs.overall[name].wape == pytest.approx(ours.overall[name].wape, rel=1e-9)
    assert theirs.overall["challenger"].wape == pytest.approx(ours.overall["challenger"].wape, rel=0.06)
    assert forecaster(loop, tmp_path, there["train"]["version"]).check_golden() < 1e-6


def test_a_cluster_that_is_away_is_said_and_nothing_is_lost(loop: Loop, monkeypatch):
    loop.run(ETL_DAG, {"source": "demo"}, "etl")
    monkeypatch.setenv("CONTROL_ROOM_DASK", "tcp://127.0.0.1:9")
    jobs.run_step(RETRAIN_DAG, "snapshot", "away", QUICK)
    with pytest.raises(ServiceDown, match=r"dask.*tcp://127\.0\.0\.1:9"):
        jobs.run_step(RETRAIN_DAG, "tune", "away", QUICK)
    monkeypatch.setenv("CONTROL_ROOM_DASK", "")
    assert jobs.run_step(RETRAIN_DAG, "tune", "away", QUICK)["kind"] == "xgboost"


def test_steps_that_run_twice_leave_one_model_and_one_audit_row(loop: Loop):
    loop.run(ETL_DAG, {"source": "demo"}, "etl")
    for name in jobs.STEPS[RETRAIN_DAG]:
        if name == "confirm":
            continue
        first, second = (jobs.run_step(RETRAIN_DAG, name, "twice", QUICK) for _ in range(2))
        if name != "promote":
            assert first == second, name
    assert [v.version for v in loop.registry.versions()] == [loop.champion()]
    assert len(loop.store.promotions()) == 1


def test_one_mlflow_run_for_all_steps(loop: Loop):
    loop.run(ETL_DAG, {"source": "demo"}, "etl-logged-" + loop.registry.name)
    experiment = loop.registry.client.get_experiment_by_name(ETL_DAG)
    tag = f"tags.`{RUN_TAG}` = 'etl-logged-{loop.registry.name}'"
    (run,) = loop.registry.client.search_runs([experiment.experiment_id], tag)
    assert run.info.status == "FINISHED"
    assert run.data.params["data_version"] == loop.snapshot.data_version
    assert {"checks_error", "checks_warning", "peak_mb_clean", "peak_mb_check"} <= set(run.data.metrics)
    assert "checks.json" in [item.path for item in loop.registry.client.list_artifacts(run.info.run_id)]
    assert {"rows_in", "rows_rejected", "rows_train", "rows_test", "rows_filled"} <= set(run.data.metrics)
    assert "data.json" in [item.path for item in loop.registry.client.list_artifacts(run.info.run_id)]


def test_one_spanish_shop_with_a_year_of_days(loop: Loop, tmp_path: Path):
    loop.run(ETL_DAG, {"source": str(EXAMPLE)})
    assert (loop.snapshot.stores, loop.snapshot.products, loop.snapshot.date_to) == (1, 1, dt.date(2026, 10, 31))
    done = loop.run(RETRAIN_DAG, QUICK)
    overall = loop.registry.report(done["train"]["version"]).evaluation.overall  # type: ignore[union-attr]
    assert overall["challenger"].wape < overall["seasonal_naive"].wape
    served = forecaster(loop, tmp_path, done["train"]["version"])
    found = served.forecast(pl.DataFrame({"date": [dt.date(2026, 11, 5)], "store": ["all"], "product": ["all"]}))
    assert 300 < found["prediction"][0] < 1500


def test_a_real_upload_replaces_the_demo_and_its_champion(loop: Loop):
    loop.run(ETL_DAG, {"source": "demo"})
    old = loop.run(RETRAIN_DAG, QUICK)["train"]["version"]
    loop.run(ETL_DAG, {"source": str(EXAMPLE)})
    done = loop.run(RETRAIN_DAG, QUICK)
    assert "knows 0% of these stores" in done["decide"]["reason"]
    assert loop.champion() == done["train"]["version"] != old
    assert [p.previous for p in loop.store.promotions()] == [old, None]
    assert sources.DEMO not in loop.snapshot.sources
    assert loop.snapshot.stores == 1
    (upload,) = loop.store.uploads()
    assert (upload.status, upload.data_version) == ("processed", loop.snapshot.data_version)


BAD: dict[str, tuple[bytes, type[Exception], str]] = {
    "empty": (b"", FileRefused, "empty"),
    "header_only": (b"date,sales\n", FileRefused, ""),
    "not_a_table": (b"<html><body>502</body></html>", FileRefused, ""),
    "missing_column": (b"date,colour\n2026-01-01,red\n2026-01-02,blue\n", FileRefused, "sales"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_failed_run_leaves_the_snapshot_and_the_champion(loop: Loop, tmp_path: Path, kind: str):
    loop.run(ETL_DAG, {"source": "demo"})
    before = loop.lake.get("snapshots/current.json"), loop.lake.list("accepted/")
    data, error, words = BAD[kind]
    (tmp_path / "bad.csv").write_bytes(data)
    with pytest.raises(error, match=rf"(?i)bad\.csv.*{words}"):
        loop.run(ETL_DAG, {"source": str(tmp_path / "bad.csv")}, f"bad-{kind}")
    assert (loop.lake.get("snapshots/current.json"), loop.lake.list("accepted/")) == before
    experiment = loop.registry.client.get_experiment_by_name(ETL_DAG)
    (run,) = loop.registry.client.search_runs([experiment.experiment_id], f"tags.`{RUN_TAG}` = 'bad-{kind}'")
    assert run.info.status == "FAILED"
    assert run.data.tags["failed_step"] == "collect"
    loop.registry.client.delete_run(run.info.run_id)


def test_errors_say_what_to_do(loop: Loop):
    with pytest.raises(InputError, match="upload a file and accept it"):
        loop.run(ETL_DAG, {"source": "uploads"})
    with pytest.raises(NotFound, match=r"There is no file .*no-such\.csv"):
        loop.run(ETL_DAG, {"source": "no-such.csv"})
    with pytest.raises(NotFound, match="missing-upload is not an accepted upload"):
        loop.run(ETL_DAG, {"uploads": ["missing-upload"]})


def test_the_command_line_runs_a_pipeline(loop: Loop, capsys):
    assert jobs.main(["etl", "--run-id", "cli", "--conf", '{"source": "demo"}']) == 0
    assert loop.snapshot.stores == 2
    assert '"step": "publish"' in capsys.readouterr().out
    assert jobs.main(["etl", "--run-id", "cli-2", "--conf", '{"source": "no-such.csv"}']) == 1
    assert "There is no file" in capsys.readouterr().err


def test_records_of_the_api_refuse_unknown_keys():
    for record in (PredictionInput, Override):
        with pytest.raises(ValueError, match="extra"):
            record.model_validate({"date": "2026-01-01", "colour": "red"})


@pytest.mark.parametrize("days", [14, 60, 365])
def test_one_short_series(loop: Loop, tmp_path: Path, days: int):
    """The whole way for one shop: a forecast for every day, an honest interval, and which model answers and why."""
    rng = np.random.default_rng(days)
    dates = [dt.date(2025, 6, 2) + dt.timedelta(days=day) for day in range(days + 28)]
    mean = 40 * (1 + 0.4 * np.sin(2 * np.pi * np.arange(len(dates)) / 7))
    sales = pl.DataFrame({"date": dates, "sales": rng.poisson(mean)})
    sales.head(days).write_csv(tmp_path / "shop.csv")
    loop.run(ETL_DAG, {"source": str(tmp_path / "shop.csv")}, f"etl-{days}")
    found = loop.run(RETRAIN_DAG, {"trials": 2}, f"retrain-{days}")
    report = loop.registry.report(found["train"]["version"])
    assert report.evaluation is not None
    choice = report.evaluation.choice
    assert choice is not None
    assert choice.periods == days
    assert (choice.reason == "short") == (days < 100)
    assert choice.kind == report.model.kind
    if choice.errors:
        assert choice.errors[choice.kind] == min(choice.errors.values())
    served = forecaster(loop, tmp_path, report.model.version)
    rows = served.forecast(served.next_days([], []))
    actual = sales.tail(28)["sales"].to_numpy()
    assert rows.height == 28
    assert rows["prediction"].is_between(10, 90).all()
    inside = (actual >= rows["low_95"].to_numpy()) & (actual <= rows["high_95"].to_numpy())
    assert inside.mean() > 0.85
    assert rows["high_95"].max() < 40 * 6


def test_the_same_recipe_under_another_seed_is_not_promoted_on_new_data(loop: Loop):
    asked = QUICK | {"monotone": "off"}
    loop.run(ETL_DAG, {"source": "demo"}, "etl-seed-1")
    first = loop.run(RETRAIN_DAG, asked | {"seed": 1}, "seed-1")
    loop.run(ETL_DAG, {"source": "demo_next_week"}, "etl-seed-2")
    second = loop.run(RETRAIN_DAG, asked | {"seed": 2}, "seed-2")
    seeds = [loop.lake.get_json(f"runs/seed-{k}/recipe.json").pop("seed") for k in (1, 2)]
    assert seeds == [1, 2]
    assert (second["decide"]["verdict"], second["promote"]["promoted"]) == ("too_close", None)
    assert loop.champion() == first["train"]["version"]
    rows = loop.lake.get_frame("runs/seed-2/backtest.parquet")
    assert rows["champion"].to_list() == rows["challenger"].to_list()
    assert rows["twin"].is_not_null().to_list() == (rows["fold"] == rows["fold"].max()).to_list()
    assert (rows["twin"] != rows["challenger"]).sum() > 0
    decision = loop.registry.report(second["train"]["version"]).decision
    assert decision is not None
    floor = next(gate for gate in decision.gates if gate.name == "noise_floor")
    assert (floor.passed, floor.value) == (False, 0.0)
    assert floor.bound is not None
    assert 0 < floor.bound < 0.1
