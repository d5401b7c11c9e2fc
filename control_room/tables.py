"""Records as frames for tables and downloads. Numbers stay numbers; names of columns are the reader's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from control_room.clients.mlflow import ExperimentRun
from control_room.i18n import N_, amount, duration, gettext, moment, number, percent
from control_room.outcomes import Outcome, break_even
from control_room.words import (
    ACTIONS,
    DRIFT_LEVELS,
    INPUT_NAMES,
    MODEL_NAMES,
    RUN_STATES,
    SEGMENT_NAMES,
    SUPPORT_LEVELS,
    TOTAL_OVER,
    TOTAL_SPANS,
    WARNINGS,
    driver,
    segment_name,
    span,
    state,
    word,
)
from ml.records import (
    ETL_DAG,
    Accuracy,
    AccuracyRow,
    Answer,
    Disagreement,
    Drift,
    Evaluation,
    Explanation,
    FeatureDrift,
    HistoryItem,
    Judgement,
    Metrics,
    Outlier,
    PlanDifference,
    Reign,
    Retellings,
    Retold,
    RowError,
    Run,
    StoreDays,
    SumCoverage,
    TuningTrial,
    VersionWeek,
)

INPUTS = ("price", "promotion", "holiday")


def answers(rows: Sequence[Answer]) -> pd.DataFrame:
    """One row per answer, with the inputs as they were used."""
    return pd.DataFrame([_answer(row) for row in rows])


def _answer(row: Answer) -> dict[str, Any]:
    bounds = {
        f"{gettext(name)} {level} %": value
        for level, interval in row.interval.items()
        for name, value in zip((N_("low"), N_("high")), interval, strict=True)
    }
    return {
        gettext("Date"): row.date,
        gettext("Store"): row.store,
        gettext("Product"): row.product,
        gettext("Forecast"): row.prediction,
        **bounds,
        **{gettext(name.capitalize()): row.inputs[name] for name in INPUTS if row.inputs.get(name) is not None},
        gettext("Unit"): row.unit,
        gettext("Support"): state(SUPPORT_LEVELS, row.support.level)[1],
        gettext("Similar days"): row.support.similar_days,
        gettext("Similar days of siblings"): row.support.similar_sibling_days,
        gettext("Warnings"): " ".join(word(WARNINGS, code) for code in row.warnings),
        gettext("Model"): f"v{row.model.version}",
        gettext("Data version"): row.data_version,
    }


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """For reading: tenths of a unit, prices to the cent. Downloads keep every digit."""
    frame = frame.copy()
    exact = {gettext(name.capitalize()) for name in INPUTS}
    for name in frame.select_dtypes("number").columns:
        frame[name] = frame[name].round(2 if name in exact else 1)
    return frame


def contributions(told: Explanation) -> pd.DataFrame:
    """From the usual level to the forecast: what each thing adds, in units."""
    rows = [(gettext("Usual level"), told.base), *((driver(item.group), item.units) for item in told.contributions)]
    rows = [(name, units) for name, units in rows if abs(units) >= 0.05] + [(gettext("Forecast"), told.prediction)]
    return pd.DataFrame(rows, columns=[gettext("What"), gettext("Units")])


def row_errors(rows: Sequence[RowError]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {gettext("Row"): row.row, gettext("Field"): row.field or "", gettext("What is wrong"): row.message}
            for row in rows
        ]
    )


# ---------------------------------------------------------------- what if

Scored = Sequence[tuple[str, tuple[Outcome, ...]]]  # name of the model -> outcomes, baseline first


def what_if(models: Scored, ranges: Sequence[Sequence[PlanDifference]]) -> pd.DataFrame:
    """One row per scenario and model, with what it brings beside the baseline of the same model."""
    rows = []
    for (name, found), known in zip(models, ranges, strict=True):
        intervals = [None, *(item.interval for item in known)] if known else [None] * len(found)
        rows += [_brought(name, found[0], one, sure) for one, sure in zip(found, intervals, strict=True)]
    return pd.DataFrame(rows)


def _brought(
    model: str, baseline: Outcome, one: Outcome, sure: Mapping[str, tuple[float, float]] | None
) -> dict[str, Any]:
    beside = one is not baseline
    low, high = sure["80"] if sure else (None, None)
    return {
        gettext("Scenario"): one.name,
        gettext("Model"): model,
        gettext("Units"): one.units,
        gettext("± units"): one.units - baseline.units if beside else None,
        gettext("± low 80 %"): low,
        gettext("± high 80 %"): high,
        gettext("Revenue"): one.revenue,
        gettext("± revenue"): _less(one.revenue, baseline.revenue) if beside else None,
        gettext("Profit"): one.profit,
        gettext("± profit"): _less(one.profit, baseline.profit) if beside else None,
        gettext("Break-even"): break_even(baseline, one) if beside else None,
        gettext("Promoted days"): one.promotion_days,
        gettext("Days beyond history"): one.extrapolated,
    }


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def what_if_days(models: Scored) -> pd.DataFrame:
    """One row per day, scenario and model."""
    rows = [
        {gettext("Scenario"): one.name, **_answer(answer)}
        for _, found in models
        for one in found
        for answer in one.answers
    ]
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- history

# column of the frame -> heading
HISTORY = {
    "date": N_("Date"),
    "store": N_("Store"),
    "product": N_("Product"),
    "prediction": N_("Forecast"),
    "low_80": N_("low 80 %"),
    "high_80": N_("high 80 %"),
    "override": N_("By hand"),
    "actual": N_("Actual"),
    "error": N_("Error"),
    "model_version": N_("Model"),
    "support": N_("Similar days"),
    "source": N_("Asked by"),
    "created_at": N_("Asked at"),
    "data_version": N_("Data version"),
    "request_id": N_("Request id"),
}


Given = Mapping[tuple[str, str, str], Judgement]  # store, product and date -> what a person put beside


def history(items: Sequence[HistoryItem], given: Given = MappingProxyType({})) -> pd.DataFrame:
    """One row per prediction; ``id`` first, for the grid."""
    columns = ["id", *HISTORY]
    return pd.DataFrame([_history_row(item, given) for item in items], columns=columns)


def _history_row(item: HistoryItem, given: Given) -> dict[str, Any]:
    low, high = item.interval.get("80", (None, None))
    row = item.model_dump(mode="json", exclude={"prediction_id", "interval", "inputs", "unit"})
    judged = given.get((item.store, item.product, item.date.isoformat()))
    own = judged.units if judged else None
    return {"id": str(item.prediction_id), **row, "low_80": low, "high_80": high, "override": own}


def history_export(items: Sequence[HistoryItem], given: Given = MappingProxyType({})) -> pd.DataFrame:
    frame = history(items, given).rename(columns={name: gettext(title) for name, title in HISTORY.items()})
    return frame.rename(columns={"id": gettext("Prediction")})


def retold(told: Retellings) -> pd.DataFrame:
    """One row per question: what was said, what the other version says, what sold."""
    return pd.DataFrame([_retold(item, f"v{told.version}") for item in told.items])


def _retold(item: Retold, version: str) -> dict[str, Any]:
    return {
        gettext("Date"): item.date,
        gettext("Store"): item.store,
        gettext("Product"): item.product,
        gettext("Said then"): item.then,
        gettext("By"): f"v{item.version}",
        gettext("{version} says").format(version=version): item.now,
        gettext("Difference"): item.now - item.then,
        gettext("Actual"): item.actual,
        gettext("Note"): gettext("hindsight: it has learned from this day") if item.learned else "",
        gettext("Prediction"): item.prediction_id,
    }


# ---------------------------------------------------------------- accuracy

KEY_NAMES = {"date": N_("Day"), **SEGMENT_NAMES}


def accuracy(found: Accuracy) -> pd.DataFrame:
    """One row per key, shares as shares."""
    return pd.DataFrame([_accuracy_row(found.by, row) for row in found.items])


def _accuracy_row(by: str, row: AccuracyRow) -> dict[str, Any]:
    return {
        gettext(KEY_NAMES[by]): segment_name(by, str(row.key)),
        gettext("Rows"): row.rows,
        gettext("Sold"): row.sold,
        gettext("Units missed"): row.error,
        gettext("RMSE, units"): row.rmse,
        gettext("Error (WAPE)"): row.wape,
        gettext("Seasonal naive"): row.naive_wape,
        gettext("Bias"): row.bias,
        gettext("In the 80 % interval"): row.coverage.get("80"),
        gettext("In the 95 % interval"): row.coverage.get("95"),
    }


def shares(frame: pd.DataFrame) -> list[str]:
    """The columns that hold shares."""
    return list(frame.columns[5:])


def measure(row: AccuracyRow, name: str) -> str:
    """One measure as text in the reader's form."""
    if name in ("80", "95"):
        return percent(row.coverage.get(name))
    return amount(row.rmse) if name == "rmse" else percent(getattr(row, name), signed=name == "bias")


