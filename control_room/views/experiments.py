"""The experiments page: the verdict in words, the evidence, the decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from control_room import address, asked, charts, grids, parts, session, tables, words
from control_room.grids import Column
from control_room.i18n import gettext, moment, reader, speaking
from ml.records import Decision, Evaluation, ModelInfo, ModelReport, Promotion


@dataclass(frozen=True)
class Case:
    """A model under judgement: its report, who was champion then, who is now; ``opening`` is the page's top."""

    report: ModelReport
    rival: str | None
    champion: str | None
    opening: DeltaGenerator
    stale: bool = False

    @property
    def version(self) -> str:
        return self.report.model.version

    @property
    def serves(self) -> bool:
        return self.version == self.champion


# ---------------------------------------------------------------- which model


def choose() -> Case | None:
    """The model to judge: the newest one, or the one in the address (?version=…)."""
    title = gettext("Experiments")
    opening = st.container()
    models = asked.models()
    if not models.value:
        _nothing_yet(title, models.problem is not None and models.problem.status >= 500)
        parts.need(models, "models", still=gettext("The champion goes on serving forecasts."))
        return None
    version = _pick(models.value)
    report = asked.model(version)
    if report.value is None:
        with opening:
            parts.lead(title, gettext("The evidence for v{version} cannot be read now.").format(version=version), "bad")
        parts.need(report, "model")
        return None
    return Case(
        report.value, _champion_then(report.value.model), _champion(models.value), opening, report.stale or models.stale
    )


def _nothing_yet(title: str, away: bool) -> None:
    if away:
        parts.lead(title, gettext("It cannot be said now how challenger and champion compare."), "bad")
        return
    parts.lead(title, gettext("No model has been trained yet, so there is nothing to compare."), "attention")
    parts.empty(
        gettext("A training makes a challenger and its evidence."), "pages/retrain.py", gettext("Train a model")
    )


def _newest_first(models: Sequence[ModelInfo]) -> list[ModelInfo]:
    return sorted(models, key=lambda item: item.created_at, reverse=True)


def _champion(models: Sequence[ModelInfo]) -> str | None:
    return next((item.version for item in models if "champion" in item.aliases), None)


def _pick(models: Sequence[ModelInfo]) -> str:
    ordered = _newest_first(models)
    versions = [item.version for item in ordered]
    named = {item.version: _model_name(item) for item in ordered}
    with st.container(width=380):
        return address.select(
            gettext("Model under judgement"),
            versions,
            versions[0],
            "version",
            lambda version: named.get(version, version),
        )


def _model_name(item: ModelInfo) -> str:
    role = gettext("champion") if "champion" in item.aliases else item.kind
    return f"v{item.version} · {role} · {moment(item.created_at)}"


def _champion_then(model: ModelInfo) -> str | None:
    """Whom the model was judged against: the champion at the time it was made."""
    moves = [item for item in asked.promotions().value or () if item.action != "reject" and item.at < model.created_at]
    return max(moves, key=lambda item: item.at).version if moves else None


# ---------------------------------------------------------------- the verdict


def verdict(case: Case | None) -> None:
    if case is None:
        return
    decision = case.report.decision
    if decision is None:
        text = gettext("v{version} has no decision on record.").format(version=parts.plain(case.version))
        with case.opening:
            parts.lead(gettext("Experiments"), text, "attention")
        return
    sentence = words.verdict(decision, parts.plain(case.version), case.rival and parts.plain(case.rival))
    more = " ".join(filter(None, (words.gain(decision), _consequence(case, decision))))
    with case.opening:
        parts.lead(gettext("Experiments"), sentence, words.VERDICT_TONES[decision.verdict], more, stale=case.stale)
        _basis(case.report)


def _consequence(case: Case, decision: Decision) -> str:
    if case.serves:
        return gettext("It serves now.")
    return words.consequence(decision)


def _basis(report: ModelReport) -> None:
    """On which rows this rests."""
    evaluation = report.evaluation
    if evaluation is None or not evaluation.folds:
        return
    text = gettext("All models answered the same {rows}. Data version {data}.")
    st.caption(text.format(rows=words.same_rows(evaluation), data=parts.plain(evaluation.data_version[:12])))
    if told := words.choice(evaluation.choice):
        st.info(told, icon=":material/info:")


# ---------------------------------------------------------------- gates and the decision


def decide(case: Case | None) -> None:
    """Gates with their numbers, and the two buttons that move the champion."""
    if case is None:
        return
    grid = st.grid(3, min_column_width=270, gap="medium")
    with grid.cell(column_span=2):
        _gates(case.report.decision)
    with grid.cell():
        _buttons(case)


def _gates(decision: Decision | None) -> None:
    parts.section(gettext("Gates"))
    if decision is None or not decision.gates:
        st.caption(gettext("No gates on record."))
        return
    rows = []
    for item in decision.gates:
        name, value, bound = words.gate(item)
        mark = parts.badge_text(words.state(words.GATE_STATES, "passed" if item.passed else "failed"))
        rows.append({gettext("Result"): mark, gettext("Gate"): name, gettext("Value"): value, gettext("Bound"): bound})
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt=gettext("Gates"))


