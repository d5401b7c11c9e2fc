"""The services in the frame: a line each in the side bar, a banner on every page when one is away."""

from __future__ import annotations

import datetime as dt

import streamlit as st

from control_room import asked, session
from control_room.i18n import N_, ago, gettext, moment
from control_room.live import Seen
from control_room.parts import plain
from control_room.problems import explain
from control_room.words import PART_NAMES, PART_STATES, state, word
from ml.records import Health, PartHealth

# part -> what cannot be done while it is away; everything else goes on
CONSEQUENCES = {
    "api": N_("No forecast can be asked and no file loaded; pages show what was known."),
    "airflow": N_("No run can be started or followed; forecasts go on."),
    "mlflow": N_("Experiments show what was known; forecasts go on."),
    "database": N_("History and uploads wait; forecasts go on."),
    "object store": N_("No file can be loaded; forecasts go on."),
    "worker": N_("Large files wait; everything else goes on."),
}


def parts() -> tuple[Seen[Health], tuple[PartHealth, ...]]:
    """All parts as the API sees them; with the API away its own line, and the others asked directly."""
    seen = asked.health()
    if seen.value is not None and not seen.stale:
        own = any(part.name == "api" for part in seen.value.parts)
        return seen, seen.value.parts if own else (_api_works(seen.value, seen.at), *seen.value.parts)
    reason = explain(seen.problem).detail if seen.problem else ""
    down = PartHealth(name="api", state="down", checked_at=dt.datetime.now(dt.UTC), detail=reason)
    return seen, (down, *_asked_directly())


def _api_works(health: Health, at: dt.datetime | None) -> PartHealth:
    return PartHealth(name="api", state="ok", checked_at=at or dt.datetime.now(dt.UTC), detail=f"v{health.version}")


def _asked_directly() -> list[PartHealth]:
    airflow = session.ask_airflow("health", lambda client: client.health(), seconds=4)
    mlflow = session.ask_mlflow("health", lambda client: client.health(), seconds=4)
    return [seen.value for seen in (airflow, mlflow) if seen.value is not None]


def away(found: tuple[PartHealth, ...]) -> list[PartHealth]:
    return [part for part in found if part.state == "down"]


def consequence(part: PartHealth) -> str:
    return gettext(CONSEQUENCES[part.name]) if part.name in CONSEQUENCES else ""


def sidebar() -> None:
    """One line per part, with icon and words."""
    with st.sidebar:
        st.caption(gettext("Services"))
        lines = []
        for part in parts()[1]:
            icon, text, _colour = state(PART_STATES, part.state)
            lines.append(f"{icon} {plain(word(PART_NAMES, part.name))} · {text}")
        st.caption("  \n".join(lines))


def top() -> None:
    """Who is away, what that means, since when the page shows what was known."""
    seen, found = parts()
    for part in away(found):
        silent = gettext("does not answer")
        text = f"**{plain(word(PART_NAMES, part.name))}** {silent}. {consequence(part)}"
        if part.name == "api" and seen.at:
            known = gettext("Last answer {time} ({age}).")
            text += " " + known.format(time=moment(seen.at), age=ago(seen.at))
        st.warning(text, icon=":material/cloud_off:")
