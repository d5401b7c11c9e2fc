"""The main job, as a person does it: the real console in a real browser, every service running.

Upload a CSV of one Spanish shop → accept → ETL → retrain → predict → the prediction shows in History.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "ventas_una_tienda.csv"
SHOTS = ROOT / "tests" / ".artifacts"
RUN_SECONDS = 240

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(30_000)
    SHOTS.mkdir(exist_ok=True)
    try:
        yield page
    finally:
        page.screenshot(path=SHOTS / "end-to-end.png", full_page=True)
        context.close()


def go(page: Any, stack: Any, name: str) -> None:
    page.goto(f"{stack.console}/{name}?lang=en")
    page.wait_for_function("document.querySelectorAll('[data-stale=true]').length === 0")


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=re.compile(name))


def get(stack: Any, path: str) -> Any:
    reply = requests.get(f"{stack.settings.api}{path}", timeout=20)
    reply.raise_for_status()
    return reply.json()


def test_from_a_file_to_a_prediction(stack, page):
    demo = get(stack, "/health")
    assert demo["champion"]["version"] == "1"

    # a planner loads a file and reads what was understood
    go(page, stack, "upload")
    page.locator("input[type=file]").first.set_input_files(EXAMPLE)
    page.get_by_text("Ventas → sales").first.wait_for()
    page.get_by_text("decimal comma").first.wait_for()
    button(page, "Accept as training data").click()

    # the ETL publishes it
    button(page, "Start the ETL with 1 accepted file").click()
    page.get_by_text("The data is published.").wait_for(timeout=RUN_SECONDS * 1000)
    snapshot = get(stack, "/v1/snapshot")
    assert (snapshot["stores"], snapshot["products"], snapshot["date_to"]) == (1, 1, "2026-10-31")

    # a model of it is trained, judged and promoted
    go(page, stack, "retrain")
    button(page, "Start retraining").click()
    # the outcome of the run before stays on the page for a moment: what the page says at its top tells them apart
    page.get_by_text("A retraining is running").wait_for(timeout=60_000)
    page.get_by_text("No retraining is running").wait_for(timeout=RUN_SECONDS * 1000)
    page.get_by_text("See the verdict").wait_for()
    after = get(stack, "/health")
    assert after["champion"]["version"] != demo["champion"]["version"]
    assert after["data_version"] == snapshot["data_version"]
    overall = get(stack, f"/v1/models/{after['champion']['version']}")["evaluation"]["overall"]
    assert overall["challenger"]["wape"] < overall["seasonal_naive"]["wape"]

    # the day after the data is asked for
    go(page, stack, "predict")
    before = get(stack, "/historical-predictions")["items"]
    page.locator(".st-key-ask-day button").click()
    page.get_by_text("units/day").first.wait_for()
    (answer,) = get(stack, "/historical-predictions?limit=1")["items"]
    assert answer["prediction_id"] not in [item["prediction_id"] for item in before]
    assert answer["date"] == "2026-11-01"
    assert answer["model_version"] == after["champion"]["version"]
    assert 200 < answer["prediction"] < 2000

    # and it stands in the history
    go(page, stack, "history")
    grid = page.frame_locator("iframe").first
    grid.locator(".ag-row").first.wait_for()
    assert f"{answer['prediction']:.1f}"[:3] in grid.locator(".ag-row").first.inner_text()


def test_the_verdict_and_home_open_in_spanish(stack, page):
    page.goto(f"{stack.console}/experiments?lang=es")
    page.get_by_text("Experimentos").first.wait_for()
    page.get_by_text("estacional").first.wait_for()
    page.goto(f"{stack.console}/?lang=es")
    page.get_by_text("Airflow").first.wait_for()
    assert "Traceback" not in page.content()


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
def test_pages_say_what_is_true_now(stack, page, name, english, spanish):
    for language, wanted in (("en", english), ("es", spanish)):
        page.goto(f"{stack.console}/{name}?lang={language}")
        page.get_by_text(re.compile(wanted)).first.wait_for()
        page.wait_for_function("document.querySelectorAll('[data-stale=true]').length === 0")
        assert page.get_by_role("alert").count() == 0  # neither an error nor a warning box
