"""The what-if page: plans of prices and promotions per day, compared under the champion and the challenger."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from control_room import address, asked, charts, parts, session, tables, words
from control_room.i18n import amount, day, gettext, moment, ngettext, number, percent, signed_amount
from control_room.live import Seen
from control_room.outcomes import Costs, Outcome, outcome
from control_room.views import planning
from control_room.words import span
from ml.records import Answer, Override, PlanDifference, PredictionInput, RowError, Scenario, ScenarioPlan

ASKED = "whatif-asked"
ASK_NOW = "whatif-ask-now"
LOADED = "whatif-loaded"


@dataclass(frozen=True)
class Compared:
    """A plan with its outcomes, baseline first, under each model that answered."""

    plan: ScenarioPlan
    champion: str
    seen: Seen[Any]
    by_model: dict[str, tuple[Outcome, ...]]
    ranges: dict[str, tuple[PlanDifference, ...]]  # of those models that can say them; the baseline has none
    changed: bool  # the settings are others by now

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Those of the champion."""
        return self.by_model[self.champion]


# ---------------------------------------------------------------- what is true now


def opening() -> DeltaGenerator:
    """The page's top, filled once it is known what to say; a scenario that the address names is opened first."""
    top = st.container()
    scenario_id = st.query_params.get("scenario")
    if scenario_id and st.session_state.get(LOADED) != scenario_id:
        seen = asked.scenario(scenario_id)
        scenario = parts.need(seen, "scenario")
        if scenario is not None:
            _open(scenario)
    return top


def lead(top: DeltaGenerator, found: Compared | None) -> None:
    title, health = gettext("What-if"), asked.health()
    with top:
        if health.value is None or health.stale:
            parts.lead(title, gettext("No what-if can be asked now: the API does not answer."), "bad")
        elif health.value.champion is None:
            parts.lead(title, gettext("No model serves forecasts yet: train one first."), "attention")
        elif found is None:
            text = gettext("v{version} answers what-ifs, with sales known up to {date}.")
            version, until = parts.plain(health.value.champion.version), day(health.value.data_until)
            parts.lead(title, text.format(version=version, date=until), "good", gettext("Nothing is compared yet."))
        else:
            _verdict(title, found)


def _verdict(title: str, found: Compared) -> None:
    """The best scenario beside the baseline, by profit where it is known, else by units."""
    baseline, *others = found.outcomes
    by_profit = all(item.profit is not None for item in found.outcomes)
    best = max(others, key=lambda item: (item.profit if by_profit else item.units) or 0.0)
    gain = _gain(baseline, best, by_profit)
    facts = {
        "name": parts.plain(best.name),
        "units": amount(abs(best.units - baseline.units)),
        "share": percent(best.units / baseline.units - 1 if baseline.units else None, signed=True),
        "gain": amount(abs(gain)),
    }
    sentence = _sentence(by_profit, best.units >= baseline.units, gain > 0).format(**facts)
    doubtful = sum(item.extrapolated for item in found.outcomes)
    more = [gettext("Under v{version}, {span}.").format(version=parts.plain(found.champion), span=_span(found.plan))]
    more += filter(None, [_range(found, others.index(best))])
    if doubtful:
        text = ngettext(
            "{count} planned day lies beyond what history shows: take it with care.",
            "{count} planned days lie beyond what history shows: take them with care.",
            doubtful,
        )
        more.append(text.format(count=number(doubtful)))
    tone: parts.Tone = "attention" if doubtful else "good" if gain > 0 else "plain"
    parts.lead(title, sentence, tone, " ".join(more), stale=found.seen.stale)


def _range(found: Compared, index: int) -> str:
    """How sure the difference of a scenario is."""
    known = found.ranges.get(found.champion, ())
    if index >= len(known):
        return ""
    interval = known[index].interval
    if interval is None:
        return gettext("How sure the difference is cannot be said: history has no such day.")
    low, high = interval["80"]
    text = gettext("In 8 of 10 such cases the difference lies between {low} and {high} units.")
    return text.format(low=signed_amount(low), high=signed_amount(high))


def _gain(baseline: Outcome, best: Outcome, by_profit: bool) -> float:
    if by_profit and best.profit is not None and baseline.profit is not None:
        return best.profit - baseline.profit
    return best.units - baseline.units


