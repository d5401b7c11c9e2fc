"""A console against services that are ours: real records, real errors, no network.

``FakeApi`` and its siblings have the methods of the clients; everything behind the clients' methods is the console's
own code. ``tests/control_room/look.py`` runs the same world in a browser.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest, app_test

from control_room import i18n, session
from control_room.clients.api import Catalog
from control_room.clients.mlflow import ExperimentRun
from ml import records as r
from ml.errors import Conflict, ControlRoomError, NoChampion, NoData, NotFound, ServiceDown, TooLarge
from ml.settings import Settings
from ml.sidetable import check_attributes

HOME = Path(__file__).resolve().parents[2] / "control_room" / "Home.py"
NOW = dt.datetime.now(dt.UTC)
TODAY = NOW.date()
DAY, MINUTE = dt.timedelta(days=1), dt.timedelta(minutes=1)
STORES = ("S01", "S02", "S03")
PRODUCTS = ("P001", "P002", "P003", "P004")
DATA_VERSION = "d7f3a1c09b52"


def sold(day: dt.date, scale: float = 1.0) -> float:
    return round(
        scale * (120 + 35 * math.sin(day.toordinal() * 2 * math.pi / 7) + 12 * math.cos(day.toordinal() / 9)), 1
    )


def why(day: dt.date) -> r.Explanation:
    drivers = (r.Contribution(group="promotion", units=21.5), r.Contribution(group="weekday", units=-9.0))
    made = answer(day)
    return r.Explanation(
        date=day, store=made.store, product=made.product, prediction=made.prediction, unit=made.unit,
        base=made.prediction - 12.5, contributions=drivers, sentence="mixed", drivers=drivers, model=made.model,
        data_version=made.data_version,
    )  # fmt: skip


def answer(day: dt.date, store: str = "S01", product: str = "P001", **changes: Any) -> r.Answer:
    point = sold(day)
    values: dict[str, Any] = {
        "date": day,
        "store": store,
        "product": product,
        "prediction": point,
        "unit": "units/day",
        "interval": {"80": (point * 0.85, point * 1.18), "95": (point * 0.72, point * 1.34)},
        "support": r.Support(similar_days=28, level="ok"),
        "inputs": {"price": 9.99, "promotion": 0.0, "holiday": 0},
        "model": r.ModelRef(name="sales", version="7", alias="champion", run_id="run7"),
        "data_version": DATA_VERSION,
        "request_id": "req-1",
        "created_at": NOW,
    }
    return r.Answer(**{**values, **changes})


def metrics(wape: float) -> r.Metrics:
    return r.Metrics(
        rows=33_600, wape=wape, bias=wape / 20, rmse=wape * 60, mae=wape * 40, rmspe=wape * 1.4,
        coverage={"80": 0.79, "95": 0.944},
        pinball=wape * 7,
    )  # fmt: skip


def evaluation(models: dict[str, float]) -> r.Evaluation:
    folds = []
    for index in range(3):
        start = TODAY - DAY * (28 * (3 - index))
        scaled = {name: metrics(wape * (1 + 0.05 * (index - 1))) for name, wape in models.items()}
        folds.append(r.Fold(origin=start - DAY, date_from=start, date_to=start + DAY * 27, rows=11_200, metrics=scaled))
    by = {"store": STORES, "product": PRODUCTS, "promotion": ("no", "yes"), "horizon": ("week 1", "week 2", "week 3")}
    segments = tuple(
        r.Segment(by=kind, value=value, rows=900, wape={n: w * (1 + 0.08 * i) for n, w in models.items()})
        for kind, values in by.items()
        for i, value in enumerate(values)
    )
    monday = TODAY - DAY * TODAY.weekday()
    gains = tuple(
        (str(monday - DAY * 7 * (12 - week)), 0.03 + 0.05 * math.sin(week))
        for week in range(12)
        if "champion" in models
    )
    return r.Evaluation(
        data_version=DATA_VERSION,
        folds=tuple(folds),
        overall={name: metrics(wape) for name, wape in models.items()},
        segments=segments,
        weekly_gain=gains,
        sums=tuple(
            r.SumCoverage(kind=f"{over}/{span}", sums=900, coverage={"80": 0.81, "95": 0.953})
            for over in ("series", "store", "product", "all")
            for span in ("period", "week", "horizon")
        ),
    )


def diagnosed(found: r.Evaluation) -> r.Evaluation:
    """With what lies behind the figures."""
    sizes = [10.0 * (1 + n) for n in range(10)]
    kept = {
        "calibration": tuple(
            r.CalibrationBin(rows=900, forecast=size, actual=size * 1.02, coverage={"80": 0.8, "95": 0.95})
            for size in sizes
        ),
        "spreads": tuple(
            r.ErrorSpread(model=model, week=week, quantiles=(-20.0 * week, -4.0, 0.5, 5.0, 22.0 * week))
            for model in ("challenger", "champion", "seasonal_naive")
            for week in (1, 2, 3, 4)
        ),
        "disagreements": tuple(
            r.Disagreement(date=TODAY - DAY * n, store="S01", product="=P001", actual=90.0, challenger=95.0 + n,
                           champion=70.0 - n)
            for n in range(5, 0, -1)
        ),
    }  # fmt: skip
    return found.model_copy(update=kept)


TRIALS = tuple(
    r.TuningTrial(
        number=n, error=0.18 + n / 500,
        params={"objective": ("tweedie", "squared")[n % 2], "max_depth": 4 + n, "max_bin": 64},
    )
    for n in range(9)
)  # fmt: skip


def model_info(version: str, aliases: tuple[str, ...], age: dt.timedelta) -> r.ModelInfo:
    return r.ModelInfo(
        name="sales", version=version, aliases=aliases, created_at=NOW - age, run_id=f"run{version}", kind="xgboost",
        data_version=DATA_VERSION, trained_until=TODAY - DAY * 5, metrics={"wape": 0.182}, params={"max_depth": "7"},
    )  # fmt: skip


def decision(verdict: r.DecisionVerdict = "too_close") -> r.Decision:
    gain, low, high = {"better": (0.043, 0.018, 0.067), "worse": (-0.05, -0.08, -0.02)}.get(
        verdict, (0.008, -0.011, 0.027)
    )
    gates = (
        r.Gate(name="beats_seasonal_naive", passed=True, value=0.179, bound=0.247, note="WAPE on the same rows"),
        r.Gate(name="coverage_80", passed=True, value=0.79, bound=0.8, note="share of actuals inside the interval"),
        r.Gate(name="coverage_95", passed=True, value=0.944, bound=0.95, note="share of actuals inside the interval"),
        r.Gate(name="min_gain", passed=gain >= 0.01, value=gain, bound=0.01, note="gain in WAPE"),
        r.Gate(name="significant", passed=low > 0, value=low, bound=0.0, note="lower end"),
        r.Gate(name="segments", passed=True, value=0.031, bound=0.1, note="store S03"),
    )
    return r.Decision(
        verdict=verdict, promote=False, needs_approval=verdict == "better", gain=gain, gain_low=low, gain_high=high,
        days_to_tell=41 if verdict == "too_close" else None, gates=gates, reason="measured",
    )  # fmt: skip


def preflight(filename: str, verdict: r.Verdict = "ROWS", **changes: Any) -> r.Preflight:
    findings = (
        r.Finding(code="negative_sales", severity="row", message="Sales are negative.", hint="Returns?", row=12,
                  column="ventas", count=3),
        r.Finding(code="made_up", severity="fix", message="=1+1 ![x](http://x) <b>text</b>", row=4, column="pre|cio"),
    )  # fmt: skip
    values: dict[str, Any] = {
        "filename": filename,
        "format": "csv",
        "bytes": 48_211,
        "sha256": "ab" * 32,
        "verdict": verdict,
        "purpose": "training",
        "dialect": r.ReadOptions(separator=";", decimal=",", encoding="utf-8", date_order="dmy"),
        "columns": (
            r.ColumnMatch(source="fecha", role="date", confidence=0.99, sample=("01/02/2026",)),
            r.ColumnMatch(source="tienda", role="store", confidence=0.97, sample=("S01",)),
            r.ColumnMatch(source="ventas", role="sales", confidence=0.95, sample=("12,5",)),
            r.ColumnMatch(source="campaña", role="regressor", confidence=0.4, sample=("0",)),
        ),
        "mapping": r.Mapping(
            roles={"date": "fecha", "store": "tienda", "sales": "ventas"}, regressors=("campaña",)
        ),
        "findings": findings,
        "rows_total": 1_204,
        "rows_used": 1_201,
        "rows_rejected": 3,
        "frequency": "D",
        "date_from": TODAY - DAY * 400,
        "date_to": TODAY - DAY,
        "stores": 3,
        "products": 1,
        "missing_days": 2,
        "preview": ({"date": "2026-02-01", "store": "S01", "sales": 12.5},),
    }  # fmt: skip
    return r.Preflight(**{**values, **changes})


def upload(upload_id: str, filename: str, status: r.UploadStatus, verdict: r.Verdict = "ROWS") -> r.Upload:
    return r.Upload(
        upload_id=upload_id, filename=filename, bytes=48_211, sha256="ab" * 32, status=status, purpose="training",
        created_at=NOW - DAY, preflight=preflight(filename, verdict),
    )  # fmt: skip


def attributes(upload_id: str, filename: str) -> r.Upload:
    """A table of attributes, as the reader itself sees it."""
    seen = check_attributes(b"tienda;m2;tipo\nS01;120;calle\nS02;300;centro\nS03;90;calle\n", filename).preflight
    return upload(upload_id, filename, "received").model_copy(update={"purpose": "attributes", "preflight": seen})


RETRAIN_TASKS = ("snapshot", "tune", "train", "backtest", "decide", "promote", "confirm")


def run(dag_id: str, run_id: str, state: str, age: dt.timedelta, tasks: tuple[str, ...] = ()) -> r.Run:
    begin = NOW - age
    states = []
    for index, task in enumerate(tasks):
        reached = state == "success" or index < 3
        task_state = "success" if reached else {"running": "running", "failed": "failed"}[state] if index == 3 else None
        states.append(
            r.TaskState(
                task_id=task, state=task_state, started_at=begin + MINUTE / 4 * index if task_state else None,
                ended_at=begin + MINUTE / 4 * (index + 1) if task_state == "success" else None, try_number=1,
            )
        )  # fmt: skip
    ended = None if state in ("running", "queued") else begin + 2 * MINUTE
    return r.Run(dag_id=dag_id, run_id=run_id, state=state, started_at=begin, ended_at=ended, tasks=tuple(states))


@dataclass
class World:
    """What the services know. ``down``: services that do not answer; ``calls``: what was asked of them."""

    empty: bool = False
    down: set[str] = field(default_factory=set)
    delay: float = 0.0
    verdict: r.DecisionVerdict = "too_close"
    choice: r.Choice | None = None
    progress: r.Progress | None = None
    checks: tuple[r.DataCheck, ...] = ()
    paused: bool = False
    uploads: dict[str, r.Upload] = field(default_factory=dict)
    runs: dict[str, list[r.Run]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    promotions: list[r.Promotion] = field(default_factory=list)
    champion: str = "7"
    advice: r.Advice | None = None
    problem: ControlRoomError | None = None
    role: r.UserRole = "admin"
    account_id: str | None = None
    me_problem: ControlRoomError | None = None
    keys: list[r.ApiKey] = field(default_factory=list)
    scenarios: dict[str, r.Scenario] = field(default_factory=dict)
    drift: r.Drift | None = None
    predicted: r.Drift | None = None
    gaps: bool = True
    jobs: dict[str, r.Job] = field(default_factory=dict)
    overrides: list[r.Judgement] = field(default_factory=list)
    alerts: list[r.Alert] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def add_job(self, job_id: str, state: str, **facts: Any) -> None:
        self.jobs[job_id] = job(job_id, state, **facts)

    def add_export(self, job_id: str, state: str, **facts: Any) -> None:
        nothing = {"filename": "predictions", "bytes": 0, "model": None, "data_version": None, "rows_refused": 0}
        self.jobs[job_id] = job(job_id, state, kind="export", **{**nothing, **facts})

    def full(self) -> World:
        self.uploads = {
            "u1": upload("u1", "ventas-2026.csv", "received"),
            "u2": upload("u2", "=cmd|'x'.csv", "processed", "OK"),
        }
        self.runs = {
            r.ETL_DAG: [run(r.ETL_DAG, "etl-1", "success", DAY)],
            r.RETRAIN_DAG: [
                run(r.RETRAIN_DAG, "re-2", "success", DAY / 2, RETRAIN_TASKS),
                run(r.RETRAIN_DAG, "re-1", "failed", DAY * 3, RETRAIN_TASKS),
            ],
        }
        self.promotions = [
            r.Promotion(promotion_id=2, at=NOW - DAY * 9, action="promote", version="7", previous="6",
                        actor="retrain_sales_model", reason="better by 6.1 %", decision=decision("better")),
            r.Promotion(promotion_id=1, at=NOW - DAY * 40, action="promote", version="6", previous=None,
                        actor="retrain_sales_model", reason="first model"),
        ]  # fmt: skip
        moved = {"sales": "none", "price": "strong", "promotion": "moderate"}
        self.drift = r.Drift(
            version="7", data_version="before", reference="year_before", reference_from=TODAY - DAY * 378,
            reference_to=TODAY - DAY * 365, date_from=TODAY - DAY * 14, date_to=TODAY - DAY, rows=168,
            rows_reference=168, features=tuple(
                r.FeatureDrift(feature=name, kind="numeric", psi=0.31, distance=0.2 + n / 10, noise=0.12, level=level)
                for n, (name, level) in enumerate(moved.items())
            ),
        )  # fmt: skip
        told = r.FeatureDrift(
            feature="prediction", kind="numeric", psi=0.4, distance=0.6, noise=0.1, level="strong"
        )  # fmt: skip
        self.predicted = self.drift.model_copy(update={"features": (told,), "reference": "recent", "rows": 336})
        facts: dict[r.AlertKind, dict[str, float | int | str]] = {
            "outside_band": {"days": 7, "outside": 3, "net": 120.0}, "bias": {"days": 10, "net": -88.0},
            "jump": {"expected": 210.0, "sold": 100.0}, "missing": {"days": 4}, "unseen": {"days": 30},
        }  # fmt: skip
        self.alerts = [
            r.Alert(kind=kind, store="S02", product="=P003", date_from=TODAY - DAY * 7, date_to=TODAY - DAY,
                    units=210.0 - 30 * n, facts=told)
            for n, (kind, told) in enumerate(facts.items())
        ]  # fmt: skip
        self.keys = [
            r.ApiKey(key_id="0a1b2c3d4e5f", name="=Cash registers", role="planner", created_at=NOW - DAY,
                     created_by="console", expires_at=NOW + DAY * 30, last_used_at=NOW - MINUTE),
            r.ApiKey(key_id="aaaaaaaaaaaa", name="Old report", role="viewer", created_at=NOW - DAY * 90,
                     created_by="console", expires_at=NOW - DAY),
        ]  # fmt: skip
        return self

    def asked(self, service: str, what: str) -> None:
        self.calls.append((service, what))
        time.sleep(self.delay)
        if service in self.down:
            raise ServiceDown(service, "no answer within 10 s")


def job(job_id: str, state: str, **facts: Any) -> r.Job:
    progress = r.JobProgress(rows_done=30_000, rows_total=120_000, chunks_done=1, chunks_total=4, share=0.25)
    values = {
        "job_id": job_id, "state": state, "filename": "rows.csv", "bytes": 9, "sha256": "0",
        "data_version": DATA_VERSION,
        "model": r.ModelRef(name="sales", version="7", alias="champion", run_id="run7"), "created_at": NOW - MINUTE,
        "created_by": "me", "progress": progress, "started_at": None if state == "queued" else NOW - MINUTE,
        "ended_at": None if state in ("queued", "running") else NOW,
    }  # fmt: skip
    return r.Job.model_validate({**values, **facts})


class FakeApi:
    """The methods of ``ApiClient``."""

    url = "http://127.0.0.1:8800"
    needs_token = False

    def __init__(self, world: World) -> None:
        self.world = world

    def health(self) -> r.Health:
        self.world.asked("api", "health")
        champion = None if self.world.empty else r.ModelRef(
            name="sales", version=self.world.champion, alias="champion", run_id="run7"
        )  # fmt: skip
        names = ("api", "champion", "mlflow", "airflow", "object store", "database")
        parts = [
            r.PartHealth(
                name=name, state="down" if name in self.world.down else "ok", latency_ms=3.4 + 9 * index,
                checked_at=dt.datetime.now(dt.UTC), detail="ConnectionError" if name in self.world.down else "",
            )
            for index, name in enumerate(names)
        ]  # fmt: skip
        return r.Health(
            status="degraded" if self.world.down else "ok", version="0.1.0", champion=champion,
            data_version=None if self.world.empty else DATA_VERSION,
            data_until=None if self.world.empty else TODAY - DAY, parity=None if self.world.empty else 0.00002,
            parts=tuple(parts),
        )  # fmt: skip

    def advice(self) -> r.Advice:
        self.world.asked("api", "advice")
        if self.world.advice is not None:
            return self.world.advice
        no_data: tuple[r.AdviceBlocker, ...] = (r.AdviceBlocker(code="no_data"),) if self.world.empty else ()
        away: tuple[r.AdviceBlocker, ...] = (
            (r.AdviceBlocker(code="airflow_away"),) if "airflow" in self.world.down else ()
        )
        if self.world.empty:
            reasons = (r.AdviceReason(code="no_champion", weight="strong"),)
        else:
            facts = {"rows": 84, "periods": 7, "share": 0.0018}
            reasons = (r.AdviceReason(code="new_rows", weight="none", facts=facts),)
        return r.Advice(
            verdict="blocked" if no_data or away else "wait", wanted=self.world.empty, reasons=reasons,
            blockers=no_data + away, champion=None if self.world.empty else self.world.champion,
            unknown=tuple(sorted(self.world.down & {"airflow", "mlflow", "database"})),
        )  # fmt: skip

    def snapshot(self) -> r.Snapshot:
        self.world.asked("api", "snapshot")
        if self.world.empty:
            raise NotFound("no snapshot has been published")
        return r.Snapshot(
            data_version=DATA_VERSION, created_at=NOW - DAY, frequency="D", horizon=28, unit="units/day", rows=48_000,
            rows_train=44_640, rows_test=3_360, rows_rejected=3, rows_filled=12, stores=3, products=4, series=12,
            date_from=TODAY - DAY * 400, date_to=TODAY - DAY, split_date=TODAY - DAY * 29, country="ES", columns={},
            regressors=(), missing_days="zero", encoding=r.Encoding(), sources=("u2",), decisions=(), files={},
            checks=self.world.checks, drift=self.world.drift,
        )  # fmt: skip

    def data_health(self) -> r.DataHealth:
        self.world.asked("api", "data-health")
        if self.world.empty:
            raise NoData()
        gap = 3 if self.world.gaps else 0
        return r.DataHealth(
            data_version=DATA_VERSION, importance={"sales": 0.5, "price": 0.3, "promotion": 0.2}, unseen=("=S04",),
            days=tuple(
                r.DataDay(date=TODAY - DAY * (56 - n), rows=12, missing=gap if n in (5, 6) else 0, sold=900.0)
                for n in range(56)
            ),
            stores=tuple(
                r.StoreDays(store=s, newest=TODAY - DAY, silent_days=2 * (s == "S02" and gap > 0), missing=0.01)
                for s in STORES
            ),
            predictions=self.world.predicted,
            outliers=tuple(
                r.Outlier(date=TODAY - DAY * n, store=STORES[n % 2], product="P001", sales=3.0, usual=40.0 + n)
                for n in range(4 * self.world.gaps)
            ),
        )  # fmt: skip

    def catalog(self) -> Catalog:
        self.world.asked("api", "catalog")
        if self.world.empty:
            raise NoData()
        series = tuple(
            r.SeriesInfo(store=store, product=product, date_from=TODAY - DAY * 400, date_to=TODAY - DAY, rows=400,
                         mean_sales=100 + index, last_price=9.99)
            for index, (store, product) in enumerate((s, p) for s in STORES for p in PRODUCTS)
        )  # fmt: skip
        return Catalog(stores=STORES, products=PRODUCTS, series=series, date_to=TODAY - DAY, horizon=28, frequency="D")

    def sales(self, store: str | None = None, product: str | None = None, since: dt.date | None = None) -> Any:
        self.world.asked("api", f"sales {store} {product} {since}")
        start = since or TODAY - DAY * 60
        days = [start + DAY * index for index in range((TODAY - start).days)]
        return tuple(
            r.SalesPoint(date=day, sales=sold(day), promotion=float(day.day % 10 == 0), price=9.99) for day in days
        )

    def predict(self, rows: Any, model: str = "champion", source: str = "console") -> Any:
        told = "predict" if source == "console" else f"predict {len(rows)} rows {model} {source}"
        self.world.asked("api", told)
        self._needs_champion()
        return tuple(self._predicted(row) for row in rows)

    def _predicted(self, row: r.PredictionInput) -> r.Answer:
        """A promotion doubles sales at most; half the price is beyond history."""
        promotion, price = row.promotion or 0.0, row.price or 9.99
        more = {} if price > 5 else {"support": r.Support(similar_days=0, level="none")}
        point = sold(row.date) * (1 + promotion)
        inputs = {"price": price, "promotion": promotion, "holiday": 0}
        return answer(row.date, row.store or "S01", row.product or "P001", prediction=point, inputs=inputs, **more)

    def differences(self, plan: r.ScenarioPlan, model: str = "champion") -> r.PlanDifferences:
        """A tenth of each difference; none for half the price."""
        self.world.asked("api", f"differences {len(plan.variants)} {model}")
        items = []
        for variant in plan.variants[1:]:
            units = 100.0 * sum(item.promotion or 0.0 for item in variant.days)
            beyond = sum(item.price is not None and item.price <= 5 for item in variant.days)
            items.append(
                r.PlanDifference(
                    name=variant.name, units=units, changed=len(variant.days), unsupported=beyond,
                    interval=None if beyond else {"80": (units - 20, units + 20), "95": (units - 30, units + 30)},
                )
            )  # fmt: skip
        ref = r.ModelRef(name="sales", version=model, alias=None, run_id="r")
        return r.PlanDifferences(model=ref, data_version=DATA_VERSION, items=tuple(items))

    def accuracy(self, by: Any, filters: Any) -> r.Accuracy:
        self.world.asked("api", f"accuracy {by} {dict(filters)}")
        if self.world.empty:
            return r.Accuracy(by=by, items=(), total=None)
        days = [str(TODAY - DAY * (28 - index)) for index in range(28)]
        keys = {"date": days, "horizon": ["1", "2"], "store": STORES, "product": PRODUCTS, "promotion": ["no", "yes"]}
        items = tuple(accuracy_row(key, index) for index, key in enumerate(keys[by]))
        return r.Accuracy(by=by, items=items, total=accuracy_row(None, 3))

    def scenarios(self) -> tuple[r.Scenario, ...]:
        self.world.asked("api", "scenarios")
        return tuple(self.world.scenarios.values())

    def scenario(self, scenario_id: str) -> r.Scenario:
        self.world.asked("api", f"scenario {scenario_id}")
        if scenario_id not in self.world.scenarios:
            raise NotFound("There is no scenario with this id.")
        return self.world.scenarios[scenario_id]

    def keep_scenario(self, scenario_id: str, plan: r.ScenarioPlan) -> r.Scenario:
        self.world.asked("api", f"keep {scenario_id}")
        self.world.scenarios[scenario_id] = r.Scenario(
            scenario_id=scenario_id, created_at=NOW, created_by="me", updated_at=NOW, plan=plan
        )
        return self.world.scenarios[scenario_id]

    def delete_scenario(self, scenario_id: str) -> None:
        self.world.asked("api", f"delete {scenario_id}")
        del self.world.scenarios[scenario_id]

    def explain(self, rows: list[r.PredictionInput], model: str = "champion") -> Any:
        self.world.asked("api", "explain")
        self._needs_champion()
        return tuple(why(row.date) for row in rows)

    def make_job(self, data: bytes, format: str, filename: str = "file", model: str = "champion") -> r.Job:
        self.world.asked("api", "make_job")
        self.world.jobs["job1"] = job("job1", "queued", filename=filename)
        return self.world.jobs["job1"]

    def make_export(self, filters: Any) -> r.Job:
        self.world.asked("api", f"make_export {dict(filters)}")
        self.world.add_export("export1", "queued")
        return self.world.jobs["export1"]

    def jobs(self, limit: int = 100, kind: str | None = None) -> tuple[r.Job, ...]:
        self.world.asked("api", "jobs")
        return tuple(job for job in self.world.jobs.values() if kind in (None, job.kind))

    def job(self, job_id: str) -> r.Job:
        self.world.asked("api", "job")
        if job_id not in self.world.jobs:
            raise NotFound("There is no job with this id.")
        return self.world.jobs[job_id]

    def cancel_job(self, job_id: str) -> r.Job:
        self.world.asked("api", "cancel_job")
        self.world.jobs[job_id] = job(job_id, "cancelled")
        return self.world.jobs[job_id]

    def job_result(self, job_id: str, format: str = "csv") -> bytes:
        return f"result {job_id} {format}".encode()

    def job_rejected(self, job_id: str, format: str = "csv") -> bytes:
        return f"rejected {job_id} {format}".encode()

    def predict_file(self, data: bytes, format: str, model: str = "champion") -> Any:
        self.world.asked("api", "predict_file")
        self._needs_champion()
        if data.count(b"\n") > 5000:
            raise TooLarge("At most 5,000 rows are answered at once.")
        wrong = r.RowError(row=3, field="date", code="date", message="is not a date")
        return (answer(TODAY), wrong, answer(TODAY + DAY, support=r.Support(similar_days=0, level="none")))

    def forecast(self, request: r.ForecastRequest) -> r.ForecastReply:
        self.world.asked("api", "forecast")
        self._needs_champion()
        days = [TODAY + DAY * index for index in range(request.horizon or 28)]
        answers = tuple(answer(day, request.stores[0], request.products[0]) for day in days)
        total = sum(a.prediction for a in answers)
        whole = r.Total(
            date_from=days[0], date_to=days[-1], prediction=total,
            interval={"80": (total * 0.93, total * 1.08), "95": (total * 0.88, total * 1.14)},
        )  # fmt: skip
        return r.ForecastReply(predictions=answers, total=total, unit="units/day", whole=whole)

    def _needs_champion(self) -> None:
        if self.world.problem:
            raise self.world.problem
        if self.world.empty:
            raise NoChampion()

    def history(self, filters: Any, cursor: str | None = None, limit: int = 100) -> r.HistoryPage:
        self.world.asked("api", f"history {dict(filters)} {cursor} {limit}")
        if self.world.empty:
            return r.HistoryPage(items=(), next_cursor=None)
        first = int(cursor or 0)
        items = tuple(history_item(first + index) for index in range(min(limit, 60)))
        return r.HistoryPage(items=items, next_cursor=str(first + 60) if first < 120 else None)

    def prediction(self, prediction_id: int) -> r.HistoryItem:
        self.world.asked("api", f"prediction {prediction_id}")
        if not 4000 < prediction_id <= 5000:
            raise NotFound(f"There is no prediction {prediction_id}.")
        return history_item(5000 - prediction_id)

    def replay(self, prediction_id: int) -> r.Replay:
        self.world.asked("api", f"replay {prediction_id}")
        item = history_item(5000 - prediction_id)
        now = item.prediction + 7 * (prediction_id % 2)
        return r.Replay(
            prediction_id=prediction_id, model_version="7", data_version=DATA_VERSION, manifest_sha256="ab",
            then=item.prediction, now=now, difference=now - item.prediction, tolerance=0.001,
            agrees=now == item.prediction, rows=1, unit=item.unit, interval_then=item.interval,
            interval_now=item.interval, seconds=0.1,
        )  # fmt: skip

    def retellings(self, version: str, filters: Any, limit: int = 100, cursor: str | None = None) -> r.Retellings:
        self.world.asked("api", f"retellings {version} {dict(filters)} {limit}")
        names = ("prediction_id", "created_at", "date", "store", "product", "unit", "data_version", "actual")
        items = tuple(
            r.Retold(**{name: getattr(item, name) for name in names}, version=item.model_version, then=item.prediction,
                     now=item.prediction + 2, interval_now=item.interval, learned=index >= 20)
            for index, item in enumerate(history_item(index) for index in range(40))
        )  # fmt: skip
        return r.Retellings(version=version, items=items, gone=3, judged=12, wape_then=0.21, wape_now=0.19)

    def overrides(self, filters: Any) -> tuple[r.Judgement, ...]:
        self.world.asked("api", f"overrides {dict(filters)}")
        return tuple(self.world.overrides)

    def put_override(self, asked: r.NewJudgement) -> r.Judgement:
        self.world.asked("api", f"put_override {asked.units} {asked.reason}")
        made = r.Judgement(**asked.model_dump(), override_id=1, made_by="me", made_at=NOW)
        self.world.overrides = [made] if asked.units is not None else []
        return made

    def uploads(self) -> tuple[r.Upload, ...]:
        self.world.asked("api", "uploads")
        return tuple(self.world.uploads.values())

    def upload(self, upload_id: str) -> r.Upload:
        self.world.asked("api", "upload")
        if upload_id not in self.world.uploads:
            raise NotFound("there is no such upload")
        return self.world.uploads[upload_id]

    def send(self, filename: str, data: bytes, purpose: r.Purpose | None = None) -> r.Upload:
        self.world.asked("api", "send")
        self.world.uploads["new"] = upload("new", filename, "received")
        if purpose == "attributes":
            self.world.uploads["new"] = attributes("new", filename)
        return self.world.uploads["new"]

    def check(self, upload_id: str, options: r.ReadOptions, mapping: r.Mapping | None) -> r.Upload:
        self.world.asked("api", "check")
        changed = self.world.uploads[upload_id].model_copy(update={"options": options, "mapping": mapping})
        self.world.uploads[upload_id] = changed
        return changed

    def accept(self, upload_id: str) -> r.Upload:
        self.world.asked("api", "accept")
        self.world.uploads[upload_id] = self.world.uploads[upload_id].model_copy(update={"status": "accepted"})
        return self.world.uploads[upload_id]

    def rejected(self, upload_id: str, format: str) -> bytes:
        self.world.asked("api", "rejected")
        return b"row,reason"

    def template(self, format: str) -> bytes:
        self.world.asked("api", f"template {format}")
        return b"date,sales"

    def etl(self, conf: dict[str, Any], once: str = "") -> r.Run:
        steps = ("collect", "validate", "clean", "split", "check", "publish", "tidy")
        return self._started(r.ETL_DAG, conf, steps)

    def retrain(self, conf: dict[str, Any], once: str = "") -> r.Run:
        return self._started(r.RETRAIN_DAG, conf, RETRAIN_TASKS)

    def _started(self, dag_id: str, conf: dict[str, Any], steps: tuple[str, ...]) -> r.Run:
        self.world.asked("api", f"start {dag_id} {conf}")
        for other in self.world.runs.get(dag_id, []):
            if other.active:
                raise Conflict(f"{dag_id} is already running as {other.run_id}.")
        started = run(dag_id, f"{dag_id}-next", "running", MINUTE, steps)
        self.world.runs.setdefault(dag_id, []).insert(0, started)
        return started

    def cancel_run(self, dag_id: str, run_id: str) -> r.Run:
        self.world.asked("api", f"cancel {run_id}")
        found = next(item for item in self.world.runs[dag_id] if item.run_id == run_id)
        ended = found.model_copy(update={"state": "failed", "ended_at": dt.datetime.now(dt.UTC)})
        self.world.runs[dag_id] = [ended if item.run_id == run_id else item for item in self.world.runs[dag_id]]
        return ended

    def pause(self, dag_id: str, paused: bool) -> r.Pipeline:
        self.world.asked("api", f"pause {dag_id} {paused}")
        self.world.paused = paused
        return r.Pipeline(dag_id=dag_id, paused=paused)

    def run(self, dag_id: str, run_id: str) -> r.Run:
        self.world.asked("api", f"run {run_id}")
        found = next(run for run in self.world.runs[dag_id] if run.run_id == run_id)
        return found.model_copy(update={"progress": self.world.progress})

    def models(self) -> tuple[r.ModelInfo, ...]:
        self.world.asked("api", "models")
        return self._models()

    def _models(self) -> tuple[r.ModelInfo, ...]:
        if self.world.empty:
            return ()
        ages = {"8": DAY / 2, "7": DAY * 9, "6": DAY * 40}
        return tuple(model_info(version, self._aliases(version), age) for version, age in ages.items())

    def _aliases(self, version: str) -> tuple[str, ...]:
        if version == self.world.champion:
            return ("champion",)
        return ("challenger",) if version == "8" else ()

    def model(self, version: str) -> r.ModelReport:
        self.world.asked("api", f"model {version}")
        info = next((item for item in self._models() if item.version == version), None)
        if info is None:
            raise NotFound("there is no such model")
        models = {"challenger": 0.179, "champion": 0.182, "seasonal_naive": 0.247, "moving_average": 0.231}
        verdict = self.world.verdict if version == "8" else "better"
        judged = evaluation(models).model_copy(update={"choice": self.world.choice})
        if version != "6":  # which is older than these figures
            judged = diagnosed(judged)
        return r.ModelReport(
            model=info, evaluation=judged, decision=decision(verdict), trials=TRIALS if version == "8" else (),
            importance={"max_depth": 0.9, "objective": 0.1} if version == "8" else {},
        )  # fmt: skip

    def promote(self, version: str, reason: str, actor: str, expected: str | None = None) -> r.Promotion:
        self.world.asked("api", "promote")
        assert expected == self.world.champion
        return self._moved("promote", version, reason, actor)

    def rollback(self, reason: str, actor: str, expected: str | None = None) -> r.Promotion:
        self.world.asked("api", "rollback")
        assert expected == self.world.champion
        return self._moved("rollback", "6", reason, actor)

    def reject(self, version: str, reason: str, actor: str) -> r.Promotion:
        self.world.asked("api", f"reject {version}")
        made = self._moved("reject", version, reason, actor)
        self.world.champion = str(made.previous)
        return made

    def _moved(self, action: Any, version: str, reason: str, actor: str) -> r.Promotion:
        made = r.Promotion(
            promotion_id=len(self.world.promotions) + 1, at=dt.datetime.now(dt.UTC), action=action, version=version,
            previous=self.world.champion, actor=actor, reason=reason,
        )  # fmt: skip
        self.world.promotions.append(made)
        self.world.champion = version
        return made

    def promotions(self) -> tuple[r.Promotion, ...]:
        self.world.asked("api", "promotions")
        return tuple(self.world.promotions)

    def champions(self, cursor: str | None = None, limit: int = 100) -> r.ChampionsPage:
        self.world.asked("api", "champions")
        moves = sorted(self.world.promotions, key=lambda move: move.at)
        ends = [*(move.at for move in moves[1:]), None][: len(moves)]
        reigns = [
            r.Reign(since=move.at, until=end, gain=move.decision.gain if move.decision else None,
                    **move.model_dump(include={"promotion_id", "version", "action", "previous", "actor", "reason"}))
            for move, end in zip(moves, ends, strict=True)
        ]  # fmt: skip
        return r.ChampionsPage(items=tuple(reversed(reigns)), next_cursor=None)

    def alerts(self, limit: int = 20) -> r.Alerts:
        self.world.asked("api", f"alerts {limit}")
        if self.world.empty:
            raise NoData()
        found = self.world.alerts[:limit]
        counts = {kind: sum(item.kind == kind for item in self.world.alerts) for kind in {i.kind for i in found}}
        unknown = ("database",) if "database" in self.world.down else ()
        return r.Alerts(data_version=DATA_VERSION, items=tuple(found), counts=counts, unknown=unknown)

    def accuracy_weeks(self, since: dt.date | None = None) -> tuple[r.VersionWeek, ...]:
        self.world.asked("api", f"accuracy weeks {since}")
        monday = TODAY - DAY * TODAY.weekday()
        return () if self.world.empty else tuple(
            r.VersionWeek(version=version, week=monday - DAY * 7 * back, rows=84, sold=900.0, error=900 * wape,
                          wape=wape)
            for back in range(5, 0, -1)
            for version, wape in (("6", 0.22), ("7", 0.19 + back / 100))
        )  # fmt: skip

    def me(self) -> r.Me:
        self.world.asked("api", "me")
        if self.world.me_problem:
            raise self.world.me_problem
        name = "Ana" if self.world.account_id else "this machine"
        return r.Me(name=name, role=self.world.role, account_id=self.world.account_id)

    def accounts(self) -> tuple[r.Account, ...]:
        self.world.asked("api", "accounts")
        assert self.world.role == "admin"
        return account("a1", "Ana", "admin"), account("a2", "=ben", "planner")

    def make_account(self, name: str, role: r.UserRole, password: str | None = None) -> r.NewAccount:
        self.world.asked("api", f"make_account {name} {role}")
        return r.NewAccount(account=account("a3", name, role), password="made-password")

    def change_account(
        self, account_id: str, role: r.UserRole | None = None, disabled: bool | None = None
    ) -> r.Account:
        self.world.asked("api", f"change_account {account_id} {role} {disabled}")
        return account(account_id, "=ben", role or "planner")

    def reset_password(self, account_id: str, password: str | None = None) -> r.NewAccount:
        self.world.asked("api", f"reset_password {account_id}")
        return r.NewAccount(account=account(account_id, "=ben", "planner"), password="made-password")

    def change_own_password(self, present: str, new: str) -> None:
        self.world.asked("api", "change_own_password")

    def audit(self, filters: Any, cursor: str | None = None, limit: int = 100) -> r.AuditPage:
        self.world.asked("api", f"audit {dict(filters)} {cursor}")
        assert self.world.role == "admin"
        if self.world.empty:
            return r.AuditPage(items=())
        rows = (("a2", "session.opened", {"address": "10.0.0.1"}), ("a1", "account.created", {"role": "planner"}))
        items = tuple(
            r.AuditEntry(entry_id=number, at=NOW, actor="root", action=action, subject="=ben", facts=facts)
            for number, action, facts in rows
        )
        return r.AuditPage(items=items, next_cursor=None if cursor else "older")

    def audit_words(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        self.world.asked("api", "audit_words")
        return ("root",), ("account.created", "session.opened")

    def keys(self) -> tuple[r.ApiKey, ...]:
        self.world.asked("api", "keys")
        assert self.world.role == "admin"
        return tuple(self.world.keys)

    def make_key(self, name: str, role: r.UserRole, days: int | None = None) -> r.NewApiKey:
        self.world.asked("api", f"make_key {name} {role} {days}")
        ends = NOW + DAY * days if days else None
        made = r.ApiKey(key_id="bbbbbbbbbbbb", name=name, role=role, created_at=NOW, created_by="me", expires_at=ends)
        self.world.keys.insert(0, made)
        return r.NewApiKey(secret="scr_bbbbbbbbbbbb_the-secret", key=made)

    def revoke_key(self, key_id: str) -> r.ApiKey:
        self.world.asked("api", f"revoke_key {key_id}")
        revoked = {"revoked_at": NOW, "revoked_by": "me"}
        self.world.keys = [k.model_copy(update=revoked) if k.key_id == key_id else k for k in self.world.keys]
        return next(key for key in self.world.keys if key.key_id == key_id)

    def limits(self) -> r.Limits:
        self.world.asked("api", "limits")
        return r.Limits(requests_per_minute=6_000, upload_mb=512, predict_rows=5_000, predict_mb=16,
                        forecast_rows=20_000, explain_rows=500, history_rows=1_000)  # fmt: skip


def account(account_id: str, name: str, role: r.UserRole) -> r.Account:
    return r.Account(
        account_id=account_id, name=name, kind="local", role=role, created_at=NOW - DAY, created_by="root",
        changed_at=NOW, changed_by="root", last_sign_in_at=NOW,
    )  # fmt: skip


def accuracy_row(key: str | None, index: int) -> r.AccuracyRow:
    """The higher its number, the more is missed; every seventh key is full of promotions."""
    wape = 0.15 + 0.01 * index
    return r.AccuracyRow(
        key=key, rows=120, sold=1000.0, error=1000 * wape, wape=wape, bias=-0.021, rmse=4.2,
        coverage={"80": 0.78, "95": 0.94}, naive_rows=120, naive_wape=wape + 0.07, wape_beside_naive=wape,
        override_rows=8, override_wape=0.21, wape_beside_override=0.20,
        promoted=100 if index % 7 == 6 else 10,
    )  # fmt: skip


def history_item(index: int) -> r.HistoryItem:
    day = TODAY - DAY * (index // 4)
    known = index >= 8
    point = sold(day)
    return r.HistoryItem(
        prediction_id=5000 - index, created_at=NOW - MINUTE * index, date=day, store=STORES[index % 3],
        product=PRODUCTS[index % 4], inputs={"price": 9.99, "note": "=HYPERLINK(1)"}, prediction=point,
        unit="units/day", interval={"80": (point * 0.85, point * 1.18), "95": (point * 0.72, point * 1.34)},
        model_version="7", data_version=DATA_VERSION, source="console", request_id=f"req-{index}", support=28,
        actual=point + 4 if known else None, error=-4.0 if known else None,
    )  # fmt: skip


class FakeAirflow:
    """The methods of ``AirflowClient``."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, dag_id: str, run_id: str) -> r.Run:
        self.world.asked("airflow", f"run {run_id}")
        found = next((item for item in self.world.runs.get(dag_id, []) if item.run_id == run_id), None)
        if found is None:
            raise NotFound("Airflow does not know this run")
        return found

    def runs(self, dag_id: str, limit: int = 30) -> tuple[r.Run, ...]:
        self.world.asked("airflow", f"runs {dag_id}")
        return tuple(self.world.runs.get(dag_id, []))

    def paused(self, dag_id: str) -> bool:
        self.world.asked("airflow", f"paused {dag_id}")
        return self.world.paused

    def pipeline(self, dag_id: str) -> r.Pipeline:
        self.world.asked("airflow", f"pipeline {dag_id}")
        return r.Pipeline(dag_id=dag_id, paused=self.world.paused, schedule="30 3 * * *", next_run_at=NOW + DAY)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        self.world.asked("airflow", "log")
        return "10:00:01 loading the snapshot\n10:00:02 ValueError: not enough history"

    def health(self) -> r.PartHealth:
        return _part("airflow", self.world)


