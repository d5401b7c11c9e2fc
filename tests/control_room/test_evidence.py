"""Experiments: the memo and what lies behind the verdict."""

from __future__ import annotations

import pytest
import streamlit as st

both = pytest.mark.parametrize("language", ["en", "es"])


@pytest.fixture
def files(monkeypatch):
    """Key of each download button -> what makes its file."""
    offered, button = {}, st.download_button

    def seen(label, data, *args, **more):
        offered[more["key"]] = data
        return button(label, data, *args, **more)

    monkeypatch.setattr(st, "download_button", seen)
    return offered


@both
def test_the_memo_can_be_taken_along(console, files, language):
    assert not console("experiments", language).exception
    assert files["memo-pdf"]().startswith(b"%PDF-")
    page = files["memo-html"]().decode()
    assert {"en": "too close to call", "es": "demasiado igualado"}[language] in page
    assert {"en": "+0.8%", "es": "+0,8 %"}[language] in page.replace("\xa0", " ")
