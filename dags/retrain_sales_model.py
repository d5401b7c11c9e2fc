"""
# Sales model: train a challenger, judge it, promote it if it is better

`snapshot → tune → backtest → train → decide → promote → confirm`

1. **snapshot** fixes the data version that the whole run uses, from the object store.
   Started by itself, it ends here when the champion has learned from that very data.
2. **tune** searches parameters with Optuna on a fold before the judged ones; linear and naive models race there too.
   The study is kept in PostgreSQL: killed, it goes on at the trial it had reached.
3. **backtest** trains challenger, champion's recipe and baselines at each rolling origin and judges the same rows.
4. **train** fits the challenger on everything, takes its intervals from the backtest, registers it in MLflow.
5. **decide** puts the evidence before the gate: better, worse, or too close to call.
6. **promote** moves the alias `champion` under a lock, with one audit row; with policy `approval` a manager does it.
7. **confirm** waits until the API serves the champion and its golden rows agree.

A failed run leaves the champion as it is. Every step can be run again. When it runs by itself is said by the setting
`CONTROL_ROOM_RETRAIN_SCHEDULE`: never, on the asset `published_sales` (after each ETL), or by the clock.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

from airflow.sdk import Asset, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

DAG_ID = "retrain_sales_model"
WRONG = (404, 413, 422)  # status of errors (ml.errors) that say that the input itself cannot be used
PUBLISHED = Asset("published_sales")  # updated by process_etl_sales_data
# Read here and not by ml.settings, whose import every parse of this file would pay for; the settings check the value.
SCHEDULE = os.environ.get("CONTROL_ROOM_RETRAIN_SCHEDULE") or "manual"
BY_ITSELF = ("asset_triggered", "scheduled")  # types of runs that no person has started


def run(step: str) -> dict[str, Any]:
    """Hand one step of this run to ``ml.jobs``; heavy imports happen in the task's own process.

    What is wrong with data or parameters stays wrong: only what may pass, as a service that is away, is tried again.
    """
    import structlog

    from ml.jobs import run_step

    context = get_current_context()
    conf = dict(context["params"])
    # Airflow writes a task's log, one JSON object per line: these stand in each, as in the API's
    trace_id = str(conf.get("traceparent") or "")[3:35]
    structlog.contextvars.bind_contextvars(request_id=conf.get("request_id"), trace_id=trace_id)
    try:
        return run_step(DAG_ID, step, context["run_id"], conf)
    except Exception as error:
        if getattr(error, "status", 500) in WRONG:
            raise AirflowFailException(str(error)) from error
        raise


def skip_what_is_known(found: dict[str, Any]) -> dict[str, Any]:
    """End a run that no person has started when the champion has learned from this very data."""
    if found["unchanged"] and get_current_context()["dag_run"].run_type in BY_ITSELF:
        raise AirflowSkipException("The champion has learned from this data: there is nothing to find out.")
    return found


@dag(
    dag_id=DAG_ID,
    schedule=None if SCHEDULE == "manual" else [PUBLISHED] if SCHEDULE == "on_new_data" else SCHEDULE,
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["sales", "model"],
    default_args={"retries": 2, "retry_delay": dt.timedelta(seconds=5)},
    params={
        "trials": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=1000,
            title="Tuning trials",
            description="Optuna trials; 0 keeps the known good parameters; empty: the setting.",
        ),
        "tune_seconds": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=86_400,
            title="Tuning seconds",
            description="No trial starts after so many seconds, the first excepted; empty: the setting.",
        ),
        "folds": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=12,
            title="Backtest folds",
            description="Rolling origins that all models are judged on; empty: the setting.",
        ),
        "window_days": Param(
            None,
            type=["null", "integer"],
            minimum=56,
            title="Training window",
            description="Train on this many last days; empty: on everything.",
        ),
        "policy": Param(
            None,
            type=["null", "string"],
            enum=[None, "auto", "approval"],
            title="Promotion",
            description="`auto` promotes a better challenger, `approval` leaves it to a manager; empty: the setting.",
        ),
        "min_gain": Param(
            None,
            type=["null", "number"],
            minimum=0,
            maximum=0.5,
            title="Gate: least gain",
            description="Share by which the error must be smaller than the champion's; empty: the usual.",
        ),
        "confidence": Param(
            None,
            type=["null", "number"],
            minimum=0.5,
            maximum=0.999,
            title="Gate: confidence",
            description="Of the interval of the gain, which must lie above 0; empty: the usual.",
        ),
        "max_segment_loss": Param(
            None,
            type=["null", "number"],
            minimum=0,
            maximum=1,
            title="Gate: largest loss of a segment",
            description="Share by which the error of a large store or of promotions may grow; empty: the usual.",
        ),
        "coverage_band": Param(
            None,
            type=["null", "number"],
            minimum=0.01,
            maximum=0.5,
            title="Gate: band of coverage",
            description="How far the intervals' coverage may be from what they say, as a share; empty: the usual.",
        ),
        "monotone": Param(
            "auto",
            type="string",
            enum=["auto", "off", "price", "price_promotion"],
            title="Price and promotion work the right way only",
            description="`price`: demand never rises with price; `price_promotion`: nor falls with promotion; "
            "`off`: as the data says; `auto`: both, unless the tuning fold's error grows by more than 1 %.",
        ),
        "metric": Param("wape", type="string", enum=["wape", "rmspe"], title="Tuning metric"),
        "seed": Param(
            None, type=["null", "integer"], minimum=0, title="Seed", description="Empty: follows from the run id."
        ),
    },
)
def retrain_sales_model() -> None:
    @task
    def snapshot() -> dict[str, Any]:
        return skip_what_is_known(run("snapshot"))

    @task
    def tune() -> dict[str, Any]:
        return run("tune")

    @task
    def backtest() -> dict[str, Any]:
        return run("backtest")

    @task
    def train() -> dict[str, Any]:
        return run("train")

    @task
    def decide() -> dict[str, Any]:
        return run("decide")

    @task
    def promote() -> dict[str, Any]:
        return run("promote")

    @task
    def confirm() -> dict[str, Any]:
        return run("confirm")

    snapshot() >> tune() >> backtest() >> train() >> decide() >> promote() >> confirm()


retrain_sales_model()
