"""The upload page, section by section."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pandas as pd
import streamlit as st

from control_room import asked, checks, exports, parts, session
from control_room.i18n import N_, gettext, moment, ngettext, number, percent, size
from control_room.views import follow
from control_room.words import (
    ROLE_NAMES,
    SEVERITIES,
    UPLOAD_STATES,
    finding,
    span,
    state,
    where,
    word,
)
from ml.errors import ControlRoomError
from ml.records import ETL_DAG, ROLES, Finding, Mapping, Preflight, Purpose, ReadOptions, Role, Upload

FINDINGS_SHOWN = 10
KEY_ROLES: tuple[Role, ...] = ("store", "product")
SEPARATORS = {",": N_("comma  ,"), ";": N_("semicolon  ;"), "\t": N_("tab"), "|": N_("pipe  |")}
ENCODINGS = ("utf-8", "cp1252", "iso-8859-1", "utf-16")
HOLDS: dict[Purpose | None, str] = {
    None: N_("detect it"),
    "training": N_("sales"),
    "attributes": N_("attributes of stores or products"),
}
DATE_ORDERS = {"ymd": "2026-01-31", "dmy": "31/01/2026", "mdy": "01/31/2026"}


# ---------------------------------------------------------------- the sentence


def lead() -> None:
    snapshot, uploads = asked.snapshot(), asked.uploads()
    waiting = [item for item in uploads.value or () if item.status == "received" and not item.duplicate_of]
    accepted = [item for item in uploads.value or () if item.status == "accepted"]
    if snapshot.value:
        sentence = gettext("The data in use has {rows} rows, {span}.").format(
            rows=number(snapshot.value.rows), span=span(snapshot.value.date_from, snapshot.value.date_to)
        )
        tone: parts.Tone = "good"
    elif snapshot.problem is not None and snapshot.problem.status >= 500:
        sentence, tone = gettext("It cannot be said now which data is in use."), "bad"
    else:
        may = session.may("planner")
        begin, nothing = (
            gettext("There is no sales data yet: load a file to begin."),
            gettext("There is no sales data yet."),
        )
        sentence, tone = begin if may else nothing, "attention"
    parts.lead(gettext("Upload"), sentence, tone, _waiting_sentence(len(waiting), len(accepted)), stale=snapshot.stale)


def _waiting_sentence(waiting: int, accepted: int) -> str:
    sentences = []
    if waiting:
        text = ngettext("{count} file waits for your decision.", "{count} files wait for your decision.", waiting)
        sentences.append(text.format(count=number(waiting)))
    if accepted:
        text = ngettext(
            "{count} accepted file waits for the ETL.", "{count} accepted files wait for the ETL.", accepted
        )
        sentences.append(text.format(count=number(accepted)))
    return " ".join(sentences)


# ---------------------------------------------------------------- a file comes in


def choose_file() -> None:
    if not session.may("planner"):
        return
    limit = session.services().settings.upload_limit_mb
    with st.container(border=True):
        file = st.file_uploader(
            gettext("A file with your sales: CSV, XLSX or Parquet, up to {limit} MB").format(limit=number(limit)),
            type=["csv", "tsv", "txt", "xlsx", "parquet"],
            max_upload_size=limit,
            key="file",
        )
        purpose = _purpose()
        _template(purpose)
    if file is not None and st.session_state.get("sent-file") != (file.file_id, purpose):
        st.session_state["sent-file"] = (file.file_id, purpose)
        _send(file.name, file.getvalue(), purpose)
    failed: ControlRoomError | None = st.session_state.get("send-problem")
    if failed is not None:
        parts.problem(failed, "send", still=gettext("The file was not loaded."), retry=False)
        if file is not None and st.button(gettext("Send the file again"), icon=":material/refresh:"):
            _send(file.name, file.getvalue(), purpose)


def _purpose() -> Purpose | None:
    """What the file holds; the first choice is to see for ourselves."""
    return st.selectbox(
        gettext("What it holds"),
        [None, "training", "attributes"],
        format_func=lambda choice: gettext(HOLDS[choice]),
        key="purpose",
        help=gettext(
            "Attributes describe stores or products once, such as size, type or category: no dates, no sales."
        ),
    )


def _send(filename: str, data: bytes, purpose: Purpose | None) -> None:
    with st.spinner(gettext("Reading {filename} …").format(filename=parts.plain(filename))):
        try:
            upload = session.services().api.send(filename, data, purpose)
        except ControlRoomError as error:
            st.session_state["send-problem"] = error
            return
    st.session_state["send-problem"] = None
    _open(upload)


def _open(upload: Upload) -> None:
    session.forget("api", "uploads", "upload")
    st.query_params["upload"] = upload.upload_id
    st.rerun()


NEEDED: dict[Purpose | None, str] = {
    None: N_(
        "Sales: date and sales; store, product, price, promotion, holiday if known. Attributes: store or product."
    ),
    "training": N_("Needed: date and sales. Understood too: store, product, price, promotion, holiday."),
    "attributes": N_("Needed: store or product, and a column for each attribute, such as size or type. No dates."),
}


def _template(purpose: Purpose | None) -> None:
    """What a file needs, and an example of one with sales; offered only when the API gives it."""
    if purpose == "attributes":
        st.caption(gettext(NEEDED[purpose]))
        return
    files = {
        form: session.ask_api(("template", form), _template_of(form), seconds=3600).value for form in ("csv", "xlsx")
    }
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(gettext(NEEDED[purpose]))
        for form, data in files.items():
            if data:
                name = gettext("Template {format}").format(format=form.upper())
                mime = exports.CSV_MIME if form == "csv" else exports.XLSX_MIME
                st.download_button(
                    name, data, f"template.{form}", mime, key=f"template-{form}", type="tertiary", on_click="ignore",
                    icon=":material/download:",
                )  # fmt: skip


def _template_of(form: Any) -> Any:
    return lambda api: api.template(form)


# ---------------------------------------------------------------- the file in hand


def in_hand() -> None:
    """The upload named in the address (?upload=…): what is in it, how it was read, accept."""
    upload_id = st.query_params.get("upload")
    if not upload_id:
        return
    seen = session.ask_api(("upload", upload_id), lambda api: api.upload(upload_id), seconds=5)
    upload = parts.need(seen, "upload")
    if upload is None:
        return
    parts.section(parts.plain(upload.filename))
    _verdict(upload)
    _figures(upload.preflight)
    _findings(upload.preflight)
    if session.may("planner"):
        _how_read(upload)
    _preview(upload.preflight)
    _accept(upload)


def _verdict(upload: Upload) -> None:
    sentences = {
        "OK": (gettext("The file is fine: every row can be used."), "good"),
        "FIX": (gettext("The file can be used; what was repaired is listed below."), "good"),
        "ROWS": (gettext("The file can be used without the rows listed below."), "attention"),
        "REJECT": (gettext("The file cannot be used as it is."), "bad"),
    }
    sentence, tone = sentences[upload.preflight.verdict]
    more = [gettext("Received {time}, {size}.").format(time=moment(upload.created_at), size=size(upload.bytes))]
    if upload.duplicate_of:
        more.append(gettext("The very same file was loaded before."))
    with st.container(key=f"lead-{tone}-file", gap="xxsmall"):
        st.markdown(f"{parts.TONE_ICONS[tone]} {sentence}")
        st.caption(" ".join([parts.badge_text(state(UPLOAD_STATES, upload.status)), *more]))


def _figures(seen: Preflight) -> None:
    if not seen.rows_total:
        return
    with st.grid(4, min_column_width=150):
        st.metric(gettext("Rows used"), number(seen.rows_used), border=True)
        st.metric(gettext("Rows left out"), number(seen.rows_rejected), border=True)
        st.metric(*_breadth(seen), border=True)
        if seen.purpose == "attributes":
            st.metric(gettext("Attributes"), number(len(seen.mapping.regressors)), border=True)
        else:
            st.metric(gettext("Days missing"), number(seen.missing_days), border=True)
    if seen.date_from:
        each = {"D": gettext("one row per day"), "W": gettext("one row per week")}.get(seen.frequency or "", "")
        st.caption(f"{span(seen.date_from, seen.date_to)} · {each}".rstrip(" ·"))


def _breadth(seen: Preflight) -> tuple[str, str]:
    """How many stores and products; a table of attributes may describe one of them only."""
    if seen.purpose == "attributes" and not seen.products:
        return gettext("Stores"), number(seen.stores)
    if seen.purpose == "attributes" and not seen.stores:
        return gettext("Products"), number(seen.products)
    return gettext("Stores × products"), f"{number(seen.stores)} × {number(seen.products)}"


def _findings(seen: Preflight) -> None:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for item in seen.findings:
        groups[item.severity].append(item)
    for severity in SEVERITIES:
        if groups[severity]:
            # What decides about the file lies open; the rest is one click away.
            decides = severity in ("reject", "row") or (severity == "fix" and seen.verdict == "FIX")
            # A row may be left out for several reasons, and is still one row.
            count = seen.rows_rejected if severity == "row" else sum(item.count for item in groups[severity])
            _finding_group(severity, groups[severity], count, decides)


def _finding_group(severity: str, found: list[Finding], count: int, expanded: bool) -> None:
    icon, title, _colour = state(SEVERITIES, severity)
    with st.expander(f"{title} ({number(count)})", icon=icon, expanded=expanded):
        for item in found[:FINDINGS_SHOWN]:
            message, hint = finding(item)
            advice = f"  \n:gray[{parts.plain(hint)}]" if hint else ""
            st.markdown(f"**{parts.plain(where(item))}** – {parts.plain(message)}{advice}")
        if len(found) > FINDINGS_SHOWN:
            text = gettext("{count} more kinds are in the file of rows left out.")
            st.caption(text.format(count=number(len(found) - FINDINGS_SHOWN)))


# ---------------------------------------------------------------- how it was read


def _how_read(upload: Upload) -> None:
    seen = upload.preflight
    label = gettext("How we read it, and which column is what")
    with st.expander(label, icon=":material/tune:", expanded=seen.verdict == "REJECT" and bool(seen.columns)):
        st.caption(gettext("Everything was detected. Change what is wrong and read it again."))
        with st.form(f"read-{upload.upload_id}", border=False):
            options = _options(upload)
            mapping = _mapping(seen)
            again = st.form_submit_button(
                gettext("Read it again"), icon=":material/refresh:", disabled=upload.status != "received"
            )
    if again:
        with st.spinner(gettext("Reading {filename} …").format(filename=parts.plain(upload.filename))):
            checked = parts.attempt(lambda: session.services().api.check(upload.upload_id, options, mapping), "check")
        if checked is not None:
            _open(checked)


def _options(upload: Upload) -> ReadOptions:
    asked_for, used = upload.options, upload.preflight.dialect
    is_text = upload.preflight.format not in ("xlsx", "parquet")
    values: dict[str, Any] = {}
    with st.grid(min_column_width=200):
        if is_text:
            values["separator"] = _option(
                gettext("Separator"),
                {mark: gettext(name) for mark, name in SEPARATORS.items()},
                asked_for.separator,
                used.separator,
            )
            values["encoding"] = _option(
                gettext("Encoding"), {name: name for name in ENCODINGS}, asked_for.encoding, used.encoding
            )
        if upload.preflight.format == "xlsx" and used.sheet:
            values["sheet"] = st.text_input(gettext("Sheet"), value=asked_for.sheet or used.sheet)
        if upload.preflight.format != "parquet":
            marks = {".": gettext("point  1.5"), ",": gettext("comma  1,5")}
            values["decimal"] = _option(gettext("Decimal mark"), marks, asked_for.decimal, used.decimal)
            values["date_order"] = _option(
                gettext("Dates look like"), DATE_ORDERS, asked_for.date_order, used.date_order
            )
    return ReadOptions(**values)


def _option(label: str, known: dict[str, str], asked_for: str | None, used: str | None) -> Any:
    """One way of reading; the first choice is to detect it, and says what was detected."""
    detected = gettext("detected: {value}").format(value=known.get(used or "", used) or "–")
    choices = [None, *known, *([asked_for] if asked_for and asked_for not in known else [])]
    names: dict[Any, str] = {None: detected, **known}
    return st.selectbox(
        label, choices, index=choices.index(asked_for), format_func=lambda choice: names.get(choice, choice)
    )


def _mapping(seen: Preflight) -> Mapping | None:
    if not seen.columns:
        return None
    sources = [column.source for column in seen.columns]
    sure = {(column.role, column.source): column.confidence for column in seen.columns}
    samples = {column.source: ", ".join(column.sample[:2]) for column in seen.columns}
    roles: dict[str, str] = {}
    attributes = seen.purpose == "attributes"
    with st.grid(min_column_width=200):
        for role in KEY_ROLES if attributes else ROLES:
            chosen = seen.mapping.roles.get(role)
            label = word(ROLE_NAMES, role)
            if chosen and (role, chosen) in sure:
                label += " · " + gettext("{share} sure").format(share=percent(sure[role, chosen], 0))
            source = st.selectbox(
                label,
                [None, *sources],
                index=sources.index(chosen) + 1 if chosen in sources else 0,
                format_func=lambda name: _column_name(name, samples),
            )
            if source:
                roles[role] = source
    regressors = st.multiselect(
        gettext("Attributes used by the model") if attributes else gettext("Known in advance and used by the model"),
        sources,
        default=[name for name in seen.mapping.regressors if name in sources],
        placeholder=gettext("none"),
        help=gettext("Columns that describe a store or product and do not change from day to day.")
        if attributes
        else gettext("Columns whose future values you will know when you predict, such as a planned campaign."),
    )
    return Mapping(roles=roles, regressors=tuple(name for name in regressors if name not in roles.values()))


def _column_name(name: str | None, samples: dict[str, str]) -> str:
    if name is None:
        return gettext("– not in the file –")
    return f"{name}  ({samples[name]})" if samples.get(name) else name


def _preview(seen: Preflight) -> None:
    if seen.preview:
        with st.expander(gettext("First rows, as they were understood"), icon=":material/table:"):
            st.dataframe(pd.DataFrame([_cells(row) for row in seen.preview]), hide_index=True)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in row.items()}


# ---------------------------------------------------------------- the decision


def _accept(upload: Upload) -> None:
    api = session.services().api
    with st.container(horizontal=True):
        if session.may("planner") and st.button(
            gettext("Accept these attributes")
            if upload.purpose == "attributes"
            else gettext("Accept as training data"),
            type="primary",
            icon=":material/task_alt:",
            disabled=not _acceptable(upload),
            key="accept",
        ):
            done = parts.attempt(lambda: api.accept(upload.upload_id), "accept")
            if done is not None:
                _open(done)
        if upload.preflight.rows_rejected:
            for form, mime in (("csv", exports.CSV_MIME), ("xlsx", exports.XLSX_MIME)):
                st.download_button(
                    gettext("Rows left out, with reasons ({format})").format(format=form.upper()),
                    _rejected_of(upload.upload_id, form),
                    f"rows-left-out.{form}",
                    mime,
                    key=f"rejected-{form}",
                    icon=":material/download:",
                    on_click="ignore",
                )


def _acceptable(upload: Upload) -> bool:
    seen = upload.preflight
    return upload.status == "received" and seen.verdict != "REJECT" and seen.rows_used > 0


def _rejected_of(upload_id: str, form: Any) -> Any:
    api = session.services().api  # the download runs in another thread, which has no session
    return lambda: api.rejected(upload_id, form)


# ---------------------------------------------------------------- ETL


def etl() -> None:
    """Start the ETL on what was accepted, and follow it."""
    accepted = [item for item in asked.uploads().value or () if item.status == "accepted"]
    active = follow.active(ETL_DAG)
    run_id = st.query_params.get("run") or (active.run_id if active else None)
    if not accepted and run_id is None:
        return
    parts.section(gettext("ETL"), gettext("Checks, cleans and publishes what was accepted; models then learn from it."))
    if accepted and session.may("planner"):
        _start_etl(len(accepted), active is not None)
    if run_id:
        follow.follow(ETL_DAG, run_id, _etl_outcome)


def _start_etl(count: int, running: bool) -> None:
    text = ngettext("Start the ETL with {count} accepted file", "Start the ETL with {count} accepted files", count)
    if asked.paused(ETL_DAG).value:
        st.warning(gettext("The ETL is paused in Airflow: a run would wait. Unpause it on the Retrain page."))
        running = True
    if st.button(
        text.format(count=number(count)),
        type="primary",
        icon=":material/play_arrow:",
        disabled=running,
        key="start-etl",
    ):
        run = parts.attempt(lambda: session.services().api.etl({"source": "uploads"}), "etl")
        session.forget("airflow", "runs")
        if run is not None:
            st.query_params["run"] = run.run_id
            st.rerun()


def _etl_outcome(run: Any) -> None:
    if run.state == "success":
        st.success(gettext("The data is published. Forecasts start from it; retrain when you want a model of it."))
        _checks()
        if session.may_act("pages/retrain.py"):
            st.page_link("pages/retrain.py", label=gettext("Go to Retrain"), icon=":material/model_training:")


def _checks() -> None:
    """What the run's checks noticed about the data that is published now."""
    snapshot = asked.snapshot().value
    for check in snapshot.checks if snapshot else ():
        message, hint = (parts.plain(text) for text in checks.told(check))
        icon, _, colour = SEVERITIES["info" if check.severity == "info" else "row"]
        st.markdown(f":{colour}[{icon}] {message} {hint}")


