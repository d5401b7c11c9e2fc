"""What lies behind a verdict: calibration, errors by week ahead, disagreements, the search for parameters."""

from __future__ import annotations

from typing import Any

import streamlit as st

from control_room import address, charts, parts, session, tables
from control_room.i18n import N_, date_form, gettext
from control_room.views import reigns
from control_room.views.experiments import Case, by_segment, runs
from ml.records import Evaluation

VIEWS = {
    "segments": N_("Where it is better, where worse"),
    "diagnostics": N_("Calibration and errors"),
    "search": N_("Search for parameters"),
    "champions": N_("Champions over what sold"),
    "runs": N_("All runs in MLflow"),
}


def behind(case: Case | None) -> None:
    """One of the views, kept in the address; the others are not drawn."""
    view = address.segments(gettext("Evidence"), list(VIEWS), "behind", lambda code: gettext(VIEWS[code]))
    evaluation = case.report.evaluation if case else None
    if view == "champions":
        reigns.timeline()
    elif view == "runs":
        runs()
    elif case is None or evaluation is None:
        st.caption(gettext("There is something to see here once a model has been judged."))
    elif view == "segments":
        by_segment(evaluation)
    elif view == "diagnostics":
        diagnostics(case, evaluation)
    else:
        search(case)


def diagnostics(case: Case, evaluation: Evaluation) -> None:
    """A model that was judged before these figures were kept has none; that is said."""
    if not evaluation.calibration:
        st.caption(gettext("They were not kept yet when this model was judged; a new training has them."))
        return
    grid = st.grid(2, min_column_width=380, gap="medium")
    with grid.cell():
        parts.section(gettext("Calibration"), gettext("The challenger's forecasts by their size, beside what sold."))
        parts.chart(charts.calibration_chart(evaluation.calibration, dark=session.dark()), "calibration")
    with grid.cell():
        note = gettext("Box: the middle half; whiskers: nine of ten. Above 0 the forecast was too high.")
        parts.section(gettext("Errors by week ahead"), note)
        parts.chart(charts.spread_chart(evaluation.spreads, dark=session.dark()), "spreads")
    _disagreements(case, evaluation)


def _disagreements(case: Case, evaluation: Evaluation) -> None:
    if not evaluation.disagreements:
        return
    note = gettext("Rows of the backtest on which challenger and champion lie furthest apart, and what sold then.")
    parts.section(gettext("Biggest disagreements"), note)
    frame = tables.disagreements(evaluation.disagreements)
    config: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="localized") for name in frame.select_dtypes("number").columns
    }
    config[gettext("Date")] = st.column_config.DateColumn(format=date_form())
    st.dataframe(
        tables.rounded(frame), hide_index=True, height=280, column_config=config, alt=gettext("Biggest disagreements")
    )
    cover = {gettext("What"): gettext("Biggest disagreements"), gettext("Model"): f"v{case.version}"}
    cover[gettext("Data version")] = evaluation.data_version
    parts.downloads(lambda: frame, f"disagreements-v{case.version}", cover, "disagreements")


def search(case: Case) -> None:
    """How the parameters were found, and which of them mattered."""
    if len(case.report.trials) < 2:
        st.caption(gettext("The parameters of this model were not searched."))
        return
    st.caption(gettext("Each line is a trial, from its parameters to its error on the fold that chose."))
    parts.chart(charts.trials_chart(case.report.trials, dark=session.dark()), "trials")
    if case.report.importance:
        parts.section(
            gettext("What mattered"), gettext("Share of each parameter in how the errors vary (functional ANOVA).")
        )
        parts.chart(charts.importance_chart(case.report.importance, dark=session.dark()), "importance")
    else:
        st.caption(gettext("There were too few trials to say which parameter mattered."))
    frame = tables.trials(case.report.trials)
    parts.downloads(lambda: frame, f"trials-v{case.version}", {gettext("Model"): f"v{case.version}"}, "trials")
