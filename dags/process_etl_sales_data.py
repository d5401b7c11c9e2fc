"""
# Sales data: raw files → one published snapshot

`collect → validate → clean → split → check → publish → tidy`

1. **collect** takes the uploads that were accepted in the console, the demo chain, or a file by path or URL, and the
   tables of store and product attributes.
2. **validate** merges them; a later upload wins for the same date, store and product. Rows that the contract left out
   are listed with their reasons.
3. **clean** makes a row for every period of every series, says what the added ones mean, and adds the attributes.
4. **split** cuts train and test in time, fits the standardisation on train only, and gives every category a code.
5. **check** looks for what should not be published (half of the business gone, prices a hundred times too high) and
   measures how far the data has moved from what the champion learned. An error stops the run here, with what to do;
   `publish_anyway` overrides it.
6. **publish** writes `train.parquet`, `test.parquet`, `series.parquet`, `data.json` (and `attributes.parquet`) to the
   object store under the content's hash and moves the pointer last: until then everyone keeps the old snapshot. It
   updates the asset `published_sales`, which retraining can be scheduled on.
7. **tidy** lets go of snapshots, run folders and files that the settings say are kept no longer.

The whole run is one MLflow run in the experiment `process_etl_sales_data`: parameters, row counts, rejected rows,
`data.json`, the checks and the drift. The same data gives the same `data_version`; every step can be run again. When it
runs by itself is said by the setting `CONTROL_ROOM_ETL_SCHEDULE`.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

from airflow.sdk import Asset, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

DAG_ID = "process_etl_sales_data"
WRONG = (404, 413, 422)  # status of errors (ml.errors) that say that the input itself cannot be used
PUBLISHED = Asset("published_sales")  # retrain_sales_model names the same
# Read here and not by ml.settings, whose import every parse of this file would pay for; the settings check the value.
SCHEDULE = os.environ.get("CONTROL_ROOM_ETL_SCHEDULE") or "manual"


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


@dag(
    dag_id=DAG_ID,
    schedule=None if SCHEDULE == "manual" else SCHEDULE,
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["sales", "data"],
    default_args={"retries": 2, "retry_delay": dt.timedelta(seconds=5)},
    params={
        "source": Param(
            "uploads",
            type="string",
            minLength=1,
            title="Source",
            description="`uploads` (accepted in the console), `demo`, `demo_next_week`, or a path or URL of a file.",
        ),
        "uploads": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Only these uploads",
            description="Upload ids; empty: all accepted ones.",
        ),
        "attributes": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Attributes",
            description="Tables of store or product attributes: upload ids, paths or URLs, the last wins; empty: all "
            "accepted ones; `none`: none.",
        ),
        "regressors": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Known in advance",
            description="Columns of a file given by path or URL that are known in advance; empty: as recognised.",
        ),
        "only_this": Param(False, type="boolean", title="Use only the file given by path or URL"),
        "publish_anyway": Param(
            False,
            type="boolean",
            title="Publish despite errors of the checks",
            description="For data that is meant to be so; what the checks found is kept with the snapshot.",
        ),
        "country": Param(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z]{2}$",
            title="Country",
            description="Whose public holidays; empty: the setting.",
        ),
        "missing_days": Param(
            None,
            type=["null", "string"],
            enum=[None, "auto", "zero", "unknown"],
            title="Days without a row",
            description="`zero` nothing sold, `unknown` not recorded, `auto` detected; empty: the setting.",
        ),
        "test_folds": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=12,
            title="Test part",
            description="In horizons (28 days or 8 weeks each); empty: the setting.",
        ),
    },
)
def process_etl_sales_data() -> None:
    @task
    def collect() -> dict[str, Any]:
        return run("collect")

    @task
    def validate() -> dict[str, Any]:
        return run("validate")

    @task
    def clean() -> dict[str, Any]:
        return run("clean")

    @task
    def split() -> dict[str, Any]:
        return run("split")

    @task
    def check() -> dict[str, Any]:
        return run("check")

    @task(outlets=[PUBLISHED])
    def publish() -> dict[str, Any]:
        done = run("publish")
        get_current_context()["outlet_events"][PUBLISHED].extra = done
        return done

    @task
    def tidy() -> dict[str, Any]:
        return run("tidy")

    collect() >> validate() >> clean() >> split() >> check() >> publish() >> tidy()


process_etl_sales_data()
