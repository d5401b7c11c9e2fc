"""Home's exceptions of the day: in words, with a link to the very view, and what waits for approval."""

from __future__ import annotations

import pytest

from control_room import session

both = pytest.mark.parametrize("language", ["en", "es"])
SENTENCES = {
    "en": ("3 of the last 7 known days lie outside", "too low, 180.0 in all", "210.0 units are expected",
           "about 120.0 units are missing", "has not learned it yet", "210.0 units at stake"),
    "es": ("3 de los últimos 7 días conocidos", "demasiado bajo, 180,0 en total", "Se esperan 210,0 unidades",
           "faltan unas 120,0 unidades", "aún no lo ha aprendido", "210,0 unidades en juego"),
}  # fmt: skip


def links(app, label):
    return [link for link in app.page_link if link.label == label]


@both
def test_each_is_said_and_leads_to_its_view(console, said, language):
    app = console("", language)
    text = said(app).replace("\\", "")
    for words in SENTENCES[language]:
        assert words in text
    history, other = links(app, {"en": "Its predictions", "es": "Sus predicciones"}[language])
    for words in ("in_store=S02", "in_product=", "P003", "actual=yes", "from=20", "to=20"):
        assert words in str(history.proto)
    assert str(other.proto).count("in_store=S02")
    forecast = links(app, {"en": "Its forecast", "es": "Su pronóstico"}[language])[0]
    assert "way=days" in str(forecast.proto)
    assert "store=S02" in str(forecast.proto)


@both
def test_nothing_out_of_the_ordinary_is_said_too(console, world, said, language):
    world.alerts = []
    words = {"en": "Nothing is out of the ordinary.", "es": "No hay nada fuera de lo común."}[language]
    assert words in said(console("", language))


def test_only_a_few_are_shown_and_the_rest_is_counted(console, world, said):
    world.alerts = world.alerts * 2
    app = console()
    assert len(links(app, "Its predictions")) + len(links(app, "Its forecast")) + len(links(app, "Its days")) == 8
    assert "2 more with fewer units each." in said(app)


def test_what_could_not_be_asked_is_named(console, world, said):
    world.down = {"database"}
    assert "Not asked, because it does not answer: Database." in said(console())


@pytest.mark.parametrize(("verdict", "waits"), [("better", True), ("too_close", False)])
def test_a_model_that_waits_for_approval_is_said_until_it_is_decided(console, world, said, verdict, waits):
    world.verdict = verdict
    assert ("Model v8 has passed every gate and waits" in said(console()).replace("\\", "")) == waits
    world.promotions.append(world.promotions[0].model_copy(update={"promotion_id": 9, "version": "8"}))
    session.forget()
    assert "waits for approval" not in said(console())
