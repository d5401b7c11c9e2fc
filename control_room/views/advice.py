"""The advice on the retrain page: retrain or wait, with reasons, expected gain and what is in the way."""

from __future__ import annotations

import streamlit as st

from control_room import asked, parts, reasons
from control_room.i18n import gettext
from control_room.views import data_health
from control_room.words import state
from ml.records import Advice


def show() -> None:
    """The verdict first, then every fact with its numbers; an API that is away takes only this part away."""
    seen = asked.advice()
    with st.container(border=True, key="advice"):
        advice = parts.need(seen, "advice", still=gettext("A retraining can be started all the same."))
        if advice is None:
            return
        _verdict(advice)
        _reasons(advice)
        for text in filter(None, (reasons.expected(advice), reasons.unknown(advice))):
            st.caption(parts.plain(text))
        parts.source(seen, gettext("Weighed by fixed rules: one strong reason or two reasons ask for a retraining"))


def evidence() -> None:
    """The drift that the Data health page sent here (?evidence=<data version>); older data is said to be older."""
    sent, snapshot = st.query_params.get(data_health.EVIDENCE), asked.snapshot().value
    if sent is None or snapshot is None or snapshot.drift is None:
        return
    with st.expander(gettext("Evidence from Data health: drift"), icon=":material/monitor_heart:", expanded=True):
        if sent != snapshot.data_version:
            st.caption(gettext("The data has changed since it was sent; this is its drift now."))
        found = asked.data_health().value
        data_health.show_drift(snapshot.drift, found.importance if found else {})


def _verdict(advice: Advice) -> None:
    icon, headline, _ = reasons.VERDICTS[advice.verdict]
    st.markdown(f"{icon} **{gettext(headline)}**")
    for item in advice.blockers:
        st.markdown(f":material/block: {parts.plain(reasons.blocker(item))}")
    if advice.verdict == "blocked" and advice.wanted:
        st.markdown(gettext("The reasons ask for a retraining as soon as nothing is in its way."))


def _reasons(advice: Advice) -> None:
    for item in advice.reasons:
        st.markdown(f"{parts.badge_text(state(reasons.WEIGHTS, item.weight))} {parts.plain(reasons.reason(item))}")
