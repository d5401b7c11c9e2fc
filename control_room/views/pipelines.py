"""The pipelines page: the two DAGs side by side, the last runs of one, and one run in detail."""

from __future__ import annotations

import statistics
from typing import Any

import pandas as pd
import streamlit as st

from control_room import address, asked, charts, exports, parts, session, tables
from control_room.i18n import ago, duration, gettext, moment, ngettext, number
from control_room.views import follow
from control_room.words import DAG_NAMES, RUN_STATES, TASK_NAMES, TASK_STATES, schedule, state, word
from ml.records import ETL_DAG, RETRAIN_DAG, Pipeline, Run, TaskState

DAGS = (ETL_DAG, RETRAIN_DAG)
# What the ETL counts on its way, as it stands in MLflow.
IDS = ("request_id", "traceparent")  # of a run's conf: who asked, not what for
FLOW = ("rows_in", "rows_rejected", "rows_clean", "rows_filled", "rows_train", "rows_test")


# ---------------------------------------------------------------- what is true now


def lead() -> None:
    sentence, tone = _sentence()
    parts.lead(gettext("Pipelines"), sentence, tone, stale=any(asked.runs(dag_id).stale for dag_id in DAGS))


def _sentence() -> tuple[str, parts.Tone]:
    found = {dag_id: asked.runs(dag_id) for dag_id in DAGS}
    if any(seen.problem is not None for seen in found.values()):
        return gettext("It cannot be said now how the pipelines are: Airflow does not answer."), "bad"
    if active := next((run for seen in found.values() for run in seen.value or () if run.active), None):
        text = gettext("{name} is running, for {duration} so far.")
        return text.format(name=word(DAG_NAMES, active.dag_id), duration=duration(follow.took(active))), "plain"
    last = [seen.value[0] for seen in found.values() if seen.value]
    if not last:
        return gettext("No pipeline has run yet."), "attention"
    if paused := [word(DAG_NAMES, dag_id) for dag_id in DAGS if asked.paused(dag_id).value]:
        return gettext("Nothing is running; paused in Airflow: {names}.").format(names=", ".join(paused)), "attention"
    if failed := [word(DAG_NAMES, run.dag_id) for run in last if run.state == "failed"]:
        return gettext("Nothing is running; the last run failed: {names}.").format(names=", ".join(failed)), "attention"
    told = ", ".join(f"{word(DAG_NAMES, run.dag_id)} {ago(run.ended_at)}" for run in last)
    return gettext("Nothing is running; the last runs ended well: {told}.").format(told=told), "good"


# ---------------------------------------------------------------- both side by side


def cards() -> None:
    """Schedule, next run, how the last runs went; the switch for those who may start runs."""
    grid = st.grid(2, min_column_width=220, gap="medium")
    for dag_id in DAGS:
        with grid.cell(), st.container(border=True, height="stretch"):
            st.markdown(f"**{word(DAG_NAMES, dag_id)}**")
            _card(dag_id)


def _card(dag_id: str) -> None:
    seen = asked.pipeline(dag_id)
    pipeline = parts.need(seen, f"pipeline-{dag_id}", still=gettext("Forecasts go on without it."))
    if pipeline is None:
        return
    found = asked.runs(dag_id).value or ()
    facts = {gettext("Schedule"): parts.plain(schedule(pipeline.schedule))}
    if pipeline.next_run_at is not None:
        facts[gettext("Next run")] = moment(pipeline.next_run_at)
    count = len(found)
    facts[ngettext("Last run", "Last {count} runs", count).format(count=number(count))] = _record(found)
    parts.facts(facts, dag_id)
    parts.source(seen, "Airflow")
    _switch(pipeline)


def _record(found: tuple[Run, ...]) -> str:
    ended = [run for run in found if not run.active]
    if not ended:
        return gettext("none has ended yet")
    good = [run for run in ended if run.state == "success"]
    text = gettext("{good} of {all} ended well").format(good=number(len(good)), all=number(len(ended)))
    times = [seconds for run in good if (seconds := follow.took(run)) is not None]
    if not times:
        return text
    return f"{text} · " + gettext("typically {typical}").format(typical=duration(statistics.median(times)))


def _switch(pipeline: Pipeline) -> None:
    name = word(DAG_NAMES, pipeline.dag_id)
    if pipeline.paused:
        st.warning(gettext("Paused: a run that is started waits until it is unpaused."), icon=":material/pause_circle:")
    if not session.may(follow.MAY_START.get(pipeline.dag_id, "analyst")):
        return
    label = gettext("Unpause {name}") if pipeline.paused else gettext("Pause {name}")
    icon = ":material/play_circle:" if pipeline.paused else ":material/pause_circle:"
    if st.button(label.format(name=name), key=f"pause-{pipeline.dag_id}", icon=icon):
        api = session.services().api
        if parts.attempt(lambda: api.pause(pipeline.dag_id, not pipeline.paused), f"pause-{pipeline.dag_id}"):
            session.forget("airflow")
            st.rerun()


# ---------------------------------------------------------------- the last runs of one


def which() -> str:
    """Which pipeline is looked at; kept in the address."""
    return address.segments(gettext("Pipeline"), DAGS, "dag", lambda code: word(DAG_NAMES, code))