class FakeMlflow:
    """The methods of ``MlflowClient``."""

    def __init__(self, world: World) -> None:
        self.world = world

    def runs(self, limit: int = 200) -> tuple[ExperimentRun, ...]:
        self.world.asked("mlflow", "runs")
        if self.world.empty:
            return ()
        etl = ExperimentRun(
            run_id="mlflow-etl", name="etl-1", experiment=r.ETL_DAG, status="FINISHED", started_at=NOW - DAY,
            ended_at=NOW - DAY + MINUTE, params={"data_version": DATA_VERSION}, tags={},
            metrics={"rows_in": 48_003.0, "rows_rejected": 3.0, "rows_clean": 48_012.0, "rows_filled": 12.0},
        )  # fmt: skip
        return etl, *(
            ExperimentRun(
                run_id=f"run{n}", name=f"retrain-{n}", experiment="sales", status="FINISHED", started_at=NOW - DAY * n,
                ended_at=NOW - DAY * n + MINUTE, params={"max_depth": str(5 + n % 4), "learning_rate": "0.05"},
                metrics={"wape": 0.179 + n / 1000, "rmse": 11.2}, tags={},
            )
            for n in range(1, 9)
        )  # fmt: skip

    def health(self) -> r.PartHealth:
        return _part("mlflow", self.world)


