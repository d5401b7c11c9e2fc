"""Signing in and out in a real browser, with the API, the database and the console as they are served."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from control_room.clients.api import ApiClient
from deploy.ports import free_ports
from ml.settings import variable

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "the-console's-own-key"
PASSWORD = "correct horse battery"
STREAMLIT = Path(sys.executable).parent / "streamlit"

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Console:
    url: str
    api: ApiClient
    settings: dict[str, str]


def streamlit(port: int) -> list[str]:
    flags = {"address": "127.0.0.1", "port": port, "headless": "true", "fileWatcherType": "none"}
    return [str(STREAMLIT), "run", "control_room/server.py", *(f"--server.{k}={v}" for k, v in flags.items())]


@pytest.fixture(scope="module")
def served(new_database: Any, serving_process: Any, tmp_path_factory: Any) -> Iterator[Console]:
    """API and console for people with accounts; the first administrator is made by the command."""
    folder, (api_port, port) = tmp_path_factory.mktemp("sign-in"), free_ports(2)
    given = {
        "data_dir": folder / "data", "lake": folder / "lake", "database_url": new_database(), "api_token": TOKEN,
        "api_port": api_port, "console_port": port, "sign_in": "accounts",
        "mlflow_url": "http://127.0.0.1:9", "airflow_url": "http://127.0.0.1:9",
    }  # fmt: skip
    settings = {variable(name): str(value) for name, value in given.items()}
    made = subprocess.run(
        [sys.executable, "-m", "api.accounts", "create-admin", "root", "--password-stdin"],
        input=f"{PASSWORD}\n", env={**settings, "PYTHONPATH": str(ROOT)}, cwd=ROOT, text=True, capture_output=True,
    )  # fmt: skip
    assert made.stdout == "root may sign in as an administrator.\n", made.stderr
    api_url, url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{port}"
    api = [sys.executable, "-m", "api", "--port", str(api_port)]
    with (
        serving_process(api, settings, f"{api_url}/livez", folder / "api.log"),
        serving_process(streamlit(port), settings, f"{url}/_stcore/health", folder / "console.log"),
    ):
        client = ApiClient(api_url, TOKEN)
        client.make_account("vera", "viewer", PASSWORD)
        yield Console(url, client, settings)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def sign_in(page: Any, name: str, password: str) -> None:
    page.get_by_label("Name or e-mail").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_label("Password").press("Enter")


def settled(page: Any) -> None:
    page.wait_for_function("document.querySelectorAll('[data-stale=true]').length === 0")


def test_wrong_right_reload_out(served, page):
    page.goto(f"{served.url}/access?lang=en")
    assert page.url.startswith(f"{served.url}/sign-in?next=%2Faccess")
    sign_in(page, "vera", "not the password")
    page.get_by_role("alert").get_by_text("Name or password is not right.").wait_for()
    assert page.get_by_label("Name or e-mail").input_value() == "vera"
    assert page.get_by_label("Password").input_value() == ""
    sign_in(page, "VERA", PASSWORD)
    page.get_by_text("vera · viewer").wait_for()
    assert page.url.startswith(f"{served.url}/access")
    page.reload()
    page.get_by_text("vera · viewer").wait_for()
    (cookie,) = (c for c in page.context.cookies() if c["name"] == "control_room")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert "scs_" not in page.content()
    page.get_by_role("link", name="Sign out").click()
    page.get_by_text("You are signed out.").wait_for()
    me = requests.get(f"{served.api.url}/v1/me", headers={"X-API-Key": cookie["value"]}, timeout=10)
    assert me.status_code == 401
    page.goto(f"{served.url}/?lang=es")
    page.get_by_label("Contraseña").wait_for()


def test_a_viewer_reads_and_is_offered_nothing_else(served, page):
    page.goto(f"{served.url}/?lang=en")
    sign_in(page, "vera", PASSWORD)
    page.get_by_text("vera · viewer").wait_for()
    links = page.get_by_test_id("stSidebarNavLink")
    links.get_by_text("Experiments").wait_for()
    assert "Predict" not in links.all_inner_texts()
    page.goto(f"{served.url}/predict?lang=en")
    page.get_by_text("This page is for the role planner and above").wait_for()
    for name in ("experiments", "retrain", "upload"):
        page.goto(f"{served.url}/{name}?lang=en")
        page.get_by_text("vera · viewer").wait_for()
        settled(page)
        offered = page.get_by_role("button", name=re.compile("Promote|Roll back|Start|Accept|Choose a file"))
        assert offered.count() == 0, name
    page.goto(f"{served.url}/access?lang=en")
    page.get_by_text("What each role may do").wait_for()
    assert page.get_by_text("Make a key").count() == 0


def test_a_disabled_person_is_out_at_the_next_click(served, page):
    made = served.api.make_account("dora", "planner", PASSWORD).account
    page.goto(f"{served.url}/upload?lang=en")
    sign_in(page, "dora", PASSWORD)
    page.get_by_text("dora · planner").wait_for()
    served.api.change_account(made.account_id, disabled=True)
    page.wait_for_timeout(5_500)  # so long the console goes by what it knew
    page.reload()
    page.get_by_text("Your session has ended").wait_for()
    page.get_by_role("link", name="Sign in").click()
    sign_in(page, "dora", PASSWORD)
    page.get_by_role("alert").get_by_text("Name or password is not right.").wait_for()


# ---------------------------------------------------------------- without a browser


def test_nothing_is_open_without_the_cookie(served):
    for path in ("/", "/upload", "/_stcore/host-config", "/_stcore/stream", "/media/x.csv", "/static/index.js"):
        reply = requests.get(served.url + path, timeout=10)
        assert reply.status_code == 401, path
    opened = requests.get(f"{served.url}/upload?x=1", headers={"Accept": "text/html"}, timeout=10)
    assert opened.url == f"{served.url}/sign-in?next=%2Fupload%3Fx%3D1"
    assert opened.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "frame-ancestors 'none'" in opened.headers["Content-Security-Policy"]


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null"])
def test_the_form_of_another_page_signs_nobody_in(served, origin):
    headers = {"Origin": origin} if origin else {}
    body = {"name": "vera", "password": PASSWORD}
    reply = requests.post(f"{served.url}/sign-in", data=body, headers=headers, timeout=10)
    assert reply.status_code == 403
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/sign-out", ""])
def test_after_signing_in_one_stays_here(served, wanted):
    reply = requests.post(
        f"{served.url}/sign-in", params={"next": wanted}, data={"name": "vera", "password": PASSWORD},
        headers={"Origin": served.url}, timeout=10, allow_redirects=False,
    )  # fmt: skip
    assert (reply.status_code, reply.headers["Location"]) == (303, "/")


def test_without_sign_in_the_console_listens_here_only(served):
    port = free_ports(1)[0]
    command = [part.replace("127.0.0.1", "0.0.0.0") for part in streamlit(port)]
    env = {**served.settings, variable("sign_in"): "none", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "listens on 127.0.0.1 only" in ended.stdout + ended.stderr