def runs(dag_id: str) -> Run | None:
    """The last runs, and the one that is looked at: that of the address, else the newest."""
    parts.section(gettext("Last runs"))
    seen = asked.runs(dag_id)
    found = parts.need(seen, "runs", still=gettext("Forecasts go on without it."))
    if found is None:
        return None
    if not found:
        page = "upload" if dag_id == ETL_DAG else "retrain"
        label = gettext("Load your sales") if dag_id == ETL_DAG else gettext("Train a model")
        parts.empty(gettext("It has not run yet."), f"pages/{page}.py", label)
        return None
    parts.chart(charts.runs_chart(found, dark=session.dark()), f"runs-{dag_id}")
    logged = {item.name: item for item in asked.experiment_runs().value or ()}
    frame = tables.runs(found, logged)
    st.dataframe(
        frame, hide_index=True, column_config=_columns(frame), placeholder="–",
        alt=gettext("Last runs"),
    )  # fmt: skip
    parts.source(seen, gettext("Airflow; rows and data from MLflow"))
    parts.downloads(lambda: frame, f"runs-{dag_id}", {gettext("What"): word(DAG_NAMES, dag_id)}, "pipeline-runs")
    return _chosen(found)


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(format="localized") for name in frame.select_dtypes("number").columns}


def _chosen(found: tuple[Run, ...]) -> Run:
    named = {run.run_id: f"{moment(run.started_at)} · {state(RUN_STATES, run.state)[1]}" for run in found}
    with st.container(width=380):
        run_id = address.select(
            gettext("Run to look at"), list(named), found[0].run_id, "run", lambda code: named.get(code, code)
        )
    return next(run for run in found if run.run_id == run_id)


# ---------------------------------------------------------------- one run


def one_run(run: Run | None) -> None:
    """Its tasks with state and time; followed while it is active."""
    if run is not None:
        follow.follow(run.dag_id, run.run_id)


def flow(run: Run | None) -> None:
    """What went in and out of an ETL run, and which data a run made or used."""
    if run is None:
        return
    logged = next((item for item in asked.experiment_runs().value or () if item.name == run.run_id), None)
    if logged is None:
        return
    counted = {name: logged.metrics[name] for name in FLOW if name in logged.metrics}
    parts.section(gettext("What went in and out") if counted else gettext("Data of the run"))
    if counted:
        with st.grid(6, min_column_width=120):
            for name, count in counted.items():
                st.metric(gettext(tables.FLOW_NAMES[name]), number(count), border=True)
    about = {gettext("Data version"): f"`{parts.plain(logged.params.get('data_version', '–'))}`"}
    if conf := {name: value for name, value in run.conf.items() if value is not None and name not in IDS}:
        about[gettext("Started with")] = parts.plain(", ".join(f"{name} = {value}" for name, value in conf.items()))
    if request_id := run.conf.get("request_id"):
        about[gettext("Request id")] = f"`{parts.plain(str(request_id))}`"
    parts.facts(about, "flow")
    parts.source(asked.experiment_runs(), "MLflow")
    if run.dag_id == ETL_DAG and counted.get("rows_rejected"):
        _rejected(run.run_id)


def _rejected(run_id: str) -> None:
    with st.container(horizontal=True):
        for form, mime in (("csv", exports.CSV_MIME), ("xlsx", exports.XLSX_MIME)):
            st.download_button(
                gettext("Rows left out, with reasons ({format})").format(format=form.upper()),
                _rejected_of(run_id, form),
                f"rows-left-out.{form}",
                mime,
                key=f"run-rejected-{form}",
                icon=":material/download:",
                on_click="ignore",
            )


def _rejected_of(run_id: str, form: Any) -> Any:
    api = session.services().api  # the download runs in another thread, which has no session
    return lambda: api.run_rejected(run_id, form)


def log(run: Run | None) -> None:
    """The last lines of one task's log; of the failed one to begin with."""
    if run is None:
        return
    tasks = {task.task_id: task for task in _tasks(run) if task.started_at is not None}
    if not tasks:
        return
    parts.section(gettext("Log of a step"))
    names = list(tasks)
    first = next((name for name, task in tasks.items() if task.state == "failed"), names[-1])
    with st.container(width=380):
        chosen = address.select(gettext("Step"), names, first, "step", lambda code: _task_name(tasks[code]))
    task = tasks[chosen]
    seen = asked.task_log(run.dag_id, run.run_id, chosen, task.try_number)
    text = parts.need(seen, "task-log")
    if text is not None:
        st.code(text or gettext("The log is empty."), language=None, height=320, wrap_lines=True)
        st.download_button(
            gettext("Download these lines"), text, f"{run.run_id}-{chosen}.log", "text/plain", key="log-file",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        parts.source(seen, gettext("Airflow, the last lines"))


def _tasks(run: Run) -> tuple[TaskState, ...]:
    detailed = asked.run(run.dag_id, run.run_id).value
    return detailed.tasks if detailed else ()


def _task_name(task: TaskState) -> str:
    return f"{word(TASK_NAMES, task.task_id)} · {state(TASK_STATES, task.state)[1]}"