def _buttons(case: Case) -> None:
    parts.section(gettext("Decision"))
    if not session.may("manager"):
        st.caption(gettext("A manager decides which model serves."))
        return
    with st.container(border=True):
        if case.serves:
            st.markdown(gettext("v{version} is the champion.").format(version=parts.plain(case.version)))
        else:
            _promote(case)
            _reject(case)
        _roll_back(case)


def _promote(case: Case) -> None:
    decision = case.report.decision
    if decision is not None and decision.needs_approval:
        st.markdown(gettext("The gates passed; it waits for your approval."))
    elif decision is None or not decision.promote:
        st.markdown(gettext("The gate did not ask for a promotion. You can promote it anyway; your reason is kept."))
    label = gettext("Promote v{version}").format(version=parts.plain(case.version))
    with parts.popover(label, "promote-box", icon=":material/upgrade:", type="primary"):
        actor, reason = _who_and_why("promote")
        if st.button(label, key="promote", type="primary", disabled=not (actor and reason)):
            _do(lambda api: api.promote(case.version, reason, actor, case.champion), "promote")


def _reject(case: Case) -> None:
    moves = [item for item in asked.promotions().value or () if item.version == case.version]
    last = max(moves, key=lambda item: item.at, default=None)
    if last is not None and last.action == "reject":
        text = gettext("Rejected by {who} {time}: {reason}")
        said = text.format(who=parts.plain(last.actor), time=moment(last.at), reason=parts.plain(last.reason))
        st.markdown(f":material/block: {said}")
        return
    label = gettext("Reject v{version}").format(version=parts.plain(case.version))
    with parts.popover(label, "reject-box", icon=":material/block:"):
        actor, reason = _who_and_why("reject")
        if st.button(label, key="reject", disabled=not (actor and reason)):
            told = gettext("v{version} is rejected; the champion stays.")
            _do(lambda api: api.reject(case.version, reason, actor), "reject", told)


def _roll_back(case: Case) -> None:
    previous = _previous(case.champion)
    if previous is None:
        st.caption(gettext("There is no earlier champion to roll back to."))
        return
    label = gettext("Roll back to v{version}").format(version=parts.plain(previous))
    with parts.popover(label, "rollback-box", icon=":material/undo:"):
        actor, reason = _who_and_why("rollback")
        if st.button(label, key="rollback", disabled=not (actor and reason)):
            _do(lambda api: api.rollback(reason, actor, case.champion), "rollback")


def _previous(champion: str | None) -> str | None:
    moves = [item for item in asked.promotions().value or () if item.version == champion and item.action != "reject"]
    return max(moves, key=lambda item: item.at).previous if moves else None


def _who_and_why(key: str) -> tuple[str, str]:
    person = session.me().value
    if person is not None and person.account_id:  # who has signed in stands in the audit as themselves
        actor = person.name
    else:
        actor = st.text_input(gettext("Your name"), key=f"{key}-actor", max_chars=80, persist_state="session")
    reason = st.text_area(
        gettext("Reason"), key=f"{key}-reason", max_chars=500, help=gettext("It is kept in the audit list.")
    )
    return actor.strip(), reason.strip()


def _do(action: Any, key: str, told: str = "") -> None:
    api = session.services().api
    done: Promotion | None = parts.attempt(lambda: action(api), key)
    if done is not None:
        parts.close(f"{key}-box")
        session.forget("api")
        st.toast(
            (told or gettext("v{version} is the champion now.")).format(version=parts.plain(done.version)),
            icon=":material/check_circle:",
        )
        st.rerun()


# ---------------------------------------------------------------- the memo


def paper(case: Case | None) -> None:
    """The decision memo, made when it is asked for."""
    if case is None or case.report.decision is None:
        return
    to = reader()
    snapshot = asked.snapshot().value
    frequency = snapshot.frequency if snapshot else "D"
    moves = asked.promotions().value or ()

    def written(form: str) -> bytes:
        from control_room.memo import memo
        from control_room.paper import as_html, as_pdf

        with speaking(to):
            document = memo(case.report, case.rival, case.serves, moves, frequency)
            return (as_pdf if form == "pdf" else as_html)(document)

    with st.container(horizontal=True):
        for label, form, mime in (
            (gettext("Decision memo (PDF)"), "pdf", "application/pdf"),
            (gettext("Decision memo (HTML)"), "html", "text/html"),
        ):
            st.download_button(
                label, partial(written, form), f"decision-v{case.version}.{form}", mime, key=f"memo-{form}",
                on_click="ignore", icon=":material/description:",
            )  # fmt: skip


# ---------------------------------------------------------------- evidence


