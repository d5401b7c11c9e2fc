"""Signing in with an identity provider: a real one in little, that signs real tokens, and a real browser."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import pytest
import uvicorn
from fastapi import FastAPI, Form, Header, HTTPException
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.responses import RedirectResponse

from control_room.clients.api import ApiClient
from deploy.ports import free_ports
from ml.settings import variable

TOKEN = "the-console's-own-key"
CLIENT, SECRET = "control-room", secrets.token_hex(8)
LOLA = re.compile(r"lola.?@shop\.example · manager")  # a word joiner keeps it from being a link
STREAMLIT = Path(sys.executable).parent / "streamlit"

pytestmark = pytest.mark.e2e


class Provider:
    """OpenID Connect with code and PKCE; ``claims`` are those of whoever comes, who is asked nothing."""

    def __init__(self) -> None:
        self.url = ""
        self.claims: dict[str, Any] = {}
        self.key = self.signs_with = RSAKey.generate_key(2048, {"kid": "k1"})
        self.asked: dict[str, dict[str, str]] = {}
        self.app = FastAPI()
        self.app.get("/.well-known/openid-configuration")(self.configuration)
        self.app.get("/keys")(lambda: {"keys": [self.key.as_dict(private=False)]})
        self.app.get("/authorize")(self.authorize)
        self.app.post("/token")(self.token)

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(
        self, redirect_uri: str, state: str, nonce: str, code_challenge: str, client_id: str
    ) -> RedirectResponse:
        assert client_id == CLIENT
        code = secrets.token_hex(8)
        self.asked[code] = {"nonce": nonce, "challenge": code_challenge, "redirect_uri": redirect_uri}
        return RedirectResponse(f"{redirect_uri}?{urlencode({'code': code, 'state': state})}", 302)

    def token(
        self,
        code: Annotated[str, Form()],
        code_verifier: Annotated[str, Form()],
        authorization: Annotated[str, Header()],
    ) -> dict[str, Any]:
        asked = self.asked.pop(code)
        told = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).decode().rstrip("=")
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if told != asked["challenge"] or authorization != f"Basic {basic}":
            raise HTTPException(400)
        now = int(time.time())
        facts = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.claims}
        signed = jwt.encode({"alg": "RS256", "kid": "k1"}, facts, self.signs_with)
        return {"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": signed}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(made.app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield made
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(provider: Provider, new_database: Any, serving_process: Any, tmp_path_factory: Any) -> Iterator[Any]:
    folder, (api_port, port) = tmp_path_factory.mktemp("oidc"), free_ports(2)
    api_url, url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{port}"
    given = {
        "data_dir": folder / "data", "lake": folder / "lake", "database_url": new_database(), "api_token": TOKEN,
        "api_port": api_port, "console_port": port, "mlflow_url": "http://127.0.0.1:9",
        "airflow_url": "http://127.0.0.1:9", "sign_in": "oidc", "console_url": url,
        "oidc_metadata_url": f"{provider.url}/.well-known/openid-configuration", "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET, "oidc_role_claim": "groups", "oidc_roles": "buyers=planner,bosses=manager",
    }  # fmt: skip
    settings = {variable(name): str(value) for name, value in given.items()}
    flags = {"address": "127.0.0.1", "port": port, "headless": "true", "fileWatcherType": "none"}
    command = [str(STREAMLIT), "run", "control_room/server.py", *(f"--server.{k}={v}" for k, v in flags.items())]
    api = [sys.executable, "-m", "api", "--port", str(api_port)]
    with (
        serving_process(api, settings, f"{api_url}/livez", folder / "api.log"),
        serving_process(command, settings, f"{url}/_stcore/health", folder / "console.log"),
    ):
        yield url, ApiClient(api_url, TOKEN)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def come(page: Any, url: str) -> None:
    page.goto(f"{url}/?lang=en")
    page.get_by_text("Sign in to open the control room.").wait_for()
    page.get_by_role("button", name="Sign in").click()


def test_who_the_provider_names_comes_in_with_the_role_of_the_claim(served, provider, page):
    url, api = served
    provider.claims = {"sub": "u-1", "email": "lola@shop.example", "email_verified": True, "groups": ["x", "bosses"]}
    come(page, url)
    page.get_by_text(LOLA).wait_for()
    page.reload()
    page.get_by_text(LOLA).wait_for()
    (account,) = api.accounts()
    assert (account.name, account.kind, account.role) == ("lola@shop.example", "oidc", "manager")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("Sign in to open the control room.").wait_for()
    assert api.audit({"actor": "lola@shop.example"}).items[0].action == "session.closed"
    api.change_account(account.account_id, disabled=True)
    come(page, url)
    page.get_by_text("Your account is disabled here").wait_for()


def test_who_has_no_role_is_refused(served, provider, page):
    url, api = served
    provider.claims = {"sub": "u-2", "email": "no.role@shop.example", "groups": ["football"]}
    come(page, url)
    page.get_by_text("Your account at the identity provider has no role here").wait_for()
    assert "no.role@shop.example" not in [account.name for account in api.accounts()]


def test_a_token_that_the_provider_has_not_signed_opens_nothing(served, provider, page):
    url, api = served
    provider.claims = {"sub": "u-3", "email": "eve@shop.example", "groups": ["bosses"]}
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "k1"})
    come(page, url)
    page.wait_for_url(f"{url}/**")
    page.get_by_text("Sign in to open the control room.").wait_for()
    assert "eve@shop.example" not in [account.name for account in api.accounts()]
