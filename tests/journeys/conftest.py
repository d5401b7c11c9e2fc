"""A visitor: a person before the real console of the running product, in a real browser.

The journeys are one working day of one retailer and build on each other: run the folder as a whole, in its order.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import requests
from playwright.sync_api import TimeoutError

from bench.pages import RESTS

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "tests" / ".artifacts"
RUN_SECONDS = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))


class Visitor:
    """What a person does on a page; every wait is for something that the page shows."""

    def __init__(self, page: Any, stack: Any) -> None:
        self.page = page
        self.stack = stack

    def go(self, name: str, **query: str) -> None:
        asked = "&".join(f"{key}={value}" for key, value in {"lang": "en", **query}.items())
        self.page.goto(f"{self.stack.console}/{name}?{asked}")
        self.settle()

    def settle(self) -> None:
        """Until the page has been drawn and its script rests."""
        self.page.wait_for_function(RESTS, timeout=90_000)  # a page may wait for each service that hangs

    def see(self, text: str, seconds: float = 30) -> Any:
        """Something that says so (a regular expression), waited for."""
        found = self.page.get_by_text(re.compile(text)).locator("visible=true").first
        found.wait_for(timeout=seconds * 1000)
        return found

    def click(self, name: str, seconds: float = 30) -> None:
        self.settle()
        self.page.get_by_role("button", name=re.compile(name)).locator("visible=true").first.click(
            timeout=seconds * 1000
        )

    def choose(self, label: str, option: str) -> None:
        """Take one option of a select box by typing how it begins.

        A list closes when its field moves, as it does while the part of the page that it is in still opens: whoever
        was too quick for it opens it again.
        """
        self.settle()
        field = self.page.get_by_role("combobox", name=re.compile(label)).locator("visible=true").first
        opened = self.page.get_by_role("option").first.filter(has_text=option)  # the list is narrowed as one types
        for last in (False, False, True):
            field.click()
            field.fill(option)
            try:
                opened.wait_for(timeout=30_000 if last else 3_000)
                break
            except TimeoutError:
                if last:
                    raise
                field.press("Escape")
        field.press("Enter")
        self.settle()

    def fill(self, label: str, text: str) -> None:
        field = self.page.get_by_label(label, exact=True).and_(self.page.locator("input, textarea"))
        field = field.locator("visible=true").first
        field.fill(text)
        field.blur()

    def download(self, key: str) -> bytes:
        """What a download button gives; ``key`` is its widget's key."""
        with self.page.expect_download() as waiting:
            self.page.locator(f".st-key-{key} button").click()
        return Path(waiting.value.path()).read_bytes()

    def sheet(self, key: str) -> dict[str, pl.DataFrame]:
        """The sheets of a downloaded workbook."""
        return pl.read_excel(io.BytesIO(self.download(key)), sheet_id=0)

    def shot(self, name: str) -> None:
        """The page in its whole height, which a browser's own "full page" does not see: an inner box scrolls."""
        self.settle()
        height = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        self.page.set_viewport_size({"width": 1280, "height": max(900, height)})
        self.settle()
        self.page.screenshot(path=SHOTS / f"{name}.png")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        self.settle()

    def api(self, path: str, **headers: str) -> Any:
        """What the API says itself."""
        reply = requests.get(f"{self.stack.settings.api}{path}", headers=headers, timeout=20)
        reply.raise_for_status()
        return reply.json()


@pytest.fixture
def visitor(browser: Any, stack: Any, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A new visitor; whatever happens, the last thing seen is kept as a picture."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, locale="en-GB", timezone_id="Europe/Madrid", accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    SHOTS.mkdir(exist_ok=True)
    try:
        yield Visitor(page, stack)
    finally:
        page.screenshot(path=SHOTS / f"{request.node.name}-last.png", full_page=True)
        context.close()