def _sentence(by_profit: bool, sells_more: bool, better: bool) -> str:
    if not by_profit:
        more = gettext("“{name}” would sell {units} units more than the baseline ({share}).")
        return more if better else gettext("No scenario would sell more than the baseline.")
    if not better:
        return gettext("No scenario would earn more than the baseline; “{name}” comes nearest ({gain} less).")
    if sells_more:
        return gettext("“{name}” would earn {gain} more than the baseline and sell {units} units more ({share}).")
    return gettext("“{name}” would earn {gain} more than the baseline and sell {units} units less ({share}).")


def _span(plan: ScenarioPlan) -> str:
    catalog = asked.catalog().value
    step = planning.step(catalog) if catalog else dt.timedelta(days=1)
    return span(plan.date_from, plan.date_from + (plan.periods - 1) * step)


# ---------------------------------------------------------------- comparing


def compare(drafted: ScenarioPlan | None) -> Compared | None:
    """The outcomes of what was asked last; asks when told to, or when a kept scenario was just opened."""
    if drafted is None:
        return None
    if not session.may("planner"):
        st.caption(gettext("Comparing takes the role of a planner."))
        return None
    if st.button(gettext("Compare"), type="primary", icon=":material/balance:", key="compare") or _ask_now():
        st.session_state[ASKED] = drafted
    plan: ScenarioPlan | None = st.session_state.get(ASKED)
    health = asked.health().value
    if plan is None or (plan.store, plan.product) != (drafted.store, drafted.product):
        st.caption(gettext("Press Compare: what each plan would sell and earn comes here."))
        return None
    if health is None or health.champion is None or health.data_version is None:
        return None
    changed = _question(plan) != _question(drafted)
    plan = plan if changed else drafted
    seen = asked.what_if(_rows(plan), "champion", health.champion.version, health.data_version)
    replies = parts.need(seen, "what-if")
    if replies is None or not _all_answered(replies):
        return None
    costs = Costs(drafted.unit_cost, drafted.promotion_cost, drafted.discounted)
    by_model = {health.champion.version: _outcomes(plan, replies, costs)}
    by_model |= _by_challenger(plan, costs, health.data_version)
    ranges = {version: _ranges(plan, version, health.data_version) for version in by_model}
    if changed:
        st.info(gettext("The plan has changed since. Press Compare to ask again."), icon=":material/update:")
    return Compared(plan, health.champion.version, seen, by_model, ranges, changed)


def _ask_now() -> bool:
    return bool(st.session_state.pop(ASK_NOW, False))


def _question(plan: ScenarioPlan) -> ScenarioPlan:
    """What the forecasts depend on: no names, no costs."""
    days = tuple(variant.model_copy(update={"name": "-"}) for variant in plan.variants)
    aside = {"name": "-", "unit_cost": None, "promotion_cost": None, "discounted": False}
    return plan.model_copy(update={**aside, "variants": days})


def _rows(plan: ScenarioPlan) -> tuple[PredictionInput, ...]:
    """Every day of every variant; what is not planned is left to what is known."""
    catalog = asked.catalog().value
    step = planning.step(catalog) if catalog else dt.timedelta(days=1)
    rows = []
    for variant in plan.variants:
        planned = {item.date: item for item in variant.days}
        for index in range(plan.periods):
            date = plan.date_from + index * step
            item = planned.get(date, Override())
            rows.append(
                PredictionInput(
                    date=date, store=plan.store, product=plan.product, price=item.price, promotion=item.promotion
                )
            )
    return tuple(rows)


def _all_answered(replies: tuple[Answer | RowError, ...]) -> bool:
    wrong = [reply for reply in replies if isinstance(reply, RowError)]
    if wrong:
        st.error(gettext("The plan cannot be asked as it is."), icon=":material/error:")
        st.dataframe(tables.row_errors(wrong), hide_index=True)
    return not wrong


def _outcomes(plan: ScenarioPlan, replies: tuple[Any, ...], costs: Costs) -> tuple[Outcome, ...]:
    return tuple(
        outcome(variant.name, replies[index * plan.periods : (index + 1) * plan.periods], costs)
        for index, variant in enumerate(plan.variants)
    )


