"""
# Sales model: train a challenger, judge it, promote it if it is better

`snapshot → tune → backtest → train → decide → promote → confirm`

1. **snapshot** fixes the data version that the whole run uses, from the object store.
2. **tune** searches parameters with Optuna on a fold before the judged ones; linear and naive models race there too.
3. **backtest** trains challenger, champion's recipe and baselines at each rolling origin and judges the same rows.
4. **train** fits the challenger on everything, takes its intervals from the backtest, registers it in MLflow.
5. **decide** puts the evidence before the gate: better, worse, or too close to call.
6. **promote** moves the alias `champion` under a lock, with one audit row; with policy `approval` a manager does it.
7. **confirm** waits until the API serves the champion and its golden rows agree.

A failed run leaves the champion as it is. Every step can be run again.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

DAG_ID = "retrain_sales_model"


def run(step: str) -> dict[str, Any]:
    """Hand one step of this run to ``ml.jobs``; heavy imports happen in the task's own process."""
    from ml.jobs import run_step

    context = get_current_context()
    return run_step(DAG_ID, step, context["run_id"], dict(context["params"]))


@dag(
    dag_id=DAG_ID,
    schedule=None,
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
        return run("snapshot")

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