def metrics(case: Case | None) -> None:
    if case is None or case.report.evaluation is None:
        return
    parts.section(gettext("Side by side"), gettext("On the same rows, which no model had seen. Less error is better."))
    frame = tables.metrics(case.report.evaluation)
    st.table(frame, border="horizontal", alt=gettext("Measures of all models"))
    parts.downloads(frame.reset_index, f"metrics-v{case.version}", _cover(case), "metrics")


def totals(case: Case | None) -> None:
    """Whether the intervals of totals held."""
    evaluation = case.report.evaluation if case else None
    if case is None or evaluation is None or not evaluation.sums:
        return
    note = gettext("Totals of the challenger's forecasts, on blocks that their intervals had not seen.")
    parts.section(gettext("How sure totals are"), note)
    snapshot = asked.snapshot().value
    frame = tables.sums(evaluation, snapshot.frequency if snapshot else "D")
    st.table(frame, border="horizontal", hide_index=True, alt=gettext("How sure totals are"))
    parts.downloads(lambda: frame, f"totals-v{case.version}", _cover(case), "totals")


def _cover(case: Case) -> dict[str, object]:
    evaluation = case.report.evaluation
    return {
        gettext("What"): gettext("Challenger against champion"),
        gettext("Model"): f"v{case.version}",
        gettext("Against"): f"v{case.rival}" if case.rival else "–",
        gettext("Data version"): evaluation.data_version if evaluation else "–",
    }


def by_week_and_fold(case: Case | None) -> None:
    evaluation = case.report.evaluation if case else None
    if evaluation is None:
        return
    grid = st.grid(2, min_column_width=380, gap="medium")
    with grid.cell():
        parts.section(gettext("Week by week"), words.against("champion" in evaluation.overall))
        if evaluation.weekly_gain:
            parts.chart(charts.weekly_gain_chart(evaluation, dark=session.dark()), "weekly-gain")
        else:
            st.caption(gettext("There was no champion to compare with."))
    with grid.cell():
        parts.section(gettext("Block by block"), gettext("Error in each block of past weeks; further left is better."))
        parts.chart(charts.fold_chart(evaluation, dark=session.dark()), "folds")


def by_segment(evaluation: Evaluation) -> None:
    if not evaluation.segments:
        st.caption(gettext("They were not kept yet when this model was judged; a new training has them."))
        return
    kinds = list(dict.fromkeys(item.by for item in evaluation.segments))
    by = address.segments(gettext("Compare by"), kinds, "segment", lambda code: words.word(words.SEGMENT_NAMES, code))
    found = [item for item in evaluation.segments if item.by == by]
    parts.chart(charts.segment_chart(found, dark=session.dark()), "segments")


# ---------------------------------------------------------------- runs and audit


def runs() -> None:
    """Every MLflow run with its parameters and metrics."""
    seen = asked.experiment_runs()
    found = parts.need(seen, "mlflow", still=gettext("The comparison above comes from the API and still holds."))
    if found is None:
        return
    if not found:
        parts.empty(gettext("MLflow has no runs yet."))
        return
    frame, measured, given = tables.experiment_runs(found)
    grids.grid(
        frame, _run_columns(measured, given), "runs-grid", dark=session.dark(), height=min(420, 110 + 34 * len(found))
    )
    cover = {gettext("What"): gettext("All runs in MLflow")}
    parts.downloads(lambda: frame, "runs", cover, "runs")
    parts.source(seen, "MLflow")


def _run_columns(measured: list[str], given: list[str]) -> list[Column]:
    return [
        Column("name", gettext("Run"), width=190),
        Column("experiment", gettext("Experiment"), width=170),
        Column("status", gettext("State")),
        Column("started_at", gettext("Started"), "moment"),
        Column("seconds", gettext("Seconds"), "number", 0),
        *(Column(f"metric {name}", name, "number", 4) for name in measured),
        *(Column(f"param {name}", name) for name in given),
    ]


def audit() -> None:
    """Who moved the champion, when, why."""
    parts.section(gettext("Who moved the champion, and why"))
    seen = asked.promotions()
    moves = parts.need(seen, "promotions")
    if moves is None:
        return
    if not moves:
        st.caption(gettext("Nothing has been promoted yet."))
        return
    frame = pd.DataFrame([_audit_row(item) for item in sorted(moves, key=lambda item: item.at, reverse=True)])
    st.dataframe(frame, hide_index=True, alt=gettext("Who moved the champion, and why"))
    parts.downloads(lambda: frame, "promotions", {gettext("What"): gettext("Audit list")}, "audit")
    parts.source(seen, "GET /v1/promotions")


def _audit_row(item: Promotion) -> dict[str, str]:
    return {
        gettext("When"): moment(item.at),
        gettext("What"): words.word(words.ACTIONS, item.action),
        gettext("Version"): f"v{item.version}",
        gettext("Before"): f"v{item.previous}" if item.previous else "–",
        gettext("Who"): item.actor,
        gettext("Why"): item.reason,
    }