def _by_challenger(plan: ScenarioPlan, costs: Costs, data_version: str) -> dict[str, tuple[Outcome, ...]]:
    """The same under the challenger, where there is one that answers."""
    models = asked.models().value or ()
    rival = next((m.version for m in models if "challenger" in m.aliases and "champion" not in m.aliases), None)
    if rival is None:
        return {}
    seen = asked.what_if(_rows(plan), "challenger", rival, data_version)
    if seen.value is None or any(isinstance(reply, RowError) for reply in seen.value):
        st.caption(gettext("The challenger v{version} cannot answer this now.").format(version=parts.plain(rival)))
        return {}
    return {rival: _outcomes(plan, seen.value, costs)}


def _ranges(plan: ScenarioPlan, version: str, data_version: str) -> tuple[PlanDifference, ...]:
    """Empty where a model has none to say, or does not answer."""
    found = asked.differences(_question(plan), version, data_version).value
    return found.items if found else ()


# ---------------------------------------------------------------- what comes out


def chart(found: Compared | None) -> None:
    if found is None:
        return
    parts.section(gettext("Day by day"), gettext("Hatched: a day that is planned beyond what history shows."))
    version = found.champion
    if len(found.by_model) > 1:
        version = address.segments(
            gettext("Model"), list(found.by_model), "by_model", lambda code: _model_name(found, code)
        )
    shown = found.by_model.get(version, found.outcomes)
    parts.chart(charts.what_if_chart(shown, dark=session.dark()), "what-if")


def _model_name(found: Compared, version: str) -> str:
    role = gettext("Champion") if version == found.champion else gettext("Challenger")
    return f"{role} v{version}"


def table(found: Compared | None) -> None:
    """Totals beside the baseline; every day of every scenario to download."""
    if found is None:
        return
    parts.section(gettext("In total"), _span(found.plan))
    frame = tables.what_if(
        [(_model_name(found, version), outcomes) for version, outcomes in found.by_model.items()],
        list(found.ranges.values()),
    ).dropna(axis=1, how="all")
    config = {name: st.column_config.NumberColumn(format="localized") for name in frame.select_dtypes("number").columns}
    st.dataframe(tables.rounded(frame), hide_index=True, column_config=config, placeholder="–", alt=gettext("In total"))
    st.caption(_how_counted(found))
    _asked_anew(found)
    for code in sorted({code for one in found.outcomes for answer in one.answers for code in answer.warnings}):
        st.caption(f":material/warning: {parts.plain(words.word(words.WARNINGS, code))}")
    parts.source(found.seen, "POST /predict")
    cover = _cover(found)
    with st.container(horizontal=True):
        parts.downloads(lambda: frame, "what-if", cover, "what-if-total")
    with st.expander(gettext("Every day of every scenario"), icon=":material/table:"):
        days = tables.what_if_days([(name, outcomes) for name, outcomes in found.by_model.items()])
        st.dataframe(tables.rounded(days), hide_index=True, height=280)
        parts.downloads(lambda: days, "what-if-days", cover, "what-if-days")


def _asked_anew(found: Compared) -> None:
    """A kept scenario shows the numbers of the present model; that they were another's is said."""
    scenario_id = st.query_params.get("scenario")
    scenario = asked.scenario(scenario_id).value if scenario_id else None
    if scenario and scenario.plan.model_version not in (None, found.champion):
        text = gettext("It was kept when v{then} answered; these are the numbers of v{now}.")
        then = parts.plain(scenario.plan.model_version)
        st.info(text.format(then=then, now=parts.plain(found.champion)), icon=":material/update:")


def _how_counted(found: Compared) -> str:
    texts = [gettext("±: beside the baseline under the same model.")]
    if any(item.interval for known in found.ranges.values() for item in known):
        texts.append(
            gettext(
                "Its 80 % range: the same day's error is shared by both plans and mostly cancels; the rest is how well "
                "similar days of the history tell the effect. It is not the difference of two ranges."
            )
        )
    if found.outcomes[0].revenue is not None:
        texts.append(
            gettext("Revenue is units times the price less the promotion's discount.")
            if found.plan.discounted
            else gettext("Revenue is units times the price.")
        )
    if found.outcomes[0].profit is not None:
        texts.append(
            gettext(
                "Break-even: units that a scenario must sell to earn what the baseline does; –: no number is enough."
            )
        )
    return " ".join(texts)


