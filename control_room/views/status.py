"""The status page, section by section."""

from __future__ import annotations

import datetime as dt

import streamlit as st

from control_room import asked, charts, parts, session
from control_room.clients.api import Catalog
from control_room.i18n import ago, amount, day, duration, gettext, moment, number, percent
from control_room.live import Seen
from control_room.views import banner, follow
from control_room.views.choose import series_choice
from control_room.words import DAG_NAMES, PART_NAMES, PART_STATES, RUN_STATES, state, total_interval, unit, word
from ml.records import ETL_DAG, RETRAIN_DAG, Answer, Health, ModelReport, PartHealth, Run

DAYS_BACK = 60
# The seal: golden rows may differ by rounding, not by more (units).
PARITY_BOUND = 1e-3
REFRESH = "20s"
FIRST_STEPS_SECONDS = 5


# ---------------------------------------------------------------- the sentence


def lead() -> None:
    seen, found = banner.parts()
    away = banner.away(found)
    sentence, tone = _sentence(seen, [word(PART_NAMES, part.name) for part in away])
    more = " ".join(filter(None, (banner.consequence(part) for part in away)))
    parts.lead(gettext("Home"), sentence, tone, more)
    if seen.problem is not None:
        parts.problem(seen.problem, "health")


def _sentence(seen: Seen[Health], away: list[str]) -> tuple[str, parts.Tone]:
    if seen.value is None:
        return gettext("The API does not answer, so it is not known which model serves forecasts."), "bad"
    if seen.stale:
        text = gettext("The API has not answered since {time}: no forecast can be asked for now.")
        return text.format(time=moment(seen.at)), "bad"
    if seen.value.champion is None:
        return gettext("No model serves forecasts yet."), "attention"
    text = gettext("Forecasts are served by v{version}, made from sales up to {date}.").format(
        version=parts.plain(seen.value.champion.version), date=day(seen.value.data_until)
    )
    if away:
        missing = gettext("Not answering: {names}.").format(names=parts.plain(", ".join(away)))
        return f"{text} {missing}", "attention"
    return text, "good"


# ---------------------------------------------------------------- first steps


def first_steps() -> None:
    """Upload, ETL, Train: shown until the first champion serves; follows by itself while a run is active."""
    health = asked.health()
    if health.value is None or health.value.champion is not None:
        return
    every = FIRST_STEPS_SECONDS if _active_runs() else None
    st.fragment(_draw_steps, run_every=every)(_steps_done())


def _active_runs() -> list[str]:
    return [dag_id for dag_id in (ETL_DAG, RETRAIN_DAG) if follow.active(dag_id)]


def _steps_done() -> tuple[bool, bool, bool]:
    """Which of the three steps are done."""
    health, snapshot = asked.health(), asked.snapshot()
    files = any(item.status in ("accepted", "processed") for item in asked.uploads().value or ())
    published = snapshot.value is not None
    loaded = files or published or follow.active(ETL_DAG) is not None
    return loaded, published, health.value is not None and health.value.champion is not None


def _draw_steps(done_before: tuple[bool, bool, bool]) -> None:
    done = _steps_done()
    if done != done_before:
        session.forget()
        st.rerun()
    parts.section(gettext("Three steps to your first forecast"))
    running = _active_runs()
    steps = [
        (gettext("Load your sales"), gettext("A CSV, XLSX or Parquet file with date and sales."), "upload", False),
        (
            gettext("Run the ETL"),
            gettext("It checks, cleans and publishes what you accepted."),
            "upload",
            ETL_DAG in running,
        ),
        (
            gettext("Train a model"),
            gettext("The first good one starts serving forecasts."),
            "retrain",
            RETRAIN_DAG in running,
        ),
    ]
    current = done.index(False) if False in done else len(done)
    grid = st.grid(3, min_column_width=200)
    for index, step in enumerate(steps):
        with grid.cell():
            _step(index, step, done[index], index == current)


def _step(index: int, step: tuple[str, str, str, bool], done: bool, current: bool) -> None:
    title, text, page, running = step
    icon = ":material/check_circle:" if done else ":material/arrow_circle_right:" if current else ":material/circle:"
    with st.container(border=True, height="stretch"):
        st.markdown(f"{icon} **{index + 1}. {title}**")
        st.caption(gettext("Done.") if done else gettext("It is running.") if running else text)
        if current and session.may_act(f"pages/{page}.py"):
            label = gettext("Watch it") if running else gettext("Do this now")
            target = "retrain" if running else page
            st.page_link(f"pages/{target}.py", label=label, icon=":material/arrow_forward:")


# ---------------------------------------------------------------- the champion


def champion_card() -> None:
    parts.section(gettext("Champion"))
    seen = asked.health()
    if seen.value is None:
        parts.empty(gettext("Not known while the API does not answer."))
        return
    if seen.value.champion is None:
        parts.empty(gettext("There is no champion yet."))
        return
    version = seen.value.champion.version
    with st.container(border=True):
        _accuracy(asked.model(version))
        _champion_facts(seen.value, version)
        parts.source(seen, "GET /health")
        st.page_link("pages/experiments.py", label=gettext("Why this model?"), icon=":material/compare_arrows:")


