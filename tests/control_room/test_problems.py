"""Every error has words, in every language."""

from __future__ import annotations

import pytest

from control_room.problems import ANSWERED, SENTENCES, explain
from ml.errors import Conflict, InputError, ServiceDown, all_codes


def own_codes() -> set[str]:
    return {code for code, kind in all_codes().items() if kind.__module__ == "ml.errors"}


def test_every_code_of_ours_has_a_sentence_and_advice():
    assert own_codes() == set(SENTENCES)
    assert all(title and advice for title, advice in SENTENCES.values())


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_silent_service_is_named(speak, language):
    speak(language)
    said = explain(ServiceDown("airflow", "no answer within 4 s"))
    assert said.title.startswith("Airflow")
    assert said.detail == {"en": "No answer within 4 s.", "es": "Sin respuesta en 4 s."}[language]


def test_the_servers_code_wins_over_the_class_and_the_id_is_kept(speak):
    speak("en")
    error = InputError("row 3: price", field="price")
    error.facts |= {"code": "too_large", "request_id": "r1"}
    said = explain(error)
    assert said.title == "This is too large for one request."
    assert (said.detail, said.request_id) == ("row 3: price", "r1")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("ConnectionError", "Nothing answers at its address."),
        ("ReadTimeout", "No answer in time."),
        ("answered 502", "It answered with error 502."),
        ("answered something unexpected", "Its answer could not be understood."),
        ("sign-in of admin was refused with 401", "sign-in of admin was refused with 401"),
    ],
)
def test_reasons_are_said_in_words(speak, seen, said):
    speak("en")
    assert explain(ServiceDown("mlflow", seen)).detail == said


def test_a_title_is_not_repeated_as_detail():
    assert explain(Conflict()).detail == ""


def test_an_unknown_code_is_said_as_internal(speak):
    speak("en")
    error = Conflict("rate limit")
    error.facts["code"] = "from_the_future"
    assert "on the server" in explain(error).title


def test_the_catalogue_of_the_api_has_every_code_that_it_answers_with(speak):
    assert set(ANSWERED) == own_codes() - {"settings"}
    assert {code: status for code, (status, _, _) in ANSWERED.items()}["conflict"] == 409
    assert not [code for code, (_, *words) in ANSWERED.items() if any("{" in text or not text for text in words)]
