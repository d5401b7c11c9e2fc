"""The decision memo: what it says first, the same numbers as the page, as HTML that needs nothing and as a PDF."""

from __future__ import annotations

import base64
import datetime as dt
import re
import zlib
from xml.etree import ElementTree

import pytest

from control_room.memo import memo
from control_room.paper import as_html, as_pdf
from ml import records as r

both = pytest.mark.parametrize("language", ["en", "es"])
DAY = dt.date(2026, 3, 2)


def report(**changes) -> r.ModelReport:
    own = {"challenger": 0.179, "champion": 0.187, "seasonal_naive": 0.25}
    measured = {
        name: r.Metrics(rows=9_000, wape=wape, bias=0.01, rmse=9.1, mae=6.2, coverage={"80": 0.79, "95": 0.95})
        for name, wape in own.items()
    }
    folds = tuple(
        r.Fold(origin=DAY, date_from=DAY, date_to=DAY + dt.timedelta(27), rows=3_000, metrics=measured)
        for _ in range(3)
    )
    segments = tuple(
        r.Segment(by=by, value=value, rows=900, wape=own)
        for by, values in {"store": ("<b>Ñuñoa</b> & Co", "S02"), "horizon": ("week 1", "week 2")}.items()
        for value in values
    )
    gates = (
        r.Gate(name="beats_seasonal_naive", passed=True, value=0.179, bound=0.25, note=""),
        r.Gate(name="min_gain", passed=False, value=0.0043, bound=0.01, note=""),
    )
    decision = r.Decision(
        verdict="too_close", promote=False, needs_approval=False, gain=0.0043, gain_low=-0.012, gain_high=0.021,
        gates=gates, reason="measured", days_to_tell=12,
    )  # fmt: skip
    evaluation = r.Evaluation(
        data_version="0a1b2c3d4e5f", folds=folds, overall=measured, segments=segments,
        weekly_gain=(("2026-03-02", 0.05), ("2026-03-09", -0.031)),
    )  # fmt: skip
    info = r.ModelInfo(
        name="sales", version="8", aliases=(), created_at=dt.datetime(2026, 3, 1, 10, tzinfo=dt.UTC), run_id="run8",
        kind="xgboost", data_version="0a1b2c3d4e5f", trained_until=DAY, params={"max_depth": "7"},
    )  # fmt: skip
    return r.ModelReport(**{"model": info, "evaluation": evaluation, "decision": decision.model_copy(update=changes)})


MOVES = (
    r.Promotion(
        promotion_id=3, at=dt.datetime(2026, 3, 3, 9, tzinfo=dt.UTC), action="promote", version="8", previous="7",
        actor="Ana Núñez", reason="Weeks <1> are what we order by",
    ),
    r.Promotion(
        promotion_id=2, at=dt.datetime(2026, 2, 3, 9, tzinfo=dt.UTC), action="promote", version="7", previous=None,
        actor="somebody else", reason="another model",
    ),
)  # fmt: skip


def written(page: bytes) -> str:
    """What a person reads in the page."""
    body = re.sub(r"<style>.*?</style>", "", page.decode(), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def drawings(page: bytes) -> list[str]:
    found = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page.decode())
    return [" ".join(ElementTree.fromstring(base64.b64decode(one)).itertext()) for one in found]


def lines(pdf: bytes) -> list[str]:
    """Each line of text that the pages draw; letters beyond ASCII have other codes there."""
    streams = re.findall(rb"(?<!end)stream\r?\n(.*?)endstream", pdf, flags=re.S)
    pages = [one.strip()[:-2] for one in streams if one.strip().endswith(b"~>")]
    text = b"".join(zlib.decompress(base64.a85decode(one)) for one in pages)
    return [line.decode("latin-1") for line in re.findall(rb"\((.*?)(?<!\\)\) Tj", text, flags=re.S)]


@both
def test_the_verdict_comes_first_and_everything_asked_for_is_in_it(speak, language):
    speak(language)
    text = written(as_html(memo(report(), "7", False, MOVES, "D")))
    wanted = {
        "en": ("too close to call", "1.2% larger to 2.1% smaller", "not passed", "9,000 rows of 3 past blocks",
               "Ana Núñez", "promoted", "Error by store", "Error by weeks ahead", "week 2", "18.7%", "+1.0%"),
        "es": ("demasiado igualado", "1,2 % mayor a 2,1 % menor", "no superado", "9.000 filas de 3 bloques pasados",
               "Ana Núñez", "promovido", "Error por tienda", "semana 2", "18,7 %", "+1,0 %"),
    }[language]  # fmt: skip
    for words in (*wanted, "0a1b2c3d4e5f", "max_depth", "run8"):
        assert words in text.replace("\xa0", " ")
    order = [text.index(words) for words in (wanted[0], wanted[1], wanted[2], wanted[4], wanted[6])]
    assert order == sorted(order)


def test_only_what_was_decided_about_this_model_stands_in_it(speak):
    speak("en")
    text = written(as_html(memo(report(), "7", True, MOVES, "D")))
    assert "somebody else" not in text
    assert "today" not in text
    assert "It serves now." in text
    assert "Nobody has moved it so far." in written(as_html(memo(report(), "7", False, (), "D")))
    asking = report(needs_approval=True, verdict="better")
    assert "It waits for a manager." in written(as_html(memo(asking, "7", False, (), "D")))


def test_the_page_needs_nothing_else_and_text_from_outside_stays_text(speak):
    speak("en")
    page = as_html(memo(report(), "7", False, MOVES, "D")).decode()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page)
    assert "<b>Ñuñoa" not in page
    assert "&lt;b&gt;Ñuñoa&lt;/b&gt; &amp; Co" in page
    assert page.startswith('<!doctype html>\n<html lang="en">')


def test_charts_say_the_same_numbers(speak):
    speak("en")
    gain, weeks, stores, horizons = drawings(as_html(memo(report(), "7", False, MOVES, "D")))
    assert all(said in gain for said in ("+0.4%", "-1.2%", "+2.1%", "+1.0%"))
    assert all(said in weeks for said in ("+5%", "-3%", "Mar 2, 2026"))
    assert "<b>Ñuñoa</b> & Co" in stores
    assert "week 2" in horizons


@both
def test_the_pdf_says_the_same(speak, language):
    speak(language)
    pdf = as_pdf(memo(report(), "7", False, MOVES, "D"))
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", pdf)) >= 2
    text = " ".join(lines(pdf))
    wanted = {"en": ("too close to call", "not passed", "are what we order by", "Page 2"),
              "es": ("demasiado igualado", "no superado", "Error por tienda", "gina 2")}[language]  # fmt: skip
    for words in (*wanted, "0a1b2c3d4e5f", "max_depth", "v7"):
        assert words in text


def test_a_first_model_has_no_gain_to_draw(speak):
    speak("en")
    first = report(verdict="first", gain=None, gain_low=None, gain_high=None)
    page = as_html(memo(first, None, False, (), "D"))
    assert "There was no champion to compare with." in written(page)
    assert len(drawings(page)) == 3
    assert as_pdf(memo(first, None, False, (), "D")).startswith(b"%PDF-")
