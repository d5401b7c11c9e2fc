"""What a worker does, files that it predicts and exports that it writes: how far one is, its result, those before.

A job's id is in the address, so a reload or another page lose nothing; it is polled only while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from control_room import asked, exports, parts, session
from control_room.clients.api import FileFormat, ResultFormat
from control_room.i18n import duration, gettext, moment, ngettext, number
from control_room.live import Seen
from control_room.words import JOB_STATES, state
from ml.records import Job, JobKind

POLL_SECONDS = 1.0
AWAY_POLL_SECONDS = 10.0
PARQUET_MIME = "application/vnd.apache.parquet"
SHEET_ROWS = 1_000_000  # about what a sheet of Excel holds
TABLES: dict[FileFormat, str] = {"csv": exports.CSV_MIME, "xlsx": exports.XLSX_MIME}
ADDRESSES = {"predict": "predict?way=file&", "export": "history?"}
RESULTS: dict[ResultFormat, str] = {"csv": exports.CSV_MIME, "xlsx": exports.XLSX_MIME, "parquet": PARQUET_MIME}


def begin(data: bytes, form: ResultFormat, filename: str) -> None:
    """Hand a file to the worker, and follow its job in the address."""
    _follow(parts.attempt(lambda: session.services().api.make_job(data, form, filename), "job"))


def export(filters: Mapping[str, Any]) -> None:
    """Have all logged predictions that fit written into a file, and follow that in the address."""
    _follow(parts.attempt(lambda: session.services().api.make_export(filters), "job"))


def _follow(job: Job | None) -> None:
    if job is not None:
        session.forget("api", "jobs")
        st.query_params["job"] = job.job_id


def followed() -> None:
    """The job of the address, if there is one."""
    job_id = st.query_params.get("job")
    if not job_id:
        return
    seen = asked.job(job_id)
    polling = seen.value.active if seen.value else seen.problem is not None and seen.problem.status >= 500
    every = None if not polling else AWAY_POLL_SECONDS if seen.problem else POLL_SECONDS
    st.fragment(_watch, run_every=every)(job_id, polling)


def _watch(job_id: str, was_active: bool) -> None:
    seen = asked.job(job_id)
    if seen.value is None:
        parts.need(seen, f"job-{job_id}", still=gettext("It is worked on all the same."))
        return
    if was_active and not seen.value.active and not seen.stale:
        session.forget("api", "jobs")
        st.rerun()
    _draw(seen)


def _draw(seen: Seen[Job]) -> None:
    job = seen.value
    assert job is not None
    with st.container(border=True):
        st.markdown(f"**{_title(job)}** {parts.badge_text(state(JOB_STATES, job.state))} {_when(job)}")
        if job.active:
            st.progress(min(job.progress.share, 1.0), text=_progress(job))
        if job.error:
            (st.error if job.state == "failed" else st.warning)(parts.plain(job.error))
        if job.rows_refused:
            _refused(job)
        if job.state == "done":
            _results(job)
        parts.source(seen, "GET /v1/jobs")
        if job.active and not job.cancelling and session.may("planner"):
            _cancel(job)


def _title(job: Job) -> str:
    return gettext("All predictions that fit") if job.kind == "export" else parts.plain(job.filename)


def _when(job: Job) -> str:
    if job.started_at is None:
        return gettext("came {time}, waits for the worker").format(time=moment(job.created_at))
    if job.ended_at is None:
        return gettext("began {time}").format(time=moment(job.started_at))
    took = (job.ended_at - job.started_at).total_seconds()
    return gettext("began {time}, took {duration}").format(time=moment(job.started_at), duration=duration(took))


def _progress(job: Job) -> str:
    if job.cancelling:
        return gettext("It ends after the present part.")
    if job.progress.rows_total is None:
        return gettext("The rows are being counted.") if job.kind == "export" else gettext("The file is being read.")
    return gettext("{done} of {all} rows").format(
        done=number(job.progress.rows_done), all=number(job.progress.rows_total)
    )


def _refused(job: Job) -> None:
    text = ngettext(
        "{count} row could not be used; it is listed with its reason.",
        "{count} rows could not be used; each is listed with its reason.",
        job.rows_refused or 0,
    )
    st.warning(text.format(count=number(job.rows_refused)), icon=":material/warning:")
    with st.container(horizontal=True):
        for form, mime in TABLES.items():
            _download(
                gettext("Rows left out ({form})").format(form=form.upper()), f"rejected-{job.job_id}.{form}", mime,
                partial(session.services().api.job_rejected, job.job_id, form),
            )  # fmt: skip


def _results(job: Job) -> None:
    rows = job.progress.rows_done
    if job.kind == "export" and not rows:
        parts.empty(gettext("No prediction fits these filters. Clear one of them."))
        return
    st.success(_outcome(job, rows))
    with st.container(horizontal=True):
        for form, mime in RESULTS.items():
            if form != "xlsx" or rows <= SHEET_ROWS:
                _download(
                    gettext("Download {form}").format(form=form.upper()), f"predictions-{job.job_id}.{form}", mime,
                    partial(session.services().api.job_result, job.job_id, form),
                )  # fmt: skip


def _outcome(job: Job, rows: int) -> str:
    if job.model is None:
        text = ngettext("{count} prediction was written.", "{count} predictions were written.", rows)
        return text.format(count=number(rows))
    text = ngettext(
        "{count} row was predicted by v{version}; it is in the history.",
        "{count} rows were predicted by v{version}; each is in the history.",
        rows,
    )
    return text.format(count=number(rows), version=parts.plain(job.model.version))


def _download(label: str, name: str, mime: str, made: Callable[[], bytes]) -> None:
    st.download_button(label, made, name, mime, key=f"get-{name}", on_click="ignore", icon=":material/download:")


def _cancel(job: Job) -> None:
    with parts.popover(gettext("Cancel"), "cancel-job-box", icon=":material/cancel:"):
        if job.kind == "predict":
            st.markdown(gettext("What has been predicted stays in the history; there will be no result to download."))
        else:
            st.markdown(gettext("Nothing is lost: the predictions stay in the history."))
        if st.button(gettext("Yes, cancel it"), key="cancel-job", type="primary"):
            done = parts.attempt(lambda: session.services().api.cancel_job(job.job_id), "cancel-job")
            if done is not None:
                parts.close("cancel-job-box")
                session.forget("api", "jobs")
                st.rerun()


def recent(kind: JobKind) -> None:
    """The ones before, each with a link to it."""
    found = asked.jobs(kind).value
    if not found:
        return
    titles = {"predict": gettext("Files predicted in the background"), "export": gettext("Earlier exports")}
    with st.expander(titles[kind], icon=":material/history:"):
        st.dataframe(
            _table(found), hide_index=True,
            column_config={
                gettext("Open"): st.column_config.LinkColumn(display_text=gettext("open")),
                gettext("Done"): st.column_config.ProgressColumn(min_value=0.0, max_value=1.0, format="percent"),
            },
        )  # fmt: skip


def _table(found: tuple[Job, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **({gettext("File"): exports.as_text(job.filename)} if job.kind == "predict" else {}),
                gettext("State"): gettext(JOB_STATES[job.state][1]),
                gettext("Done"): job.progress.share,
                gettext("Rows"): job.progress.rows_total,
                gettext("Came"): moment(job.created_at),
                gettext("Open"): f"{ADDRESSES[job.kind]}job={job.job_id}",
            }
            for job in found
        ]
    )
