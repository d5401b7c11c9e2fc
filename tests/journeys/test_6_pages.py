"""Every page opens in both languages on what the day has left, says what is true now, and complains of nothing."""

import re

import pytest


def test_the_verdict_and_home_open_in_spanish(visitor):
    visitor.go("experiments", lang="es")
    visitor.see("Experimentos")
    visitor.see("estacional")
    visitor.go("", lang="es")
    visitor.see("Airflow")
    assert "Traceback" not in visitor.page.content()


@pytest.mark.parametrize(
    ("name", "english", "spanish"),
    [
        ("data_health", "Sales are known up to", "Se conocen ventas hasta"),
        ("whatif", "answers what-ifs", "responde a los escenarios"),
        ("accuracy", "Predictions erred by|No prediction can be compared", "Las predicciones erraron|Aún no se puede"),
        ("pipelines", "Nothing is running", "No hay nada en marcha"),
        ("access", "The API answers at", "La API responde en"),
    ],
)
def test_pages_say_what_is_true_now(visitor, name, english, spanish):
    for language, wanted in (("en", english), ("es", spanish)):
        visitor.go(name, lang=language)
        visitor.page.get_by_text(re.compile(wanted)).first.wait_for()
        assert visitor.page.get_by_role("alert").count() == 0  # neither an error nor a warning box
