"""The last good answer: kept through an outage, dropped by an answer, asked anew when told so."""

from __future__ import annotations

import pytest

from control_room.live import KEPT, LastGood
from ml.errors import NotFound, ServiceDown


class Source:
    def __init__(self) -> None:
        self.calls, self.error = 0, None

    def __call__(self) -> int:
        self.calls += 1
        if self.error:
            raise self.error
        return self.calls


@pytest.fixture
def source() -> Source:
    return Source()


def test_an_answer_is_good_for_a_while(source):
    store = LastGood()
    assert [store.ask("api", "q", source).value for _ in range(3)] == [1, 1, 1]


def test_an_outage_shows_what_was_known_with_its_time(source):
    store = LastGood()
    first = store.ask("api", "q", source)
    source.error = ServiceDown("api", "timed out")
    seen = store.ask("api", "q", source, seconds=0)
    assert (seen.value, seen.at, seen.stale) == (1, first.at, True)
    assert seen.problem is source.error


def test_a_silent_service_is_asked_once_per_page(source):
    store = LastGood()
    source.error = ServiceDown("api", "timed out")
    for question in "abc":
        assert store.ask("api", question, source).problem is source.error
    assert source.calls == 1
    assert store.ask("mlflow", "a", lambda: 5).value == 5


def test_one_slow_question_does_not_make_a_service_be_away(source):
    store = LastGood()
    source.error = ServiceDown("api", "timed out")
    for version in "789":  # the page waits for one of them
        assert store.ask("api", ("model", version), source).problem is source.error
    assert source.calls == 1
    assert store.ask("api", "health", lambda: "well").value == "well"
    store.forget("api", "models")
    assert store.ask("api", "health", source, seconds=0).problem is source.error  # now it is silent itself
    assert store.ask("api", "runs", source).problem is source.error
    assert source.calls == 2


def test_not_found_is_an_answer_and_covers_nothing(source):
    store = LastGood()
    store.ask("api", "q", source)
    source.error = NotFound("gone")
    seen = store.ask("api", "q", source, seconds=0)
    assert (seen.value, seen.problem) == (None, source.error)
    source.error = ServiceDown("api")
    assert store.ask("api", "q", source, seconds=0).value is None


def test_forget_asks_again_but_keeps_what_was_known(source):
    store = LastGood()
    store.ask("api", ("history", 1), source)
    store.ask("api", "health", source)
    source.error = ServiceDown("api")
    store.forget("api", "history")
    assert store.ask("api", "health", source).value == 2
    assert store.ask("api", ("history", 1), source).value == 1
    assert source.calls == 3


def test_forget_ends_the_rest_of_a_service(source):
    store = LastGood()
    source.error = ServiceDown("api")
    store.ask("api", "q", source)
    source.error = None
    store.forget("api")
    assert store.ask("api", "q", source).value == 2


def test_another_error_of_ours_does_not_hide_in_the_rest(source):
    """The database behind the API is away, the API is not."""
    store = LastGood()
    source.error = ServiceDown("database")
    store.ask("api", "a", source)
    source.error = None
    assert store.ask("api", "b", source).value == 2


def test_the_store_is_bounded():
    store = LastGood()
    for number in range(KEPT + 10):
        store.ask("api", number, lambda: 1)
    assert len(store._seen) == KEPT
