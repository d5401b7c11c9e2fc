"""How long the console's pages take with a long history: a rerun of the script, a first visit, a reload.

``python -m bench.pages [--rows 1000000] [--json out.json]`` starts the product on free ports, multiplies real answers
of its API to so many rows of prediction log, and opens every page: in Streamlit's own AppTest (the script alone, its
questions answered from the cache as within seconds of each other, and asked anew), and in Chromium (a new browser, then
a reload, until the page's script rests). With ``--product DIR`` a product is used that runs on that data folder, with
its settings in the environment; its log grows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa

from bench.start import running_product
from control_room import Home
from deploy import probes
from deploy.databases import open_databases
from deploy.keys import load_keys
from deploy.ports import free_ports
from deploy.services import Installation
from ml.settings import Settings, load_settings, variable

HOME = Path(Home.__file__)
PAGES = ("", *(name for pages in Home.PAGES.values() for name, *_ in pages))  # the status page has no name
KINDS = ("first", "rerun", "asked anew", "first visit", "reload")
SEED_ROWS = 500
DAYS = 400  # the log reaches so far back, most of it over days whose sales are known
# Said by a page that has been drawn, and whose script rests.
RESTS = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
    && document.querySelector('[data-testid=stMain] .stMarkdown')
    && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')"""
COUNT = sa.text("SELECT count(*) FROM predictions")
COLUMNS = sa.text(
    "SELECT column_name, data_type FROM information_schema.columns "
    "WHERE table_name = 'predictions' AND column_name <> 'prediction_id' ORDER BY ordinal_position"
)
TABLE = "import streamlit as st, pandas as pd, numpy as np\nst.markdown('table')\n" + (
    "st.dataframe(pd.DataFrame(np.arange(800_000.0).reshape(-1, 8), columns=list('abcdefgh')), hide_index=True)\n"
)


# ---------------------------------------------------------------- a long history


def fill_log(settings: Settings, database: str, rows: int) -> int:
    """Answer some questions and repeat the log's rows into the past; returns how many rows there are."""
    _ask(settings)
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        known = connection.execute(COUNT).scalar_one()
        columns = [(name, kind) for name, kind in connection.execute(COLUMNS)]
        names, chosen = ", ".join(name for name, _ in columns), ", ".join(_shifted(*column) for column in columns)
        copies = f"INSERT INTO predictions ({names}) SELECT {chosen} FROM predictions, generate_series(1, :times) AS n"
        copies += f" ORDER BY n % {DAYS} DESC"  # oldest first, as a log grows: its index of parts relies on it
        connection.execute(sa.text(copies), {"times": max(0, -(-(rows - known) // known))})
        found: int = connection.execute(COUNT).scalar_one()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE predictions")  # not beside the first page
    engine.dispose()
    return found


def _ask(settings: Settings) -> None:
    """Put real answers into the log, through the API."""
    for _ in range(3):
        reply = requests.post(f"{settings.api}/v1/forecast", json={"horizon": 28}, timeout=120)
        reply.raise_for_status()
        if len(reply.json()["predictions"]) >= SEED_ROWS:
            break
    requests.get(f"{settings.api}/historical-predictions?limit=1", timeout=60).raise_for_status()


def _shifted(name: str, kind: str) -> str:
    if name == "date":
        return f"date - (n % {DAYS})::int"
    if name == "created_at":
        return f"created_at - (n % {DAYS}) * interval '1 day'"
    if name == "request_id":
        return "md5(request_id::text || n)" + ("::uuid" if kind == "uuid" else "")
    return name


# ---------------------------------------------------------------- the script alone


def reruns(times: int) -> dict[str, dict[str, float]]:
    """Seconds of each page's script by page: the first run, a rerun, a rerun that asks every service anew."""
    from streamlit.testing.v1 import AppTest

    from control_room import session

    found = {}
    for page in PAGES:
        app = AppTest.from_file(str(HOME), default_timeout=120)
        if page:
            app.switch_page(f"pages/{page}.py")
        first = _seconds(app.run)
        assert not app.exception, f"{page}: {app.exception}"
        cached = [_seconds(app.run) for _ in range(times)]
        anew = []
        for _ in range(max(3, times // 3)):
            session.forget()
            anew.append(_seconds(app.run))
        found[page] = {"first": first, "rerun": statistics.median(cached), "asked anew": statistics.median(anew)}
    return found


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


# ---------------------------------------------------------------- in a browser


def visits(console: str, times: int) -> dict[str, dict[str, float]]:
    """Seconds in Chromium by page until the script rests: a browser that has seen nothing, and a reload."""
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for page in PAGES:
            rounds = [_visit(chromium, f"{console}/{page}") for _ in range(times)]
            first, again = zip(*rounds, strict=True)
            found[page] = {"first visit": statistics.median(first), "reload": statistics.median(again)}
        chromium.close()
    return found


def _visit(chromium: Any, address: str) -> tuple[float, float]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(60_000)

    def until_rest(act: Callable[[], object]) -> float:
        return _seconds(lambda: (act(), page.wait_for_function(RESTS)))

    first, again = until_rest(lambda: page.goto(address)), until_rest(page.reload)
    context.close()
    return first, again


def table(times: int) -> float:
    """Seconds until a table of 100,000 rows and 8 columns stands in Chromium, in Streamlit alone."""
    from playwright.sync_api import sync_playwright

    with _streamlit(TABLE) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page()

        def look() -> None:
            page.reload()
            page.wait_for_function(RESTS)
            page.locator("[data-testid=stDataFrame] canvas").first.wait_for()

        page.goto(address)
        look()
        seconds = statistics.median(_seconds(look) for _ in range(times))
        chromium.close()
    return seconds


@contextmanager
def _streamlit(script: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        file, (port,) = Path(folder) / "app.py", free_ports(1)
        file.write_text(script)
        command = [sys.executable, "-m", "streamlit", "run", str(file), "--server.headless=true"]
        server = subprocess.Popen([*command, f"--server.port={port}", "--server.address=127.0.0.1"], cwd=folder)
        try:
            address = f"http://127.0.0.1:{port}"
            while not probes.answers(f"{address}/_stcore/health")():
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.wait(20)


# ---------------------------------------------------------------- all of it


def measure(settings: Settings, rows: int, times: int) -> dict[str, Any]:
    keys = load_keys(settings.data_dir)
    installation = Installation(settings, keys, open_databases(settings, keys, print))
    logged = fill_log(settings, installation.databases.url("app"), rows)
    os.environ.update(installation.environment())
    console = f"http://127.0.0.1:{settings.console_port}"
    seen, scripts = visits(console, max(1, times // 3)), reruns(times)
    pages = {page or "home": {**scripts[page], **seen[page]} for page in PAGES}
    return {"rows": logged, "load_1m": os.getloadavg()[0], "pages": pages, "table of 100,000 rows": table(5)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the prediction log")
    parser.add_argument("--times", type=int, default=9, help="reruns per page; a third as many visits")
    parser.add_argument("--product", type=Path, help="data folder of a product that runs already")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    if asked.product:
        found = measure(load_settings(os.environ | {variable("data_dir"): str(asked.product)}), asked.rows, asked.times)
    else:
        with running_product() as settings:
            found = measure(settings, asked.rows, asked.times)
    print(f"{found['rows']:,} rows in the log, load {found['load_1m']:.1f}; seconds")
    print(f"| page | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    for page, row in found["pages"].items():
        print(f"| {page} | {' | '.join(f'{row[kind]:.2f}' for kind in KINDS)} |")
    print(f"table of 100,000 rows: {found['table of 100,000 rows']:.2f} s")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
