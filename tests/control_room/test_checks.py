"""What the checks of a run say is said in both languages, with the numbers they found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from control_room import i18n
from control_room.checks import CHECKS, told
from ml.records import DataCheck

SOURCE = (Path(__file__).resolve().parents[2] / "ml" / "checks.py").read_text()
FACTS = dict(re.findall(r'code": "(\w+)".*?facts": \{(.*?)\}', SOURCE, re.S)) | dict(
    re.findall(r'code="(\w+)"(?:(?!code=).)*?facts=\{(.*?)\}', SOURCE, re.S)
)


def test_every_check_has_its_words():
    assert set(re.findall(r'code(?:=|": )"(\w+)"', SOURCE)) == set(CHECKS)


@pytest.mark.parametrize("code", CHECKS)
def test_the_words_name_only_facts_that_the_check_has(code):
    named = set(re.findall(r"\{(\w+)\}", "".join(CHECKS[code])))
    assert named <= set(re.findall(r'"(\w+)"', FACTS.get(code, "")))


def test_numbers_and_dates_are_the_readers(monkeypatch):
    check = DataCheck(code="goes_back", severity="error", message="m", facts={"from": "2026-03-01", "to": "2026-02-01"})
    monkeypatch.setattr(i18n, "reader", lambda: i18n.choose("es-ES", "es", "Europe/Madrid"))
    message, hint = told(check)
    assert "1 mar 2026" in message
    assert "todas las aceptadas" in hint
    share = DataCheck(code="series_gone", severity="warning", message="m", facts={"count": 1200, "share": 0.034})
    assert "1200" in told(share)[0].replace(".", "")
    assert "3,4" in told(share)[0]


@pytest.mark.parametrize("facts", [{}, {"from": "soon", "to": "later"}])
def test_what_has_no_words_is_said_as_it_came(facts):
    assert told(DataCheck(code="goes_back", severity="error", message="m", hint="h", facts=facts)) == ("m", "h")
    assert told(DataCheck(code="of_tomorrow", severity="info", message="m")) == ("m", "")
