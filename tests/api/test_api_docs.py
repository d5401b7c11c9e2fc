"""docs/api.md: its commands and its Python, run in their order against a running API; its Power Query read."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from api.worker import Worker

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"^```(bash|python|powerquery)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def at_work(alone, tmp_path_factory):
    """The variables of the page, a folder to work in, and a worker for the jobs."""
    catalog = alone.get("/v1/catalog").json()
    day = dt.date.fromisoformat(catalog["date_to"]) + dt.timedelta(days=2)
    series = catalog["series"][0]
    made = {"API": alone.url, "STORE": series["store"], "PRODUCT": series["product"], "DAY": str(day)}
    made["KEY"] = alone.post("/v1/keys", json={"name": "docs", "role": "admin"}).json()["secret"]
    worker = Worker(alone.services.settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield os.environ | made, tmp_path_factory.mktemp("docs")
    worker.stop()
    thread.join()


def test_there_are_examples_of_every_kind():
    kinds = [kind for kind, _ in BLOCKS]
    assert [kinds.count(kind) >= least for kind, least in (("bash", 7), ("python", 6), ("powerquery", 3))] == [True] * 3


def test_the_commands_work(at_work):
    env, folder = at_work
    for kind, text in BLOCKS:
        if kind == "bash":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], env=env, cwd=folder, capture_output=True,
                                  text=True, timeout=60)  # fmt: skip
            assert done.returncode == 0, text + done.stdout + done.stderr
    assert (folder / "result.csv").read_text("utf-8-sig").startswith("row,date,store,product,")
    assert (folder / "predictions.csv").read_text("utf-8-sig").startswith("prediction_id,created_at,date,store,")


def test_the_python_works(at_work):
    env, folder = at_work
    (folder / "page.py").write_text("\n".join(text for kind, text in BLOCKS if kind == "python"))
    (folder / "rows.csv").write_text(f"date,store,product\n{env['DAY']},{env['STORE']},{env['PRODUCT']}\n")
    (folder / "sales.csv").write_text("date,store,product,sales\n2026-01-05,S01,P001,21\n2026-01-06,S01,P001,18\n")
    done = subprocess.run([sys.executable, "page.py"], env=env, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "units/day" in done.stdout


def test_the_power_query_names_routes_and_fields_that_are_there(alone):
    paths = set(alone.get("/openapi.json").json()["paths"])
    for kind, text in BLOCKS:
        if kind == "powerquery":
            assert all(f"/{path}" in paths for path in re.findall(r'RelativePath = "([^"]+)"', text))
            assert text.count("(") == text.count(")")
            assert text.count("[") == text.count("]")
