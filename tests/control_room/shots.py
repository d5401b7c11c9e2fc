"""Every page in its four states as one small picture each: ``python tests/control_room/shots.py [docs/img/states]``.

Normal, empty, services down, and slow (a moment after it was opened), side by side, from the console against the fakes.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from bench.pages import PAGES, RESTS
from deploy import probes
from deploy.ports import free_ports

HERE = Path(__file__).resolve().parent
STATES = ("full", "empty", "down", "slow")
WIDTH, HEIGHT, SCALE = 1280, 800, 0.5
SLOW_MS = 1_500


@contextmanager
def console(state: str) -> Iterator[str]:
    (port,) = free_ports(1)
    server = subprocess.Popen([sys.executable, str(HERE / "look.py"), str(port), state])
    try:
        while not probes.answers(f"http://127.0.0.1:{port}/_stcore/health")():
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def shot(chromium: Any, address: str, slow: bool) -> Image.Image:
    page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB")
    page.goto(address)
    if slow:
        page.wait_for_timeout(SLOW_MS)
    else:
        page.wait_for_function(RESTS)
        page.wait_for_timeout(700)  # charts and grids draw themselves after the script
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture.resize((int(WIDTH * SCALE), int(HEIGHT * SCALE)), Image.Resampling.LANCZOS)


def main(folder: str = "docs/img/states") -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    taken: dict[str, list[Image.Image]] = {page: [] for page in PAGES}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for state in STATES:
            with console(state) as address:
                for page in PAGES:
                    taken[page].append(shot(chromium, f"{address}/{page}?lang=en", state == "slow"))
        chromium.close()
    for page, pictures in taken.items():
        sheet = Image.new("RGB", (2 * pictures[0].width + 8, 2 * pictures[0].height + 8), "white")
        for at, picture in enumerate(pictures):
            sheet.paste(picture, ((at % 2) * (picture.width + 8), (at // 2) * (picture.height + 8)))
        sheet.quantize(128).save(Path(folder) / f"{page or 'home'}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
