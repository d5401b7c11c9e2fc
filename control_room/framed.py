"""A page runs inside the frame of ``Home.py``, also when it is the first thing a new server is asked for.

Until ``st.navigation`` has run once in a server, Streamlit takes ``pages/`` for pages of their own and runs them bare.
A page that finds itself bare goes through Home, which knows the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from control_room.session import LANGUAGE_KEY

FRAMED = "framed"
WAY_BACK = "way-back"


@contextmanager
def frame() -> Iterator[None]:
    """Pages that run inside are framed."""
    st.session_state[FRAMED] = True
    try:
        yield
    finally:
        st.session_state[FRAMED] = False


def within_frame(name: str) -> None:
    """First line of a page: go through Home when there is no frame around it."""
    if not st.session_state.get(FRAMED):
        query = st.query_params.to_dict()
        st.session_state[WAY_BACK] = (name, query)
        spoken = {LANGUAGE_KEY: query[LANGUAGE_KEY]} if LANGUAGE_KEY in query else None
        st.switch_page("Home.py", query_params=spoken)  # Home settles the language before it knows the way back


def go_back() -> None:
    """In the frame, after navigation is known: open the page that had no frame."""
    name, query = st.session_state.pop(WAY_BACK, (None, {}))
    if name:
        st.switch_page(f"pages/{name}.py", query_params=query)
