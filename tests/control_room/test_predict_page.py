"""Predict: beside last week and last year, beside the challenger, why as a waterfall; rows that are pasted."""

from __future__ import annotations

import pytest

from ml.records import WHAT_IF

both = pytest.mark.parametrize("language", ["en", "es"])


@both
def test_an_answer_stands_beside_last_year_and_the_challenger(console, world, said, language):
    app = console("predict", language)
    app.button(key="ask-day").click().run()
    assert not app.exception
    text = said(app).replace("\xa0", " ").replace("\\", "")
    wanted = {
        "en": ("For comparison: on", "A year before, on", "Challenger v8 says"),
        "es": ("Para comparar: el", "Un año antes, el", "El aspirante v8 dice"),
    }[language]
    for words in wanted:
        assert words in text
    assert ("api", f"predict 1 rows challenger {WHAT_IF}") in world.calls


def test_without_a_challenger_the_champion_stands_alone(console, world, said):
    world.champion = "8"
    app = console("predict")
    app.button(key="ask-day").click().run()
    assert "Challenger" not in said(app)
    assert not any(WHAT_IF in what for _, what in world.calls)


@both
def test_rows_can_be_pasted(console, world, said, language, speak):
    speak(language)
    app = console("predict", language, way="file")
    app.text_area(key="pasted").set_value("date\tstore\n2026-03-01\tS01\n").run()
    app.button(key="ask-pasted").click().run()
    assert not app.exception
    assert ("api", "predict_file") in world.calls
    words = {"en": "2 of 3 rows were predicted.", "es": "Se predijeron 2 de 3 filas."}[language]
    assert any(words in box.value for box in (*app.warning, *app.success))
    app.text_area(key="pasted").set_value("date\n2026-03-02\n").run()
    assert not app.warning


def test_pasting_while_the_api_is_away_says_so(console, world):
    app = console("predict", way="file")
    world.down = {"api"}
    app.button(key="ask-pasted").click().run()
    assert not app.exception
    assert app.error
