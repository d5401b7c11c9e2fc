"""The retrain page: what is true now, the settings, the run, its outcome."""

from __future__ import annotations

import statistics
import uuid
from typing import Any

import streamlit as st

from control_room import asked, parts, session
from control_room.i18n import N_, day, duration, gettext, ngettext, number
from control_room.views import follow
from control_room.words import DAG_NAMES, word
from ml.errors import Conflict, ControlRoomError, KeyReused, NotFound
from ml.records import ETL_DAG, RETRAIN_DAG, Run

WINDOWS = {0: N_("all history"), 365: N_("the last year"), 730: N_("the last 2 years"), 1095: N_("the last 3 years")}
POLICIES = {
    "": N_("as set for this installation"),
    "auto": N_("promote by itself when it is better"),
    "approval": N_("wait for a manager's approval"),
}
METRICS = {"wape": N_("WAPE: every unit counts the same"), "rmspe": N_("RMSPE: every row counts the same")}
MONOTONE = {
    "auto": N_("automatic"),
    "price_promotion": N_("price and promotion"),
    "price": N_("price only"),
    "off": N_("nothing"),
}
# Parameter of the DAG -> label, help, least and most in percent.
GATE = {
    "min_gain": (N_("Least gain, %"), N_("By how much the error must be smaller than the champion's."), 0.0, 50.0),
    "confidence": (N_("Confidence, %"), N_("How sure it must be that there is a gain at all."), 50.0, 99.9),
    "max_segment_loss": (
        N_("Largest loss of a segment, %"),
        N_("By how much the error of a large store, or of promotions, may grow."),
        0.0,
        100.0,
    ),
    "coverage_band": (
        N_("Tolerance of the intervals, points"),
        N_("How far the intervals may be from holding 80 % and 95 % of what is sold."),
        1.0,
        50.0,
    ),
}
ETL_SOURCES = {
    "uploads": N_("the accepted uploads"),
    "demo": N_("the demo data"),
    "demo_next_week": N_("the demo data, one week later"),
    "other": N_("a file or address"),
}


# ---------------------------------------------------------------- what is true now


def lead() -> None:
    active = follow.active(RETRAIN_DAG)
    sentence, tone = _sentence(active)
    parts.lead(gettext("Retrain"), sentence, tone, " ".join(filter(None, (_freshness(), _champion_choice()))))


def _sentence(active: Run | None) -> tuple[str, parts.Tone]:
    seen = asked.runs(RETRAIN_DAG)
    if seen.problem is not None:
        return gettext("No run can be started now: Airflow does not answer."), "bad"
    if asked.paused(RETRAIN_DAG).value:
        return gettext("Retraining is paused in Airflow."), "attention"
    if isinstance(asked.snapshot().problem, NotFound):
        return gettext("There is no data to learn from yet."), "attention"
    if active:
        text = gettext("A retraining is running, for {duration} so far.")
        return text.format(duration=duration(follow.took(active))), "plain"
    return gettext("No retraining is running; one can be started."), "good"


def _freshness() -> str:
    """How much newer the data is than what the champion learned from."""
    health, models, snapshot = asked.health().value, asked.models().value or (), asked.snapshot().value
    if health is None or snapshot is None:
        return ""
    if health.champion is None:
        return gettext("No champion serves yet: the first good model will.")
    champion = next((item for item in models if item.version == health.champion.version), None)
    if champion is None or champion.trained_until is None:
        return ""
    trained = champion.trained_until
    newer = (snapshot.date_to - trained).days
    if newer <= 0 and champion.data_version != snapshot.data_version:
        text = gettext("The data has changed since champion v{version} learned; its last day is {date} now.")
        return text.format(version=parts.plain(champion.version), date=day(snapshot.date_to))
    if newer <= 0:
        return gettext("Champion v{version} has learned from all data there is, up to {date}.").format(
            version=parts.plain(health.champion.version), date=day(trained)
        )
    text = ngettext(
        "Champion v{version} has learned from sales up to {trained}; there is {count} newer day.",
        "Champion v{version} has learned from sales up to {trained}; there are {count} newer days.",
        newer,
    )
    return text.format(version=parts.plain(health.champion.version), trained=day(trained), count=number(newer))


def _champion_choice() -> str:
    health = asked.health().value
    return asked.choice(health.champion.version) if health and health.champion else ""


