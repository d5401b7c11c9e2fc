"""Choices kept in the address under their code, so that a link opens the same view in any language.

Streamlit's own binding writes the label of a choice, which is another word in every language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def seed(key: str, options: Sequence[str], default: str) -> None:
    """Give the widget ``key`` its first value: what the address says, else the default."""
    if st.session_state.get(key) in options:
        return
    asked = st.query_params.get(key)
    st.session_state[key] = asked if asked in options else default


def keep(key: str, default: str) -> None:
    """Write the widget's value to the address; the default leaves the address short."""
    value = st.session_state.get(key)
    if value in (None, default):
        st.query_params.pop(key, None)
    elif st.query_params.get(key) != value:
        st.query_params[key] = value


def segments(label: str, options: Sequence[str], key: str, name: Callable[[str], str]) -> str:
    """Choices side by side, the first one to begin with."""
    seed(key, options, options[0])
    chosen = st.segmented_control(
        label, options, format_func=name, key=key, required=True, label_visibility="collapsed"
    )
    keep(key, options[0])
    return chosen or options[0]


def select(label: str, options: Sequence[str], default: str, key: str, name: Callable[[str], str]) -> str:
    """One of a list."""
    seed(key, options, default)
    chosen = st.selectbox(label, options, format_func=name, key=key)
    keep(key, default)
    return chosen
