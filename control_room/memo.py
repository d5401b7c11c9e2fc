"""The decision memo: what the experiments page says about one model, in the order in which a manager reads it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pandas as pd

from control_room import drawings, tables, words
from control_room.i18n import day, gettext, number, percent, stamp
from control_room.paper import Block, Document, Facts, Picture, Rows, Section, Text
from ml.records import Decision, Evaluation, ModelReport, Promotion, Segment

MOST_DRAWN = 12  # segments of one drawing; all of them are in the table


def memo(report: ModelReport, rival: str | None, serves: bool, moves: Sequence[Promotion], frequency: str) -> Document:
    """The memo of a model that has a decision.

    Parameters
    ----------
    rival
        The champion that it was judged against.
    serves
        Whether it is the champion now.
    moves
        The audit; what was decided about this model is taken from it.
    frequency
        ``D`` or ``W``, for the names of spans.
    """
    decision, evaluation = report.decision, report.evaluation
    assert decision is not None
    told = gettext("It serves now.") if serves else words.consequence(decision)
    sections = [
        Section(gettext("What it rests on"), [Facts(_basis(report, rival))]),
        Section(gettext("Gain"), _gain(decision)),
        Section(gettext("Gates"), [_gates(decision)]),
        Section(gettext("Who decided"), [_decided(report, moves)]),
    ]
    if evaluation is not None:
        sections += _evidence(evaluation, frequency)
    if report.model.params:
        sections.append(Section(gettext("Parameters"), [Facts(dict(sorted(report.model.params.items())))]))
    return Document(
        kicker=gettext("Decision memo · model v{version}").format(version=report.model.version),
        title=words.verdict(decision, report.model.version, rival),
        more=" ".join(filter(None, (words.gain(decision), told))),
        tone=words.VERDICT_TONES[decision.verdict],
        sections=sections,
        source=_source(report),
    )


def _source(report: ModelReport) -> str:
    text = gettext("From GET /v1/models/{version} and GET /v1/promotions (MLflow run {run}), written {time}.")
    now = stamp(dt.datetime.now(dt.UTC))
    return text.format(version=report.model.version, run=report.model.run_id or "–", time=now)


# ---------------------------------------------------------------- what it rests on, gain, gates, who


def _basis(report: ModelReport, rival: str | None) -> dict[str, str]:
    model, evaluation = report.model, report.evaluation
    found = {
        gettext("Model under judgement"): f"v{model.version} · {words.word(words.MODEL_NAMES, model.kind)}",
        gettext("Judged against"): f"v{rival}" if rival else gettext("no champion"),
        gettext("Trained"): stamp(model.created_at),
        gettext("Learned from sales up to"): day(model.trained_until),
    }
    if evaluation is not None and evaluation.folds:
        found[gettext("Same rows")] = words.same_rows(evaluation)
    found[gettext("Data version")] = evaluation.data_version if evaluation else model.data_version
    if evaluation is not None and (told := words.choice(evaluation.choice)):
        found[gettext("Kind of model")] = told
    return found


def _gain(decision: Decision) -> list[Block]:
    drawing = drawings.gain_drawing(decision)
    if drawing is None:
        return [Text(gettext("There was no champion to compare with."))]
    note = gettext(
        "How much smaller the error (WAPE) is than the champion's on the same rows, with its 95 % interval from a "
        "paired bootstrap; dotted: no gain, and the least gain asked for."
    )
    return [Text(note), Picture(drawing, words.gain(decision))]


def _gates(decision: Decision) -> Block:
    if not decision.gates:
        return Text(gettext("No gates on record."))
    rows = []
    for item in decision.gates:
        name, value, bound = words.gate(item)
        result = words.state(words.GATE_STATES, "passed" if item.passed else "failed")[1]
        rows.append(
            {gettext("Gate"): name, gettext("Result"): result, gettext("Value"): value, gettext("Bound"): bound}
        )
    return Rows(pd.DataFrame(rows), left=2)


def _decided(report: ModelReport, moves: Sequence[Promotion]) -> Block:
    """The audit rows about this model, oldest first."""
    own = sorted((item for item in moves if item.version == report.model.version), key=lambda item: item.at)
    if not own:
        waits = report.decision is not None and report.decision.needs_approval
        return Text(gettext("It waits for a manager.") if waits else gettext("Nobody has moved it so far."))
    frame = pd.DataFrame([_move(item) for item in own])
    return Rows(frame, left=len(frame.columns))


def _move(item: Promotion) -> dict[str, str]:
    return {
        gettext("When"): stamp(item.at),
        gettext("What"): words.word(words.ACTIONS, item.action),
        gettext("Before"): f"v{item.previous}" if item.previous else "–",
        gettext("Who"): item.actor,
        gettext("Why"): item.reason,
    }


# ---------------------------------------------------------------- evidence


def _evidence(evaluation: Evaluation, frequency: str) -> list[Section]:
    found = [Section(gettext("Side by side"), [Rows(tables.metrics(evaluation).reset_index())])]
    if evaluation.weekly_gain:
        picture = Picture(drawings.weekly_drawing(evaluation.weekly_gain), gettext("Week by week"))
        note = words.against("champion" in evaluation.overall)
        found.append(Section(gettext("Week by week"), [Text(note), picture]))
    found += _segments(evaluation.segments)
    if evaluation.sums:
        found.append(Section(gettext("How sure totals are"), [Rows(tables.sums(evaluation, frequency), left=2)]))
    return found


def _segments(segments: Sequence[Segment]) -> list[Section]:
    kinds = dict.fromkeys(item.by for item in segments)
    return [_segment(by, [item for item in segments if item.by == by]) for by in kinds]


def _segment(by: str, found: Sequence[Segment]) -> Section:
    title = gettext("Error by {segment}").format(segment=words.word(words.SEGMENT_NAMES, by).lower())
    blocks: list[Block] = [Rows(pd.DataFrame([_segment_row(by, item) for item in found]))]
    if len(found) <= MOST_DRAWN:
        blocks.insert(0, Picture(drawings.segments_drawing(found), title))
    return Section(title, blocks)


def _segment_row(by: str, item: Segment) -> dict[str, str]:
    errors = {words.word(words.MODEL_NAMES, model): percent(error) for model, error in item.wape.items()}
    return {words.word(words.SEGMENT_NAMES, by): words.segment(item), gettext("Rows"): number(item.rows), **errors}