# ---------------------------------------------------------------- the form


def form() -> None:
    """The DAG's own parameters; start is offered only when a run can start now."""
    if not session.may("analyst"):
        return
    parts.section(gettext("Settings of the run"))
    blocked = _blocked(RETRAIN_DAG)
    with st.form("retrain"):
        conf = _conf()
        st.caption(_past_durations(RETRAIN_DAG))
        go = st.form_submit_button(
            gettext("Start retraining"), type="primary", icon=":material/play_arrow:", disabled=blocked
        )
    if go:
        _start(RETRAIN_DAG, conf)


def _conf() -> dict[str, Any]:
    settings = session.services().settings
    with st.grid(min_column_width=220):
        trials = st.number_input(
            gettext("Trials"),
            0,
            1000,
            settings.tuning_trials,
            help=gettext("How many settings of the model are tried; 0 keeps the known good ones."),
        )
        seconds = st.number_input(
            gettext("Seconds to try them"),
            1,
            86_400,
            settings.tuning_seconds,
            help=gettext("After so long no further one is begun."),
        )
        folds = st.number_input(
            gettext("Past blocks to test on"),
            1,
            12,
            settings.backtest_folds,
            help=gettext("More blocks make a surer verdict and a longer run."),
        )
        window = st.selectbox(gettext("Learn from"), list(WINDOWS), format_func=lambda days: gettext(WINDOWS[days]))
        metric = st.selectbox(gettext("Judge by"), list(METRICS), format_func=lambda code: gettext(METRICS[code]))
        policy = st.selectbox(
            gettext("When it is better"), list(POLICIES), format_func=lambda code: gettext(POLICIES[code])
        )
        monotone = st.selectbox(
            gettext("Hold to the right way"),
            list(MONOTONE),
            format_func=lambda code: gettext(MONOTONE[code]),
            help=gettext("More price never sells more, promotion never less. Automatic: unless that costs accuracy."),
        )
    return {
        "trials": int(trials), "tune_seconds": int(seconds), "folds": int(folds), "window_days": window or None,
        "policy": policy or None, "metric": metric, "monotone": monotone, **_gate(),
    }  # fmt: skip


def _gate() -> dict[str, float]:
    """Bounds of the gate for this run alone, as the shares that the DAG takes; what is left empty is as usual."""
    asked_for: dict[str, float] = {}
    with (
        st.expander(gettext("Rules of promotion for this run"), icon=":material/rule:"),
        st.grid(min_column_width=220),
    ):
        for name, (label, help, low, high) in GATE.items():
            percent = st.number_input(
                gettext(label), low, high, None, step=0.5, placeholder=gettext("as usual"), help=gettext(help)
            )
            if percent is not None:
                asked_for[name] = round(percent / 100, 6)
    return asked_for


def _blocked(dag_id: str) -> bool:
    """Say why no run can be started now, before the button is there."""
    runs, paused = asked.runs(dag_id), asked.paused(dag_id)
    if runs.problem is not None or paused.problem is not None:
        problem = runs.problem or paused.problem
        assert problem is not None
        parts.problem(problem, f"blocked-{dag_id}", still=gettext("Forecasts go on with the present champion."))
        return True
    if paused.value:
        _paused(dag_id)
        return True
    if dag_id == RETRAIN_DAG and isinstance(asked.snapshot().problem, NotFound):
        text = gettext("There is nothing to learn from yet: no sales data has been published.")
        parts.empty(text, "pages/upload.py", gettext("Load your sales"))
        return True
    return follow.active(dag_id) is not None


def _paused(dag_id: str) -> None:
    name = word(DAG_NAMES, dag_id)
    text = gettext("{name} is paused in Airflow: a run would wait for ever. Unpause it to start one.")
    st.warning(text.format(name=name), icon=":material/pause_circle:")
    if st.button(gettext("Unpause {name}").format(name=name), key=f"unpause-{dag_id}", icon=":material/play_circle:"):
        api = session.services().api
        if parts.attempt(lambda: api.pause(dag_id, False), f"unpause-{dag_id}"):
            session.forget("airflow")
            st.rerun()


