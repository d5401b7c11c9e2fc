"""Data health: drift of what is predicted beside that of what sold."""

from __future__ import annotations

import pytest

from ml import records as r

both = pytest.mark.parametrize("language", ["en", "es"])


def table(app):
    return next((f.value for f in app.dataframe if {"Beside", "Al lado de"} & set(f.value.columns)), None)


@both
def test_predictions_stand_beside_the_target(console, said, language):
    app = console("data_health", language)
    found = table(app)
    names = {"en": ["Predictions", "Sales (the target)"], "es": ["Predicciones", "Ventas (el objetivo)"]}
    assert list(found.iloc[:, 0]) == names[language]
    levels = {"en": ["strong drift", "within chance"], "es": ["deriva fuerte", "dentro del azar"]}
    assert list(found.iloc[:, 1]) == levels[language]
    assert list(found.iloc[:, 7]) == [336, 168]
    season = {"en": "a season may look like drift", "es": "una temporada puede parecer deriva"}
    assert season[language] in said(app)


@pytest.mark.parametrize(
    ("predicted", "words"),
    [(None, "could not be looked at"), (r.Drift(note="12 predictions"), "too few predictions of known days")],
)
def test_that_there_is_nothing_to_compare_is_said(console, world, said, predicted, words):
    world.predicted = predicted
    app = console("data_health")
    assert words in said(app)
    assert list(table(app)["What"]) == ["Sales (the target)"]


def test_without_either_there_is_no_table(console, world, said):
    world.predicted = world.drift = None
    app = console("data_health")
    assert not app.exception
    assert table(app) is None
    assert "could not be looked at" in said(app)