def _part(name: str, world: World) -> r.PartHealth:
    state: Any = "down" if name in world.down else "ok"
    return r.PartHealth(name=name, state=state, latency_ms=4.0, checked_at=dt.datetime.now(dt.UTC))


def services(world: World) -> session.Services:
    fakes: tuple[Any, Any, Any] = (FakeApi(world), FakeAirflow(world), FakeMlflow(world))
    return session.Services(Settings(**world.settings), *fakes)


# ---------------------------------------------------------------- fixtures


@pytest.fixture(autouse=True)
def _clean() -> Any:
    st.cache_resource.clear()
    st.cache_data.clear()
    yield
    i18n.follow(session.reader)


@pytest.fixture
def world() -> World:
    return World().full()


Open = Callable[..., AppTest]


class _FrameKnown(PagesManager):
    """AppTest forgets at every run what a server keeps: that the frame has run once. It forgets it here only."""


@pytest.fixture
def new_server(world: World, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page of a server in which nothing has run yet."""
    monkeypatch.setattr(session, "connect", lambda: services(world))

    def open_page(page: str = "", language: str = "en", **query: str) -> AppTest:
        app = AppTest.from_file(str(HOME), default_timeout=60)
        app.context = {"locale": {"en": "en-US", "es": "es-ES"}[language], "timezone": "Europe/Madrid"}
        app.query_params.update(query)
        if page:
            app.switch_page(f"pages/{page}.py")
        return app.run()

    return open_page


@pytest.fixture
def console(new_server: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page of the console: ``console("history", language="es", store="S01")``."""
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    monkeypatch.setattr(app_test, "PagesManager", _FrameKnown)
    return new_server


@pytest.fixture
def speak() -> Callable[[str], None]:
    """Set the reader outside of a session."""

    def to(language: str, locale: str | None = None) -> None:
        i18n.follow(lambda: i18n.Reader(language, locale or language, "Europe/Madrid"))

    return to


def said(app: AppTest) -> str:
    """Everything a person can read on the page, as one text."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "error", "warning", "info", "success", "metric")
    found = [element for kind in kinds for element in getattr(app, kind)]
    texts = [f"{getattr(item, 'label', '')} {getattr(item, 'value', '')}" for item in found]
    widgets = [
        *app.button, *app.selectbox, *app.text_input, *app.number_input, *app.toggle, *app.multiselect, *app.expander,
    ]  # fmt: skip
    texts += [str(getattr(widget, "label", "")) for widget in widgets]
    texts += [str(button.label) for button in app.download_button]
    return "\n".join(texts)


@pytest.fixture(name="said")
def _said() -> Callable[[AppTest], str]:
    return said
