"""Experiments: the memo and what lies behind the verdict."""

from __future__ import annotations

import pytest
import streamlit as st

from control_room import session

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


# ---------------------------------------------------------------- champions


@both
def test_champions_stand_over_what_sold_with_their_errors(console, world, language):
    app = console("experiments", language, behind="champions", since_days="180")
    assert not app.exception
    table = next(frame.value for frame in app.dataframe if list(frame.value.iloc[:, 0]) == ["v7", "v6"])
    assert list(table.iloc[:, 4]) == [pytest.approx(0.22), pytest.approx(0.22)]
    assert table.iloc[0, 2] == {"en": "today", "es": "hoy"}[language]
    since = max(what for _, what in world.calls if what.startswith("accuracy weeks"))
    assert any(what.startswith(f"sales None None {since.rpartition(' ')[2]}") for _, what in world.calls)


def test_without_a_champion_there_is_no_timeline(console, world, said):
    world.empty, world.promotions = True, []
    assert "There has been no champion yet." in said(console("experiments", behind="champions"))


# ---------------------------------------------------------------- behind the verdict


@both
def test_disagreements_say_who_came_nearer(console, said, language):
    app = console("experiments", language, behind="diagnostics")
    assert not app.exception
    nearer = {"en": "Challenger", "es": "Aspirante"}[language]
    table = next(f.value for f in app.dataframe if list(f.value.iloc[:, -1]) == [nearer] * 5)
    assert list(table.iloc[:, 6]) == [35, 33, 31, 29, 27]
    titles = {
        "en": ("Calibration", "Errors by week ahead", "Biggest disagreements"),
        "es": ("Calibración", "Errores por semana", "Mayores desacuerdos"),
    }
    for words in titles[language]:
        assert words in said(app)


@pytest.mark.parametrize(
    ("language", "version", "words"),
    [
        ("en", "8", "What mattered"), ("es", "8", "Qué importó"),
        ("en", "7", "were not searched"), ("es", "7", "no se buscaron"),
    ],
)  # fmt: skip
def test_the_search_is_shown_where_there_was_one(console, said, language, version, words):
    app = console("experiments", language, version=version, behind="search")
    assert not app.exception
    assert words in said(app)


def test_an_older_model_has_no_such_figures_and_that_is_said(console, said):
    assert "not kept yet when this model was judged" in said(console("experiments", version="6", behind="diagnostics"))


@both
def test_where_nothing_was_judged_the_views_say_so(console, world, said, language):
    world.empty = True
    text = {"en": "once a model has been judged", "es": "cuando se haya evaluado un modelo"}[language]
    for behind in ("segments", "diagnostics", "search"):
        assert text in said(console("experiments", language, behind=behind))


@pytest.mark.parametrize("behind", ["segments", "diagnostics", "search", "champions", "runs"])
def test_what_was_known_stays_while_services_are_away(console, world, said, behind):
    app = console("experiments", behind=behind)
    before = len(said(app))
    world.down = {"api", "mlflow"}
    session.forget()
    app.run()
    assert not app.exception
    assert len(said(app)) > 0.8 * before


# ---------------------------------------------------------------- the decision


@both
def test_a_model_is_rejected_with_a_reason_and_then_says_so(console, world, said, language):
    world.verdict = "better"
    app = console("experiments")
    assert app.button(key="reject").disabled
    app.text_input(key="reject-actor").set_value("Ana")
    app.text_area(key="reject-reason").set_value("bread is worse").run()
    app.button(key="reject").click().run()
    assert (world.champion, world.promotions[-1].action) == ("7", "reject")
    again = console("experiments", language)
    words = {"en": "Rejected by Ana", "es": "Rechazado por Ana"}[language]
    assert words in said(again)
    assert not [button for button in again.button if button.key == "reject"]
    assert again.button(key="promote")