def value_added(total: AccuracyRow) -> pd.DataFrame | None:
    """Error of each step of forecasting and how much it takes off the step before, on the rows that have both."""
    found = [
        ("seasonal_naive", total.naive_wape, None, total.naive_rows),
        ("model", total.wape_beside_naive, total.naive_wape, total.naive_rows),
        ("override", total.override_wape, total.wape_beside_override, total.override_rows),
    ]
    if total.naive_wape is None:
        return None
    rows = [
        {
            gettext("Step"): word(MODEL_NAMES, step),
            gettext("Error (WAPE)"): percent(error),
            gettext("Taken off the step before"): "–" if before is None else percent(before - error, signed=True),
            gettext("Rows"): number(count),
        }
        for step, error, before, count in found
        if error is not None
    ]
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- data health


def store_days(found: Sequence[StoreDays]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                gettext("Store"): item.store,
                gettext("Newest day"): item.newest,
                gettext("Days without any row"): item.silent_days,
                gettext("Missing"): item.missing,
            }
            for item in found
        ]
    )


def outliers(found: Sequence[Outlier]) -> pd.DataFrame:
    """Those with the most units first."""
    return pd.DataFrame(
        [
            {
                gettext("Day"): item.date,
                gettext("Store"): item.store,
                gettext("Product"): item.product,
                gettext("Sold"): item.sales,
                gettext("Usual"): item.usual,
                gettext("Difference"): item.sales - item.usual,
            }
            for item in found
        ]
    )


