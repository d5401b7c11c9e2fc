"""Choosing a store and a product; what has only one of them is not asked for."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from control_room.clients.api import Catalog
from control_room.i18n import gettext
from ml.records import SeriesInfo


def series_choice(catalog: Catalog, stacked: bool = False) -> tuple[str, str]:
    """The chosen store and product, kept in the address (?store=…&product=…). Starts with the best seller."""
    best = max(catalog.series, key=lambda item: item.mean_sales)
    left, right = (st.container(), st.container()) if stacked else st.columns(2)
    with left:
        store = _one(gettext("Store"), sorted(catalog.stores), best.store, "store")
    here = [item for item in catalog.series if item.store == store] or [best]
    with right:
        favourite = max(here, key=lambda item: item.mean_sales)
        product = _one(gettext("Product"), sorted({item.product for item in here}), favourite.product, "product")
    return store, product


def _one(label: str, options: list[str], start: str, key: str) -> str:
    if len(options) == 1:
        return options[0]
    if st.session_state.get(key) not in (None, *options):
        del st.session_state[key]
    index = options.index(start) if start in options else 0
    return st.selectbox(label, options, index=index, key=key, bind="query-params") or options[index]


def choice_field(label: str, options: Iterable[str], key: str) -> str | None:
    """One of a list or all, kept in the address; what is not in the list can be typed."""
    found = sorted(options)
    return st.selectbox(
        label, found, index=None, key=key, bind="query-params", placeholder=gettext("all"), accept_new_options=True
    )


def find(catalog: Catalog, store: str, product: str) -> SeriesInfo | None:
    return next((item for item in catalog.series if (item.store, item.product) == (store, product)), None)
