"""Following one run: a stepper with live states, times, the log of a failing task, cancel.

It polls only while the run is active; the run's id is in the address, so a reload or another page lose nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import streamlit as st

from control_room import asked, parts, session, words
from control_room.i18n import duration, gettext, moment, ngettext
from control_room.live import Seen
from control_room.words import DAG_NAMES, RUN_STATES, TASK_NAMES, TASK_STATES, state, word
from ml.records import ETL_DAG, RETRAIN_DAG, Run, TaskState, UserRole

POLL_SECONDS = 2.0
# While Airflow is away, a page that follows a run looks for it again less often.
AWAY_POLL_SECONDS = 10.0
MAY_START: dict[str, UserRole] = {ETL_DAG: "planner", RETRAIN_DAG: "analyst"}  # and cancel, and pause
COUNTED = ("tune", "backtest")  # steps that tell how far they are


def latest(dag_id: str) -> Run | None:
    """The newest run of a DAG that is known."""
    found = asked.runs(dag_id).value or ()
    return found[0] if found else None


def active(dag_id: str) -> Run | None:
    """The run that is queued or running, if one is known."""
    return next((run for run in asked.runs(dag_id).value or () if run.active), None)


def took(run: Run) -> float | None:
    """Seconds from start to end; until now for an active run."""
    if run.started_at is None:
        return None
    return ((run.ended_at or dt.datetime.now(dt.UTC)) - run.started_at).total_seconds()


def follow(dag_id: str, run_id: str, done: Callable[[Run], None] | None = None) -> None:
    """Show a run until it has ended; ``done`` draws what comes after."""
    seen = asked.run(dag_id, run_id)
    polling = seen.value.active if seen.value else seen.problem is not None and seen.problem.status >= 500
    every = None if not polling else AWAY_POLL_SECONDS if seen.problem else POLL_SECONDS
    st.fragment(_watch, run_every=every)(dag_id, run_id, polling)
    if seen.value and not seen.value.active and done:
        done(seen.value)


def _watch(dag_id: str, run_id: str, was_active: bool) -> None:
    seen = asked.run(dag_id, run_id)
    if seen.value is None:
        parts.need(seen, f"run-{dag_id}", still=gettext("The run itself goes on in Airflow."))
        return
    if was_active and not seen.value.active and not seen.stale:
        session.forget("airflow", "runs")
        session.forget("api")
        st.rerun()
    _draw(seen)


def _draw(seen: Seen[Run]) -> None:
    run = seen.value
    assert run is not None
    with st.container(border=True):
        _head(run)
        with st.grid(7, min_column_width=108):
            for task in run.tasks:
                _step(task)
        _counted(run)
        for task in run.tasks:
            if task.state in ("failed", "up_for_retry"):
                _log(run, task)
        parts.source(seen, "Airflow")
        if run.active and session.may(MAY_START.get(run.dag_id, "analyst")):
            _cancel(run)


def _head(run: Run) -> None:
    text = gettext("started {time}, {duration} so far") if run.active else gettext("started {time}, took {duration}")
    when = text.format(time=moment(run.started_at), duration=duration(took(run)))
    name, badge = word(DAG_NAMES, run.dag_id), parts.badge_text(state(RUN_STATES, run.state))
    st.markdown(f"**{name}** {badge} {when}")
    if run.tasks and run.active:
        ended = sum(task.state in ("success", "skipped") for task in run.tasks)
        progress = gettext("{ended} of {all} steps done").format(ended=ended, all=len(run.tasks))
        st.progress(ended / len(run.tasks), text=progress)


def _step(task: TaskState) -> None:
    icon, text, colour = state(TASK_STATES, task.state)
    with st.container(border=True, gap="xxsmall", height="stretch"):
        st.markdown(f"{icon} **{parts.plain(word(TASK_NAMES, task.task_id))}**")
        st.caption(f":{colour}[{text}]{_task_time(task)}")


def _counted(run: Run) -> None:
    """Trial or fold of the running step; nothing where the API does not tell."""
    running = [task.task_id for task in run.tasks if task.state == "running" and task.task_id in COUNTED]
    if not run.active or not running:
        return
    told = asked.progress(run.dag_id, run.run_id).value
    if told is not None and told.step == running[0]:
        st.progress(min(told.share, 1.0), text=words.progress(told))


def _task_time(task: TaskState) -> str:
    if task.started_at is None:
        return ""
    seconds = ((task.ended_at or dt.datetime.now(dt.UTC)) - task.started_at).total_seconds()
    again = "" if task.try_number < 2 else " · " + gettext("try {number}").format(number=task.try_number)
    return f" · {duration(seconds)}{again}"


def _log(run: Run, task: TaskState) -> None:
    """The last lines of what a failing task wrote."""
    seen = asked.task_log(run.dag_id, run.run_id, task.task_id, task.try_number)
    name = parts.plain(word(TASK_NAMES, task.task_id))
    with st.expander(gettext("Log of “{task}”").format(task=name), expanded=True, icon=":material/terminal:"):
        text = parts.need(seen, f"log-{task.task_id}")
        if text is not None:
            lines = text.splitlines()
            count = len(lines)
            st.caption(ngettext("Last {count} line", "Last {count} lines", count).format(count=count))
            st.code("\n".join(lines) or gettext("The log is empty."), language=None, height=260)


def _cancel(run: Run) -> None:
    with parts.popover(gettext("Cancel this run"), "cancel-run-box", icon=":material/cancel:"):
        st.markdown(gettext("Running steps are ended. What was published before stays as it is."))
        if st.button(gettext("Yes, cancel it"), key=f"cancel-{run.dag_id}", type="primary"):
            done = parts.attempt(lambda: session.services().api.cancel_run(run.dag_id, run.run_id), "cancel")
            if done is not None:
                parts.close("cancel-run-box")
                session.forget("airflow")
                st.rerun()
