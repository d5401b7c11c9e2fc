"""What another version would have said to the questions that the filters choose, beside what was said and what sold."""

from __future__ import annotations

from typing import Any

import streamlit as st

from control_room import address, asked, parts, session, tables
from control_room.i18n import date_form, gettext, ngettext, number, percent
from ml.records import Retellings

MOST_ROWS = 100


def retelling(chosen: dict[str, Any]) -> None:
    """Asked when told to: a version answers a page of logged questions, which takes seconds."""
    models = [model.version for model in asked.models().value or () if model.retired_at is None]
    if not models:
        return
    parts.section(
        gettext("What another version would have said"),
        gettext("To the newest {rows} questions that fit the filters, with the data of then.").format(
            rows=number(MOST_ROWS)
        ),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=240):
            version = address.select(gettext("Version"), models, models[0], "retell", lambda code: f"v{code}")
        if st.button(gettext("Ask it"), icon=":material/record_voice_over:", key="retell-now"):
            st.session_state["retold"] = (version, _signature(chosen), _asked(version, chosen))
    kept = st.session_state.get("retold")
    if kept and kept[:2] == (version, _signature(chosen)) and kept[2] is not None:
        _answers(kept[2])


def _signature(chosen: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in chosen.items()))


def _asked(version: str, chosen: dict[str, Any]) -> Retellings | None:
    with st.spinner(gettext("v{version} answers …").format(version=parts.plain(version))):
        return parts.attempt(lambda: session.services().api.retellings(version, chosen, MOST_ROWS), "retell")


def _answers(told: Retellings) -> None:
    st.markdown(_sentence(told))
    if told.gone:
        text = ngettext(
            "{count} row is left out: the data it was answered from is no longer kept.",
            "{count} rows are left out: the data they were answered from is no longer kept.",
            told.gone,
        )
        st.caption(text.format(count=number(told.gone)))
    if not told.items:
        return
    frame = tables.retold(told)
    config: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="localized") for name in frame.select_dtypes("number").columns
    }
    config[gettext("Date")] = st.column_config.DateColumn(format=date_form())
    st.dataframe(
        tables.rounded(frame), hide_index=True, height=320, column_config=config, placeholder="–",
        alt=gettext("What another version would have said"),
    )  # fmt: skip
    cover = {gettext("What"): gettext("What another version would have said"), gettext("Model"): f"v{told.version}"}
    parts.downloads(lambda: frame, f"retold-v{told.version}", cover, "retold")


def _sentence(told: Retellings) -> str:
    version = parts.plain(told.version)
    if told.wape_now is None or told.wape_then is None:
        text = gettext("v{version} has answered; none of these days can be judged by what sold without hindsight.")
        return text.format(version=version)
    text = gettext("v{version} would have erred by **{now}**, what was said erred by {then}, on {rows} rows.")
    facts = {"now": percent(told.wape_now), "then": percent(told.wape_then), "rows": number(told.judged)}
    return text.format(version=version, **facts)
