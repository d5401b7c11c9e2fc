"""The console's visual vocabulary: every page is put together from these."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from control_room import exports, session
from control_room.charts import Chart
from control_room.i18n import N_, ago, clock, gettext, moment, reader, speaking
from control_room.live import Seen
from control_room.problems import explain
from ml.errors import ControlRoomError

T = TypeVar("T")
Tone = Literal["good", "bad", "attention", "plain"]
TONE_ICONS = {
    "good": ":material/check_circle:",
    "bad": ":material/error:",
    "attention": ":material/warning:",
    "plain": ":material/info:",
}
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")
# Not errors but beginnings: code -> the page of the next step
NEXT_STEPS = {
    "no_data": ("pages/upload.py", N_("Load your sales")),
    "no_champion": ("pages/retrain.py", N_("Train a model")),
}
CHART_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def plain(text: object) -> str:
    """Text from outside, so that no character of it is taken for markdown, math, an icon or a link."""
    # a word joiner, which nobody sees: an address would become a link, escaped or not
    return MARKDOWN.sub(r"\\\1", str(text)).replace("\n", " ").replace("@", "\u2060@")


# ---------------------------------------------------------------- opening, state, age


def lead(title: str, sentence: str, tone: Tone = "plain", more: str = "", *, stale: bool = False) -> None:
    """The page's name and, large, what is true now; what is only the last known state is not called good."""
    tone = "attention" if stale and tone == "good" else tone
    st.caption(title.upper())
    with st.container(key=f"lead-{tone}", gap="xxsmall"):
        st.markdown(f"{TONE_ICONS[tone]} {sentence}")
        if more:
            st.caption(more)


def badge(state: tuple[str, str, str], help: str | None = None) -> None:
    icon, text, colour = state
    st.badge(text, icon=icon, color=colour, help=help)  # type: ignore[arg-type]


def badge_text(state: tuple[str, str, str]) -> str:
    """A badge inside a line of markdown."""
    icon, text, colour = state
    return f":{colour}-badge[{icon} {text}]"


def source(seen: Seen[Any], method: str) -> None:
    """Where a number comes from and how old it is; loud when there is nothing newer."""
    if seen.stale and seen.problem is not None:
        said = explain(seen.problem)
        text = gettext("Last known state, from {time} ({age}). {reason}")
        st.caption(
            ":material/history: "
            + text.format(time=moment(seen.at), age=ago(seen.at), reason=plain(f"{said.title} {said.detail}"))
        )
    elif seen.at is not None:
        st.caption(gettext("{method} · as of {time}").format(method=method, time=clock(seen.at)))


def section(title: str, caption: str = "") -> None:
    st.subheader(title, anchor=False)
    if caption:
        st.caption(caption)


# ---------------------------------------------------------------- nothing there, something wrong


def empty(reason: str, page: str | None = None, label: str | None = None) -> None:
    """Why there is nothing here, and the one next step."""
    with st.container(border=True):
        st.markdown(f":material/inbox: {reason}")
        if page and label and session.may_act(page):
            st.page_link(page, label=label, icon=":material/arrow_forward:")


def problem(error: ControlRoomError, key: str, *, still: str = "", retry: bool = True) -> None:
    """What happened, what still works, what to do; Retry and the request id."""
    said = explain(error)
    lines = [f"**{plain(said.title)}**" + (f" {plain(said.detail)}" if said.detail else ""), plain(said.advice)]
    if still:
        lines.append(still)
    if said.request_id:
        lines.append(gettext("Request id: {id}").format(id=f"`{said.request_id}`"))
    rows: Any = error.facts.get("errors") or ()
    lines += [f"- {plain(row.field or '')} {plain(row.message)}" for row in rows]
    st.error("  \n".join(lines), icon=":material/error:")
    if retry and st.button(gettext("Retry"), key=f"retry-{key}", icon=":material/refresh:"):
        session.forget()
        st.rerun()


def need(seen: Seen[T], key: str, *, still: str = "") -> T | None:
    """What there is to draw; says why when there is nothing."""
    if seen.value is None and seen.problem is not None:
        if seen.problem.code in NEXT_STEPS:
            said, (page, label) = explain(seen.problem), NEXT_STEPS[seen.problem.code]
            empty(f"{said.title} {said.advice}", page, gettext(label))
        else:
            problem(seen.problem, key, still=still)
    return seen.value


def attempt(action: Callable[[], Any], key: str) -> Any:
    """Do something a person asked for; a failure is said where they asked. Returns None then."""
    try:
        return action()
    except ControlRoomError as error:
        problem(error, key, retry=False)
        return None


# ---------------------------------------------------------------- small windows


def popover(label: str, key: str, **how: Any) -> DeltaGenerator:
    """A small window under a button, open until :func:`close`; without a key of its own it would stay open, or hand
    its being open to the next one, when what it asks for has been done."""
    return st.popover(label, key=f"{key}-{st.session_state.get(_turn(key), 0)}", **how)


def close(key: str) -> None:
    """Close a window of :func:`popover` in the next run."""
    st.session_state[_turn(key)] = st.session_state.get(_turn(key), 0) + 1


def _turn(key: str) -> str:
    return f"popover-{key}"


# ---------------------------------------------------------------- charts, facts, files


def chart(drawn: Chart, key: str) -> None:
    st.plotly_chart(drawn.figure, key=key, config=CHART_CONFIG, alt=drawn.alt)


def facts(rows: Mapping[str, str], key: str) -> None:
    """Names and values, one line each. Values are markdown: escape what comes from outside."""
    with st.container(key=f"facts-{key}", gap="xxsmall"):
        for name, value in rows.items():
            st.markdown(f":gray[{name}]  \n{value}")


def downloads(frame: Callable[[], pd.DataFrame], name: str, cover: Mapping[str, object], key: str) -> None:
    """CSV and XLSX of a table, made when asked for."""
    to = reader()

    def as_csv() -> bytes:
        with speaking(to):
            return exports.csv_bytes(frame())

    def as_xlsx() -> bytes:
        with speaking(to):
            return exports.xlsx_bytes(frame(), cover)

    with st.container(horizontal=True):
        for label, made, ending, mime in (
            (gettext("Download CSV"), as_csv, "csv", exports.CSV_MIME),
            (gettext("Download XLSX"), as_xlsx, "xlsx", exports.XLSX_MIME),
        ):
            st.download_button(
                label, made, f"{name}.{ending}", mime, key=f"{key}-{ending}", on_click="ignore",
                icon=":material/download:",
            )  # fmt: skip