def drift(found: Drift, importance: Mapping[str, float]) -> pd.DataFrame:
    """One row per input; the most important first."""
    ordered = sorted(found.features, key=lambda item: -importance.get(item.feature, 0.0))
    return pd.DataFrame(
        [
            {
                gettext("Input"): word(INPUT_NAMES, item.feature),
                gettext("Drift"): state(DRIFT_LEVELS, item.level)[1],
                gettext("Effect"): item.distance,
                gettext("Importance"): importance.get(item.feature),
                gettext("Index"): item.psi,
                gettext("Chance alone"): item.noise,
            }
            for item in ordered
        ]
    )


REFERENCES = {"year_before": N_("the same weeks a year before"), "recent": N_("the half year before")}


def told_and_sold(told: Drift | None, sold: Drift | None) -> pd.DataFrame:
    """Drift of the predictions and of the sales, as far as either was measured."""
    found = ((told, "prediction", gettext("Predictions")), (sold, "sales", gettext("Sales (the target)")))
    rows = [
        _moved(drift, item, name)
        for drift, feature, name in found
        if drift is not None
        for item in drift.features
        if item.feature == feature
    ]
    return pd.DataFrame(rows)


def _moved(drift: Drift, item: FeatureDrift, name: str) -> dict[str, Any]:
    return {
        gettext("What"): name,
        gettext("Drift"): state(DRIFT_LEVELS, item.level)[1],
        gettext("Effect"): item.distance,
        gettext("Index"): item.psi,
        gettext("Chance alone"): item.noise,
        gettext("Beside"): word(REFERENCES, drift.reference or ""),
        gettext("Days"): span(drift.date_from, drift.date_to),
        gettext("Rows"): drift.rows,
    }


# ---------------------------------------------------------------- experiments

METRICS = {
    "wape": N_("Error (WAPE)"),
    "bias": N_("Bias"),
    "rmse": N_("RMSE, units"),
    "mae": N_("Mean absolute error, units"),
    "rmspe": N_("RMSPE"),
    "pinball": N_("Error of the quantiles (pinball), units"),
    "80": N_("In the 80 % interval"),
    "95": N_("In the 95 % interval"),
}


def metrics(evaluation: Evaluation) -> pd.DataFrame:
    """Models side by side, a metric per row, as text in the reader's form."""
    frame = pd.DataFrame(
        {
            word(MODEL_NAMES, model): [_metric(found, name) for name in METRICS]
            for model, found in evaluation.overall.items()
        },
        index=[gettext(title) for title in METRICS.values()],
    )
    frame.index.name = gettext("Measure")
    return frame


def _metric(found: Metrics, name: str) -> str:
    if name in ("80", "95"):
        return percent(found.coverage.get(name))
    value = getattr(found, name)
    if name == "bias":
        return percent(value, signed=True)
    return percent(value) if name in ("wape", "rmspe") else number(value, 2)


def sums(evaluation: Evaluation, frequency: str) -> pd.DataFrame:
    """How often totals lay inside their intervals, a kind of total per row, as text in the reader's form."""
    return pd.DataFrame([_sum(item, frequency) for item in evaluation.sums])


def _sum(item: SumCoverage, frequency: str) -> dict[str, str]:
    over, span = item.kind.split("/")
    return {
        gettext("Total of"): word(TOTAL_OVER, over),
        gettext("Over"): word(TOTAL_SPANS.get(frequency, TOTAL_SPANS["D"]), span),
        gettext("Totals tested"): number(item.sums),
        **{gettext(METRICS[level]): percent(share) for level, share in item.coverage.items()},
    }


