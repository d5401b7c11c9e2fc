"""Words: the Spanish catalogue is complete, numbers and dates are in the reader's form."""

from __future__ import annotations

import ast
import datetime as dt
import string
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from control_room import i18n
from control_room.findings import FINDINGS, KINDS
from control_room.i18n.__main__ import PACKAGE, extracted
from control_room.words import WARNINGS
from ml.findings import FINDING_CODES, FINDING_HINTS


def catalogue(language: str):
    with i18n.catalogue_path(language).open("rb") as file:
        return read_po(file, locale=language)


def texts(message) -> tuple[str, ...]:
    return message if isinstance(message, tuple | list) else (message,)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_catalogues_hold_every_sentence_of_the_code(language):
    known = {message.id for message in catalogue(language) if message.id}
    wanted = {message.id for message in extracted() if message.id}
    assert not wanted - known, "run python -m control_room.i18n"
    assert not known - wanted, "run python -m control_room.i18n"


def test_every_sentence_has_a_spanish_one():
    lacking = [m.id for m in catalogue("es") if m.id and (m.fuzzy or not all(texts(m.string)))]
    assert lacking == []


def test_translations_use_the_same_fields():
    for message in catalogue("es"):
        if message.id:
            allowed = set().union(*(fields(text) for text in texts(message.id)))
            for text in texts(message.string):
                assert fields(text) <= allowed, message.id
            assert set().union(*(fields(t) for t in texts(message.string))) == allowed, message.id


def test_no_sentence_hides_in_an_f_string():
    """Babel does not look into f-strings: a call there would never be translated."""
    hidden = []
    for path in Path(PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                calls = (part for part in ast.walk(node) if isinstance(part, ast.Call) and part.args)
                hidden += [
                    f"{path.name}:{call.lineno}"
                    for call in calls
                    if getattr(call.func, "id", "") in ("gettext", "ngettext", "N_", "_")
                    and isinstance(call.args[0], ast.Constant)
                ]
    assert hidden == []


def test_findings_are_those_of_the_reader():
    assert {code: (text, FINDING_HINTS.get(code, "")) for code, text in FINDING_CODES.items()} == FINDINGS


def named_kinds() -> set[str]:
    """The last word of every row of the reader's tables of file kinds, wherever they are kept."""
    tables = []
    for path in (Path(PACKAGE).parent / "ml").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            target = getattr(node, "target", None) or (getattr(node, "targets", None) or [None])[0]
            if getattr(target, "id", "") in ("_MAGIC", "_TEXT_KINDS", "_ZIP_KINDS"):
                tables.append(ast.literal_eval(node.value))
    return {row[-1] for table in tables for row in table}


def test_kinds_are_those_of_the_reader():
    kinds = named_kinds()
    assert len(kinds) > 15
    assert kinds <= set(KINDS)


def test_warnings_are_those_of_the_forecaster():
    source = (Path(PACKAGE).parent / "ml" / "forecasting.py").read_text(encoding="utf-8")
    assert all(f'"{code}":' in source for code in WARNINGS)


@pytest.mark.parametrize(
    ("browser", "asked", "language", "locale"),
    [
        ("es-MX", None, "es", "es_MX"),
        ("es-MX", "en", "en", "en"),
        ("fr-FR", None, "en", "en"),
        ("en-GB", None, "en", "en_GB"),
        (None, None, "en", "en"),
        ("xx-!!", "es", "es", "es"),
    ],
)
def test_reader_follows_browser_and_switch(browser, asked, language, locale):
    reader = i18n.choose(browser, asked, "Europe/Madrid")
    assert (reader.language, reader.locale) == (language, locale)


def test_an_unknown_zone_is_utc():
    assert i18n.choose("en", None, "Nowhere/Land").zone == "UTC"


@pytest.mark.parametrize(
    ("locale", "number", "percent", "day"),
    [
        ("en", "1,234.5", "12.3%", "Jan 5, 2026"),
        ("es", "1.234,5", "12,3\N{NO-BREAK SPACE}%", "5 ene 2026"),
        ("es_MX", "1,234.5", "12.3%", "5 ene 2026"),
    ],
)
def test_numbers_and_dates(speak, locale, number, percent, day):
    speak(locale[:2], locale)
    assert i18n.number(1234.5, 1) == number
    assert i18n.percent(0.1234) == percent
    assert i18n.day(dt.date(2026, 1, 5)) == day


def test_unknown_numbers_are_a_dash():
    assert i18n.number(None) == i18n.percent(float("nan")) == i18n.day(None) == i18n.duration(None) == "–"


def test_durations_and_signs(speak):
    speak("en")
    assert [i18n.duration(s) for s in (42, 61, 3661)] == ["42 s", "1 min 1 s", "1 h 1 min"]
    assert i18n.percent(0.02, signed=True) == "+2.0%"
    assert i18n.percent(-0.02, signed=True) == "-2.0%"


@pytest.mark.parametrize(("locale", "form"), [("es", "DD/MM/YYYY"), ("en", "MM/DD/YYYY"), ("en_GB", "DD/MM/YYYY")])
def test_date_fields(speak, locale, form):
    speak(locale[:2], locale)
    assert i18n.date_form() == form
