"""``traceparent`` as the recommendation wants it read and written."""

from __future__ import annotations

import pytest

from ml import tracing
from ml.tracing import continued

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"
INVALID = [
    "",
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{PARENT}-01",
    f"00-{TRACE}-{PARENT.upper()}-01",
    f"00-{TRACE}-{PARENT}-0G",
    f"00-{TRACE}-{PARENT}-01-more",
    f"00-{TRACE}-{PARENT}-01-",
    f"00-{TRACE[:-1]}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}",
    f"0-{TRACE}-{PARENT}-01",
    f"00_{TRACE}_{PARENT}_01",
    f" {GOOD}",
    f"{GOOD}\n",
    f"01-{TRACE}-{PARENT}-01.more",
    f"{GOOD},{GOOD}",
    "x" * 100_000,
]


@pytest.mark.parametrize("header", INVALID, ids=range(len(INVALID)))
def test_an_invalid_parent_is_as_none(header):
    found = continued([header], ["vendor=1"], "r1")
    assert found.trace_id != TRACE
    assert (found.state, found.request_id) == ("", "r1")


@pytest.mark.parametrize("header", [GOOD, f"01-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-what-comes-later"])
def test_a_valid_parent_is_continued_under_a_span_of_our_own(header):
    found = continued([header])
    assert found.trace_id == TRACE
    assert found.span_id != PARENT
    assert found.traceparent == f"00-{TRACE}-{found.span_id}-01"
    assert continued([found.traceparent]).trace_id == TRACE


@pytest.mark.parametrize(("given", "kept"), [("00", "00"), ("01", "01"), ("02", "00"), ("ff", "01"), ("fe", "00")])
def test_only_the_sampled_flag_is_handed_on(given, kept):
    assert continued([f"00-{TRACE}-{PARENT}-{given}"]).flags == kept


def test_two_parents_are_none():
    assert continued([GOOD, GOOD]).trace_id != TRACE


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["congo=t61rcWkgMzE"], "congo=t61rcWkgMzE"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=" + "x" * 510], "a=" + "x" * 510),
        (["a=" + "x" * 511], ""),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        (["a=\u00e9"], ""),
        (["a=1\r\nx: y"], ""),
        ([], ""),
    ],
)
def test_a_state_is_handed_on_only_within_its_limits(states, kept):
    assert continued([GOOD], states).state == kept


def test_what_begins_here_has_one_id_for_request_and_trace():
    made = tracing.new()
    assert made.request_id == made.trace_id
    assert made.flags == "01"
    assert continued([made.traceparent], request_id=made.request_id).request_id == made.trace_id
    assert len({tracing.new().trace_id for _ in range(1000)}) == 1000


def test_nothing_is_sent_along_where_no_request_is_worked_on():
    tracing.begin(None)
    assert tracing.headers() == {}
    tracing.begin(continued([GOOD], ["a=1"]))
    try:
        sent = tracing.headers()
        assert (sent["traceparent"][:35], sent["tracestate"]) == (GOOD[:35], "a=1")
        conf = tracing.as_conf()
        tracing.begin_from(conf)
        now = tracing.current()
        assert now is not None
        assert (now.trace_id, now.request_id) == (TRACE, conf["request_id"])
    finally:
        tracing.begin(None)


def test_a_run_that_nobody_asked_for_begins_a_trace():
    tracing.begin_from({"trials": 3})
    try:
        now = tracing.current()
        assert now is not None
        assert now.request_id
    finally:
        tracing.begin(None)