def disagreements(found: Sequence[Disagreement]) -> pd.DataFrame:
    """Those furthest apart first, with which model came nearer to what sold."""
    return pd.DataFrame([_disagreement(item) for item in found])


def _disagreement(item: Disagreement) -> dict[str, Any]:
    mine, theirs = abs(item.challenger - item.actual), abs(item.champion - item.actual)
    nearer = "challenger" if mine < theirs else "champion" if theirs < mine else ""
    return {
        gettext("Date"): item.date,
        gettext("Store"): item.store,
        gettext("Product"): item.product,
        gettext("Sold"): item.actual,
        word(MODEL_NAMES, "challenger"): item.challenger,
        word(MODEL_NAMES, "champion"): item.champion,
        gettext("Difference"): item.challenger - item.champion,
        gettext("Nearer"): word(MODEL_NAMES, nearer) if nearer else gettext("both alike"),
    }


def trials(found: Sequence[TuningTrial]) -> pd.DataFrame:
    """One row per trial, the best first."""
    ordered = sorted(found, key=lambda trial: trial.error)
    return pd.DataFrame([{gettext("Trial"): t.number, gettext("Error"): t.error, **t.params} for t in ordered])


def reigns(found: Sequence[Reign], weeks: Sequence[VersionWeek]) -> pd.DataFrame:
    """One row per time as champion, newest first, with the version's error over the given weeks."""
    return pd.DataFrame([_reign(item, [week for week in weeks if week.version == item.version]) for item in found])


def _reign(item: Reign, weeks: Sequence[VersionWeek]) -> dict[str, Any]:
    sold = sum(week.sold for week in weeks)
    return {
        gettext("Version"): f"v{item.version}",
        gettext("From"): moment(item.since),
        gettext("Until"): moment(item.until) if item.until else gettext("today"),
        gettext("What"): word(ACTIONS, item.action),
        gettext("Error in this span"): sum(week.error for week in weeks) / sold if sold > 0 else None,
        gettext("Gain when judged"): item.gain,
        gettext("Who"): item.actor,
        gettext("Why"): item.reason,
    }


FLOW_NAMES = {
    "rows_in": N_("Rows in"),
    "rows_rejected": N_("Rows left out"),
    "rows_clean": N_("Rows out"),
    "rows_filled": N_("of them added"),
    "rows_train": N_("for training"),
    "rows_test": N_("for testing"),
}
FLOW_COLUMNS = ("rows_in", "rows_rejected", "rows_clean")


def runs(found: Sequence[Run], logged: Mapping[str, ExperimentRun]) -> pd.DataFrame:
    """One row per run; ``logged`` are the MLflow runs by their names, which are the ids of the pipelines' runs."""
    return pd.DataFrame([_run(item, logged.get(item.run_id)) for item in found])


def _run(item: Run, logged: ExperimentRun | None) -> dict[str, Any]:
    metrics, params = (logged.metrics, logged.params) if logged else ({}, {})
    seconds = (item.ended_at - item.started_at).total_seconds() if item.ended_at and item.started_at else None
    row: dict[str, Any] = {
        gettext("Started"): moment(item.started_at),
        gettext("State"): state(RUN_STATES, item.state)[1],
        gettext("Took"): duration(seconds) if seconds is not None else None,
    }
    if item.dag_id == ETL_DAG:
        row |= {gettext(FLOW_NAMES[name]): metrics.get(name) for name in FLOW_COLUMNS}
    elif logged:
        row |= {gettext("Error (WAPE)"): percent(metrics.get("challenger_wape"))}
    return row | {gettext("Data version"): params.get("data_version"), gettext("Run"): item.run_id}


def experiment_runs(runs: Sequence[ExperimentRun]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """One row per MLflow run, then every metric and parameter that any run has; with the names of both."""
    # What models are judged by comes first.
    measured = sorted({name for run in runs for name in run.metrics}, key=lambda name: ("wape" not in name, name))
    given = sorted({name for run in runs for name in run.params})
    rows = [
        {
            "id": run.run_id,
            "name": run.name,
            "experiment": run.experiment,
            "status": run.status,
            "started_at": run.started_at.isoformat() if run.started_at else None,
            "seconds": (run.ended_at - run.started_at).total_seconds() if run.ended_at and run.started_at else None,
            **{f"metric {name}": run.metrics.get(name) for name in measured},
            **{f"param {name}": run.params.get(name) for name in given},
        }
        for run in runs
    ]
    return pd.DataFrame(rows), measured, given