# ---------------------------------------------------------------- all uploads


def list_of_uploads() -> None:
    parts.section(gettext("Files loaded so far"))
    seen = asked.uploads()
    uploads = parts.need(seen, "uploads")
    if uploads is None:
        return
    if not uploads:
        parts.empty(_nothing_loaded())
        return
    picked = st.dataframe(
        _upload_frame(uploads),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="uploads-table",
        alt=gettext("Files loaded so far"),
    )
    parts.source(seen, "GET /v1/uploads")
    rows = picked.selection.rows
    if rows and st.session_state.get("picked-row") != rows:
        st.session_state["picked-row"] = rows
        _open(uploads[rows[0]])


def _nothing_loaded() -> str:
    if session.may("planner"):
        return gettext("No file has been loaded yet. The template above shows what one looks like.")
    return gettext("No file has been loaded yet.")


def _upload_frame(uploads: tuple[Upload, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                gettext("File"): item.filename,
                gettext("State"): state(UPLOAD_STATES, item.status)[1],
                gettext("Loaded"): moment(item.created_at),
                gettext("Holds"): gettext(HOLDS.get(item.purpose, item.purpose)),
                gettext("Days"): span(item.preflight.date_from, item.preflight.date_to),
                gettext("Rows used"): number(item.preflight.rows_used),
                gettext("Rows left out"): number(item.preflight.rows_rejected),
                gettext("Size"): size(item.bytes),
            }
            for item in uploads
        ]
    )