def _past_durations(dag_id: str) -> str:
    times = [found for run in asked.runs(dag_id).value or () if run.state == "success" and (found := follow.took(run))]
    if not times:
        return gettext("No run has ended yet, so its duration is not known.")
    text = ngettext(
        "The last good run took {typical}.",
        "The last {count} good runs took {shortest} to {longest}, typically {typical}.",
        len(times),
    )
    return text.format(
        count=number(len(times)),
        shortest=duration(min(times)),
        longest=duration(max(times)),
        typical=duration(statistics.median(times)),
    )


def _start(dag_id: str, conf: dict[str, Any]) -> None:
    # The id is kept until the start has succeeded: a second click asks for the same run.
    once = st.session_state.setdefault(f"next-run-{dag_id}", f"console-{uuid.uuid4().hex}")
    api = session.services().api
    try:
        run_id = (api.retrain if dag_id == RETRAIN_DAG else api.etl)(conf, once).run_id
    except KeyReused:  # asked for otherwise than before: another run
        del st.session_state[f"next-run-{dag_id}"]
        _start(dag_id, conf)
        return
    except Conflict as conflict:
        parts.problem(conflict, f"start-{dag_id}", retry=False)
        session.forget("airflow")
        started = follow.active(dag_id)
        run_id = started.run_id if started else ""
    except ControlRoomError as error:
        parts.problem(error, f"start-{dag_id}", retry=False)
        return
    session.forget("airflow")
    st.session_state.pop(f"next-run-{dag_id}", None)
    if run_id:
        st.query_params["run" if dag_id == RETRAIN_DAG else "etl"] = run_id
        st.rerun()


# ---------------------------------------------------------------- the run


def run() -> None:
    """The run in the address (?run=…), else the active one, else the latest."""
    known = follow.active(RETRAIN_DAG) or follow.latest(RETRAIN_DAG)
    run_id = st.query_params.get("run") or (known.run_id if known else None)
    parts.section(gettext("The run"))
    if run_id is None:
        st.caption(gettext("No retraining has run yet."))
        return
    follow.follow(RETRAIN_DAG, run_id, _outcome)


def _outcome(ended: Run) -> None:
    if ended.tasks and all(task.state == "skipped" for task in ended.tasks):
        st.info(gettext("The run ended at once: the champion has learned from this very data."), icon=":material/info:")
    elif ended.state == "success":
        st.success(gettext("The run has ended. Whether the challenger is better, and why, is on the next page."))
        newest = max(asked.models().value or (), key=lambda item: item.created_at, default=None)
        if newest and (told := asked.choice(newest.version)):
            st.info(told, icon=":material/info:")
        st.page_link("pages/experiments.py", label=gettext("See the verdict"), icon=":material/compare_arrows:")
    elif ended.state == "failed":
        st.error(gettext("The run failed or was cancelled. Nothing has changed: the champion goes on serving."))


# ---------------------------------------------------------------- ETL by hand


def etl_by_hand() -> None:
    if not session.may("planner"):
        return
    run_id = st.query_params.get("etl")
    active = follow.active(ETL_DAG)
    with st.expander(
        gettext("Run the ETL by hand"), icon=":material/database:", expanded=bool(run_id or active or _paused_etl())
    ):
        blocked = _blocked(ETL_DAG) if asked.runs(ETL_DAG).problem is None else True
        with st.form("etl"):
            conf = _etl_conf()
            st.caption(_past_durations(ETL_DAG))
            go = st.form_submit_button(gettext("Start the ETL"), icon=":material/play_arrow:", disabled=blocked)
        if go:
            _start_etl(conf)
        shown = run_id or (active.run_id if active else None)
        if shown:
            follow.follow(ETL_DAG, shown)


def _paused_etl() -> bool:
    return bool(asked.paused(ETL_DAG).value)


def _etl_conf() -> dict[str, Any]:
    source = st.selectbox(
        gettext("Take the data from"), list(ETL_SOURCES), format_func=lambda code: gettext(ETL_SOURCES[code])
    )
    other = st.text_input(
        gettext("File or address, when it is “a file or address”"), placeholder="/data/sales.csv", key="etl-other"
    )
    anyway = st.checkbox(
        gettext("Publish even if the checks find errors"),
        help=gettext("For data that is meant to be so: a business that was split, a price list in another currency."),
    )
    return {"source": other.strip() if source == "other" else source} | ({"publish_anyway": True} if anyway else {})


def _start_etl(conf: dict[str, Any]) -> None:
    if not conf["source"]:
        st.error(gettext("Name the file or the address to take the data from."))
        return
    _start(ETL_DAG, conf)