def _cover(found: Compared) -> dict[str, object]:
    plan, first = found.plan, found.outcomes[0].answers[0]
    return {
        gettext("What"): gettext("What-if"),
        gettext("Filters"): f"{plan.store} / {plan.product}, {_span(plan)}",
        gettext("Model"): ", ".join(f"v{version}" for version in found.by_model),
        gettext("Data version"): first.data_version,
        gettext("Cost of one unit"): plan.unit_cost if plan.unit_cost is not None else gettext("not known"),
        gettext("Cost of a promoted day"): plan.promotion_cost if plan.promotion_cost is not None else "–",
    }


# ---------------------------------------------------------------- kept and shared


def keep(found: Compared | None) -> None:
    """Keep what is compared, under a name; its link opens it for others."""
    if found is None or found.changed or not session.may("planner"):
        return
    opened = st.query_params.get("scenario")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            gettext("Name to keep it under"), key="whatif-name", max_chars=100, width=320, persist_state="session"
        ).strip()
        if opened and st.button(gettext("Save"), icon=":material/save:", disabled=not name, key="save"):
            _save(opened, found, name)
        label = gettext("Save as new") if opened else gettext("Save")
        if st.button(label, icon=":material/bookmark_add:", disabled=not name, key="save-new"):
            _save(uuid.uuid4().hex, found, name)


def _save(scenario_id: str, found: Compared, name: str) -> None:
    plan = found.plan.model_copy(update={"name": name, "model_version": found.champion})
    kept = parts.attempt(lambda: session.services().api.keep_scenario(scenario_id, plan), "save")
    if kept is not None:
        session.forget("api", "scenarios", "scenario")
        st.session_state[LOADED] = st.query_params["scenario"] = scenario_id
        st.toast(gettext("Kept. The address of this page opens it."), icon=":material/link:")
        st.rerun()


def kept() -> None:
    """Every scenario that was kept: open one, or forget it."""
    parts.section(gettext("Kept scenarios"))
    seen = asked.scenarios()
    found = parts.need(seen, "scenarios", still=gettext("Comparing goes on without them."))
    if found is None:
        return
    if not found:
        parts.empty(gettext("None has been kept yet. Compare a plan, give it a name and save it."))
        parts.source(seen, "GET /v1/scenarios")
        return
    frame = pd.DataFrame([_kept_row(item) for item in found])
    st.dataframe(frame, hide_index=True, alt=gettext("Kept scenarios"))
    parts.source(seen, "GET /v1/scenarios")
    named = {item.scenario_id: f"{item.plan.name} · {moment(item.updated_at)}" for item in found}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            gettext("Scenario"), list(named), format_func=lambda code: named.get(code, code), key="kept", width=320
        )
        if st.button(gettext("Open"), icon=":material/folder_open:", key="open"):
            st.session_state.pop(LOADED, None)
            st.query_params["scenario"] = chosen
            st.rerun()
        if session.may("planner"):
            _forget(chosen, named[chosen])


def _kept_row(item: Scenario) -> dict[str, str]:
    plan = item.plan
    return {
        gettext("Name"): plan.name,
        gettext("Store"): plan.store,
        gettext("Product"): plan.product,
        gettext("Days"): _span(plan),
        gettext("Scenarios"): ", ".join(variant.name for variant in plan.variants[1:]),
        gettext("Answered by"): f"v{plan.model_version}" if plan.model_version else "–",
        gettext("Kept"): moment(item.updated_at),
        gettext("By"): item.created_by,
    }


def _forget(scenario_id: str, name: str) -> None:
    with parts.popover(gettext("Delete"), "delete-box", icon=":material/delete:"):
        st.markdown(
            gettext("“{name}” is deleted for everybody; its link no longer opens.").format(name=parts.plain(name))
        )
        if st.button(gettext("Yes, delete it"), type="primary", key="delete-now"):
            done = parts.attempt(lambda: _deleted(scenario_id), "delete")
            if done:
                parts.close("delete-box")
                session.forget("api", "scenarios", "scenario")
                if st.query_params.get("scenario") == scenario_id:
                    st.query_params.pop("scenario")
                st.rerun()


def _deleted(scenario_id: str) -> bool:
    session.services().api.delete_scenario(scenario_id)
    return True


def _open(scenario: Scenario) -> None:
    st.session_state[LOADED] = scenario.scenario_id
    st.session_state[ASK_NOW] = True
    planning.fill_in(scenario.plan)