def _accuracy(seen: Seen[ModelReport]) -> None:
    evaluation = seen.value.evaluation if seen.value else None
    if evaluation is None or "challenger" not in evaluation.overall:
        st.caption(gettext("Its test on past weeks cannot be read now."))
        return
    # In its own report a model is called the challenger: that is what it was when it was judged.
    own, naive = evaluation.overall["challenger"], evaluation.overall.get("seasonal_naive")
    error, held = st.columns(2)
    error.metric(
        gettext("Error (WAPE)"),
        percent(own.wape),
        help=gettext("Sum of absolute errors over sum of sales, on past weeks the model had not seen."),
    )
    held.metric(
        gettext("In the band"),
        percent(own.coverage.get("80")),
        help=gettext("Share of past days whose sales fell inside the 80 % interval; about 80 % is right."),
    )
    if naive is not None and naive.wape:
        text = (
            gettext("{share} less error than seasonal naive")
            if own.wape <= naive.wape
            else gettext("{share} more error than seasonal naive")
        )
        st.caption(text.format(share=percent(abs(own.wape / naive.wape - 1))) + f" ({percent(naive.wape)})")


def _champion_facts(health: Health, version: str) -> None:
    promotions = asked.promotions().value or ()
    since = max((item.at for item in promotions if item.version == version and item.action != "reject"), default=None)
    rows = {
        gettext("Version"): f"**v{parts.plain(version)}**",
        gettext("Serves since"): f"{moment(since)} ({ago(since)})" if since else gettext("not known"),
        gettext("Sales up to"): day(health.data_until),
        gettext("Seal"): _seal(health.parity),
    }
    parts.facts(rows, key="champion")


def _seal(parity: float | None) -> str:
    """The loaded model answers its golden rows as it did when it was trained."""
    if parity is None:
        return gettext("not checked yet")
    if parity <= PARITY_BOUND:
        text = gettext("answers as when trained, to within {bound} units")
        return ":material/verified: " + text.format(bound=number(PARITY_BOUND, 3))
    return ":material/error: " + gettext("differs from training by {units} units").format(units=number(parity, 4))


# ---------------------------------------------------------------- what sells next


def outlook() -> None:
    parts.section(gettext("Last {days} days and what comes next").format(days=DAYS_BACK))
    known = parts.need(asked.catalog(), "catalog")
    if known is None:
        return
    if not known.series:
        parts.empty(gettext("No sales data has been published yet."), "pages/upload.py", gettext("Load your sales"))
        return
    store, product = series_choice(known)
    _outlook_chart(known, store, product)


def _outlook_chart(catalog: Catalog, store: str, product: str) -> None:
    since = catalog.date_to - dt.timedelta(days=DAYS_BACK - 1) if catalog.date_to else None
    actual = asked.sales(store, product, since)
    health = asked.health()
    answers: tuple[Answer, ...] = ()
    forecast = None
    may_ask = session.may("planner")  # asking logs the answers, which takes more than reading
    if may_ask and health.value and health.value.champion and health.value.data_version:
        forecast = asked.standing_forecast(store, product, health.value.champion.version, health.value.data_version)
        answers = forecast.value.predictions if forecast.value else ()
    drawn = charts.forecast_chart(
        actual.value or (), answers, dark=session.dark(), promotions=asked.promotions().value or ()
    )
    parts.chart(drawn, "outlook")
    if forecast is not None and forecast.value:
        text = gettext("The next {count} days: **{total} {unit}** expected in total.")
        reply = forecast.value
        st.markdown(text.format(count=len(answers), total=amount(reply.total), unit=unit(reply.unit.split("/")[0])))
        if reply.whole is not None:
            st.caption(total_interval(reply.whole))
    parts.source(actual, "GET /v1/sales, POST /v1/forecast" if may_ask else "GET /v1/sales")


# ---------------------------------------------------------------- services


def services() -> None:
    """One tile per part: state, latency, age, what it says; looked at again by itself."""
    _tiles(_states())


def _states() -> list[tuple[str, str]]:
    return [(part.name, part.state) for part in banner.parts()[1]]


@st.fragment(run_every=REFRESH)
def _tiles(drawn: list[tuple[str, str]]) -> None:
    """When a part has come or gone, all that the page says is said anew."""
    seen, found = banner.parts()
    if [(part.name, part.state) for part in found] != drawn:
        st.rerun()
    parts.section(gettext("Services"))
    with st.grid(min_column_width=165):
        for part in found:
            _tile(part)
    parts.source(seen, "GET /health")


def _tile(part: PartHealth) -> None:
    with st.container(border=True, gap="xxsmall", height="stretch"):
        st.markdown(f"**{parts.plain(word(PART_NAMES, part.name))}**")
        parts.badge(state(PART_STATES, part.state))
        checked = gettext("checked {age}").format(age=ago(part.checked_at))
        latency = part.latency_ms
        speed = "" if latency is None else f"{number(latency, 0 if latency >= 10 else 1)} ms · "
        st.caption(speed + checked)
        if part.detail and part.state not in ("ok", "absent"):
            st.caption(parts.plain(part.detail))


# ---------------------------------------------------------------- last runs


def last_runs() -> None:
    parts.section(gettext("Last runs"))
    grid = st.grid(2, min_column_width=300)
    for dag_id in (ETL_DAG, RETRAIN_DAG):
        with grid.cell():
            _runs_of(dag_id)


def _runs_of(dag_id: str) -> None:
    st.markdown(f"**{word(DAG_NAMES, dag_id)}**")
    seen = asked.runs(dag_id)
    runs = parts.need(seen, f"runs-{dag_id}", still=gettext("Forecasts go on without it."))
    if runs is None:
        return
    for run in runs[:4]:
        st.markdown(_run_line(run))
    if not runs:
        st.caption(gettext("It has not run yet."))
    parts.source(seen, "Airflow")


def _run_line(run: Run) -> str:
    took = (run.ended_at - run.started_at).total_seconds() if run.ended_at and run.started_at else None
    text = f"{parts.badge_text(state(RUN_STATES, run.state))} {moment(run.started_at)}"
    return text + (f" · {duration(took)}" if took is not None else "")
