"""What needs somebody today: models that wait for approval, and series that are out of the ordinary."""

from __future__ import annotations

import streamlit as st

from control_room import asked, parts
from control_room.i18n import amount, gettext, ngettext, number
from control_room.words import ALERT_KINDS, PART_NAMES, alert, state, word
from ml.records import Alert, Alerts

SHOWN = 8


def today() -> None:
    """The most units at stake first, each with a link to the very view that shows it."""
    parts.section(gettext("Exceptions of the day"))
    _approval()
    seen = asked.alerts(SHOWN)
    found = parts.need(seen, "alerts", still=gettext("Forecasts go on without it."))
    if found is None:
        return
    if not found.items:
        st.markdown(":material/check_circle: " + gettext("Nothing is out of the ordinary."))
    for item in found.items:
        _line(item)
    _more(found)
    parts.source(seen, "GET /v1/alerts")


def _approval() -> None:
    """The challenger, while a manager has to decide about it."""
    health, models = asked.health().value, asked.models().value or ()
    waits = next((m.version for m in models if "challenger" in m.aliases and "champion" not in m.aliases), None)
    if health is None or waits is None or any(move.version == waits for move in asked.promotions().value or ()):
        return
    report = asked.model(waits).value
    if report is None or report.decision is None or not report.decision.needs_approval:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        text = gettext("Model v{version} has passed every gate and waits for approval.")
        st.markdown(":material/how_to_reg: " + text.format(version=parts.plain(waits)))
        st.page_link(
            "pages/experiments.py", label=gettext("Decide"), icon=":material/arrow_forward:",
            query_params={"version": waits},
        )  # fmt: skip


def _line(item: Alert) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap="xxsmall"):
            name = f"**{parts.plain(item.store)} · {parts.plain(item.product)}**"
            stake = gettext("{units} units at stake").format(units=amount(item.units))
            st.markdown(f"{parts.badge_text(state(ALERT_KINDS, item.kind))} {name} · {stake}")
            st.caption(parts.plain(alert(item)))
        page, label, query = _view(item)
        st.page_link(page, label=label, icon=":material/arrow_forward:", query_params=query, width="content")


def _view(item: Alert) -> tuple[str, str, dict[str, str]]:
    """Where it can be seen: page, what the link is called, the filters in the address."""
    if item.kind in ("outside_band", "bias"):
        query = {"in_store": item.store, "in_product": item.product, "actual": "yes"}
        query |= {"from": item.date_from.isoformat(), "to": item.date_to.isoformat()}
        return "pages/history.py", gettext("Its predictions"), query
    if item.kind == "missing":
        return "pages/data_health.py", gettext("Its days"), {"odd_in": item.store}
    query = {"way": "days", "store": item.store, "product": item.product}
    return "pages/predict.py", gettext("Its forecast"), query


def _more(found: Alerts) -> None:
    rest = sum(found.counts.values()) - len(found.items)
    if rest > 0:
        text = ngettext("{count} more with fewer units.", "{count} more with fewer units each.", rest)
        st.caption(text.format(count=number(rest)))
    if found.unknown:
        names = ", ".join(word(PART_NAMES, name) for name in found.unknown)
        st.caption(gettext("Not asked, because it does not answer: {names}.").format(names=names))
