"""Snippets run as they are and never show the key."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from control_room import snippets

BODY = {"store": "O'Brien & Söhne", "date": "2026-01-05", "price": 9.99}


def test_the_shell_reads_the_body_as_it_is():
    words = shlex.split(snippets.curl("http://localhost:8800", "/predict", BODY, False).replace("\\\n", " "))
    assert words[:4] == ["curl", "-X", "POST", "http://localhost:8800/predict"]
    assert json.loads(words[-1]) == BODY


def test_python_is_python_and_reads_the_key_from_the_environment():
    code = snippets.python("http://localhost:8800", "/predict", BODY, True)
    ast.parse(code)
    assert 'os.environ["CONTROL_ROOM_API_TOKEN"]' in code
    assert "$CONTROL_ROOM_API_TOKEN" in snippets.curl("http://x", "/predict", BODY, True)


def test_power_query_reads_the_body_as_it_is():
    body = {**BODY, "product": 'a "quoted" #(lf) name'}
    code = snippets.power_query("http://x", "/v1/forecast", body, True)
    literal = code.split('Text.ToBinary("', 1)[1].split('"),\n', 1)[0]
    assert json.loads(literal.replace('""', '"').replace("#(#)(", "#(")) == body
    assert '#"X-API-Key" = ApiKey' in code
    assert "ApiKey" not in snippets.power_query("http://x", "/v1/forecast", body, False)


@pytest.mark.parametrize("page", ["access", "predict"])
def test_pages_show_the_address_that_other_programs_reach(console, world, page):
    world.settings = {"api_url": "http://api:8800", "api_shown_url": "https://api.shop.example"}
    app = console(page)
    if page == "predict":
        app.button[0].click().run()
    code = "\n".join(block.value for block in app.code)
    assert "https://api.shop.example/" in code
    assert "http://api:8800" not in code
