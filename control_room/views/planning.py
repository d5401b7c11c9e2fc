"""What is planned on the what-if page: series, days, costs, and a calendar of prices and promotions per scenario."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from control_room import asked, parts
from control_room.clients.api import Catalog
from control_room.i18n import date_form, day, gettext, weekday
from control_room.outcomes import Costs
from control_room.views.choose import find, series_choice
from ml.records import Override, ScenarioPlan, Variant

MOST_SCENARIOS = 4
LETTERS = "ABCD"
USUAL_PERIODS = {"D": 14, "W": 4}
DAYS_BACK = 364
# Drafts of the calendars: (store, product, number of the variant) -> day -> (price, promotion).
EDITS = "whatif-edits"


@dataclass(frozen=True)
class Usual:
    """What a day is planned with when nobody plans it: the usual price, no promotion; None: the data has none."""

    price: float | None
    promotion: float | None
    shares: bool  # promotions are shares of a discount, not just yes or no

    @property
    def columns(self) -> list[str]:
        return [name for name in ("price", "promotion") if getattr(self, name) is not None]


# ---------------------------------------------------------------- the plan


def plan() -> ScenarioPlan | None:
    """What is planned: series, days, costs, and a calendar for the baseline and each scenario."""
    catalog = parts.need(asked.catalog(), "catalog", still=gettext("Scenarios that were kept stay kept."))
    if catalog is None:
        return None
    if not catalog.series:
        parts.empty(gettext("There is nothing to predict yet."), "pages/upload.py", gettext("Load your sales"))
        return None
    store, product = series_choice(catalog)
    usual = _usual(catalog, store, product)
    first, periods, count = _days(catalog)
    costs = _costs(usual)
    if not usual.columns:
        parts.empty(gettext("The data has neither prices nor promotions, so there is nothing to vary."))
        return None
    variants = _calendars(catalog, (store, product), (first, periods), count, usual)
    return ScenarioPlan(
        name=st.session_state.get("whatif-name") or "–", store=store, product=product, date_from=first,
        periods=periods, variants=variants, unit_cost=costs.unit, promotion_cost=costs.promotion,
        discounted=costs.discounted, model_version=None,
    )  # fmt: skip


def _usual(catalog: Catalog, store: str, product: str) -> Usual:
    info = find(catalog, store, product)
    since = catalog.date_to - dt.timedelta(days=DAYS_BACK - 1) if catalog.date_to else None
    past = asked.sales(store, product, since).value or ()
    promotions = {point.promotion for point in past if point.promotion is not None}
    return Usual(
        price=info.last_price if info else None,
        promotion=0.0 if promotions else None,
        shares=bool(promotions - {0.0, 1.0}),
    )


def _days(catalog: Catalog) -> tuple[dt.date, int, int]:
    """First day, how many, how many scenarios; all three are in the address."""
    next_day = (catalog.date_to or dt.datetime.now(dt.UTC).date()) + step(catalog)
    weekly = catalog.frequency == "W"
    with st.grid(3, min_column_width=150):
        first = st.date_input(
            gettext("First day"), value=next_day, format=date_form(), key="first", bind="query-params"
        )
        periods = st.slider(
            gettext("Weeks") if weekly else gettext("Days"), 2, max(3, catalog.horizon),
            min(USUAL_PERIODS[catalog.frequency], catalog.horizon), key="periods", bind="query-params",
        )  # fmt: skip
        count = st.slider(gettext("Scenarios"), 1, MOST_SCENARIOS, 1, key="scenarios", bind="query-params")
    return first, periods, count


def step(catalog: Catalog) -> dt.timedelta:
    return dt.timedelta(days=7 if catalog.frequency == "W" else 1)


def _costs(usual: Usual) -> Costs:
    """What profit and break-even take; all of it may be left out, all of it is in the address."""
    if usual.price is None:
        return Costs()
    with st.expander(gettext("Costs, for profit and break-even"), icon=":material/payments:"):
        with st.grid(3, min_column_width=150):
            unit = st.number_input(
                gettext("Cost of one unit"), 0.0, None, None, key="unit_cost", bind="query-params",
                placeholder=gettext("not known"),
            )  # fmt: skip
            promotion = st.number_input(
                gettext("Cost of a promoted day"), 0.0, None, None, key="promotion_cost", bind="query-params",
                placeholder=gettext("none"), help=gettext("Leaflets, displays, staff; not the discount itself."),
            )  # fmt: skip
        discounted = st.toggle(
            gettext("Promotions are a discount on the price"), value=usual.shares, key="discounted",
            help=gettext("On: a promotion of 0.2 means that customers pay 20 % less than the price."),
            bind="query-params",
        )  # fmt: skip
    return Costs(unit, promotion, discounted)


# ---------------------------------------------------------------- the calendars


def _calendars(
    catalog: Catalog, series: tuple[str, str], days: tuple[dt.date, int], count: int, usual: Usual
) -> tuple[Variant, ...]:
    names = _names(count)
    dates = [days[0] + index * step(catalog) for index in range(days[1])]
    variants = []
    for index, tab in enumerate(st.tabs(names)):
        with tab:
            changed = _calendar((*series, index), dates, usual)
            variants.append(Variant(name=names[index], days=changed))
    return tuple(variants)


def _names(count: int) -> list[str]:
    """The baseline and the scenarios by their names, each another one."""
    with st.expander(gettext("Names of the scenarios"), icon=":material/edit:"), st.grid(4, min_column_width=150):
        named = [
            st.text_input(
                gettext("Scenario {letter}").format(letter=letter), key=f"whatif-name-{letter}", max_chars=40,
                placeholder=gettext("Scenario {letter}").format(letter=letter), persist_state="session",
            ).strip()
            for letter in LETTERS[:count]
        ]  # fmt: skip
    names = [gettext("Baseline")]
    for letter, name in zip(LETTERS, named, strict=False):
        usual = gettext("Scenario {letter}").format(letter=letter)
        names.append(name if name and name not in names else usual)
    return names


def _calendar(which: tuple[str, str, int], dates: list[dt.date], usual: Usual) -> tuple[Override, ...]:
    """One editable calendar; its edits outlast a change of the days and of the page."""
    edits: dict[dt.date, dict[str, float]] = st.session_state.setdefault(EDITS, {}).setdefault(which, {})
    _fill(which, dates, usual, edits)
    revision = st.session_state.get(f"whatif-revision-{which}", 0)
    key = f"whatif-days-{which}-{dates[0]}-{len(dates)}-{revision}"
    bases = st.session_state.setdefault("whatif-bases", {})
    if key not in st.session_state or key not in bases:  # begun anew: what was edited before is where it begins
        bases[key] = _frame(dates, usual, edits)
    edited = st.data_editor(
        bases[key], hide_index=True, disabled=["day"], key=key, height=318, column_config=_editor_columns(),
        alt=gettext("Prices and promotions by day"),
    )  # fmt: skip
    for date, row in zip(dates, edited.to_dict("records"), strict=True):
        edits[date] = {name: float(row[name]) for name in usual.columns}
        if edits[date] == _usual_day(usual):
            del edits[date]
    planned = [(date, edits[date]) for date in dates if date in edits]
    return tuple(
        Override(date=date, price=values.get("price"), promotion=values.get("promotion")) for date, values in planned
    )


def _usual_day(usual: Usual) -> dict[str, float]:
    return {name: float(getattr(usual, name)) for name in usual.columns}


def _frame(dates: list[dt.date], usual: Usual, edits: dict[dt.date, dict[str, float]]) -> pd.DataFrame:
    return pd.DataFrame([{"day": weekday(date), **_usual_day(usual), **edits.get(date, {})} for date in dates])


def _editor_columns() -> dict[str, Any]:
    return {
        "day": st.column_config.TextColumn(gettext("Day"), pinned=True),
        "price": st.column_config.NumberColumn(gettext("Price"), min_value=0.01, required=True, format="localized"),
        "promotion": st.column_config.NumberColumn(
            gettext("Promotion"), min_value=0.0, max_value=1.0, step=0.05, required=True,
            help=gettext("0 none, 1 full, or the discount share."),
        ),
    }  # fmt: skip


def _fill(
    which: tuple[str, str, int], dates: list[dt.date], usual: Usual, edits: dict[dt.date, dict[str, float]]
) -> None:
    """One price or promotion for several days at once."""
    key = f"whatif-fill-{which[2]}"
    with parts.popover(gettext("Fill several days"), key, icon=":material/format_color_fill:"):
        chosen = st.select_slider(
            gettext("Days"), dates, (dates[0], dates[-1]), format_func=day, key=f"{key}-days-{dates[0]}-{len(dates)}"
        )
        values = {}
        for name, label in (("price", gettext("Price")), ("promotion", gettext("Promotion"))):
            if name in usual.columns:
                most = 1.0 if name == "promotion" else None
                values[name] = st.number_input(label, 0.0, most, None, key=f"{key}-{name}", placeholder="–")
        if st.button(gettext("Fill"), key=f"{key}-now", type="primary"):
            given = {name: value for name, value in values.items() if value is not None and (value or name != "price")}
            for date in dates:
                if chosen[0] <= date <= chosen[1]:
                    edits[date] = {**_usual_day(usual), **edits.get(date, {}), **given}
            revision = f"whatif-revision-{which}"
            st.session_state[revision] = st.session_state.get(revision, 0) + 1
            parts.close(key)
            st.rerun()


# ---------------------------------------------------------------- from a kept scenario


def fill_in(plan: ScenarioPlan) -> None:
    """Set every field to a plan; the widgets that come after take their values from here."""
    catalog = asked.catalog().value
    most = max(3, catalog.horizon) if catalog else plan.periods
    values: dict[str, Any] = {
        "store": plan.store, "product": plan.product, "first": plan.date_from, "periods": min(plan.periods, most),
        "scenarios": len(plan.variants) - 1, "unit_cost": plan.unit_cost, "promotion_cost": plan.promotion_cost,
        "discounted": plan.discounted, "whatif-name": plan.name,
    }  # fmt: skip
    values |= {f"whatif-name-{letter}": v.name for letter, v in zip(LETTERS, plan.variants[1:], strict=False)}
    for key, value in values.items():
        st.session_state[key] = value
    edits = st.session_state.setdefault(EDITS, {})
    for index, variant in enumerate(plan.variants):
        which = (plan.store, plan.product, index)
        edits[which] = {item.date: _planned(item) for item in variant.days}
        revision = f"whatif-revision-{which}"
        st.session_state[revision] = st.session_state.get(revision, 0) + 1


def _planned(item: Override) -> dict[str, float]:
    return {name: value for name, value in (("price", item.price), ("promotion", item.promotion)) if value is not None}
