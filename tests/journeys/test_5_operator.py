"""An operator: MLflow, Airflow and the database stop in turn; Home says so, pages stay usable, all recover alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import requests

AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor")


@contextmanager
def frozen(stack, *names: str) -> Iterator[None]:
    """Parts that hold their ports and answer nothing, which is worse than being gone: every question waits."""
    leaders = [psutil.Process(one.pid) for one in stack.note.children if one.name in names]
    stopped = [each for leader in leaders for each in (leader, *leader.children(recursive=True))]
    assert stopped
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            if process.is_running():
                process.resume()


def whole_again(visitor):
    """Home says so by itself, nobody reloads it."""
    visitor.page.wait_for_function(
        "() => document.querySelector('[data-testid=stMain]').innerText.includes('Forecasts are served by')"
        " && !document.querySelector('[data-testid=stMain]').innerText.includes('Not answering')",
        timeout=120_000,
    )


def predicts(visitor):
    """The page answers a question; the answer's request id."""
    visitor.go("predict", way="day")
    visitor.page.locator(".st-key-ask-day button").click()
    visitor.see("units/day", 60)
    told = visitor.see("request [0-9a-f]{8}", 60).inner_text()
    return told.rpartition("request ")[2].strip()


@pytest.mark.parametrize(
    ("names", "said", "page", "still"),
    [
        (("mlflow",), r"Not answering: .*MLflow", "experiments", "Side by side"),
        (AIRFLOW, r"Not answering: .*Airflow", "retrain", "No run can be started now: Airflow does not answer"),
    ],
    ids=["mlflow", "airflow"],
)
def test_a_service_is_away(visitor, stack, names, said, page, still):
    visitor.go(page)
    visitor.go("")
    with frozen(stack, *names):
        visitor.see(said, 90)  # by itself
        visitor.shot(f"operator-{names[0]}-away")
        visitor.go(page)
        visitor.see(still, 60)
        predicts(visitor)
        visitor.go("")
        visitor.see(said, 60)
    whole_again(visitor)


def test_the_database_is_away(visitor, stack):
    visitor.go("")
    with frozen(stack, "postgres"):
        visitor.see("Not answering: .*Database", 90)
        visitor.shot("operator-database-away")
        asked = predicts(visitor)
        visitor.shot("operator-database-away-predict")
        visitor.go("history")
        visitor.see("does not answer|Last known state", 60)
        visitor.go("")
    whole_again(visitor)
    # what was answered meanwhile is in the history, once
    deadline = time.monotonic() + 60
    while True:
        found = requests.get(f"{stack.settings.api}/historical-predictions?limit=200", timeout=20).json()["items"]
        if matching := [item for item in found if item["request_id"] == asked]:
            break
        assert time.monotonic() < deadline, "the answer never came to the history"
        time.sleep(1)
    assert len(matching) == 1
