"""A log line is one JSON object, whatever is in it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from ml import logs, tracing


@pytest.fixture(autouse=True)
def _no_trace():
    yield
    tracing.begin(None)


def record(message, *args, error=None):
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("api", logging.WARNING, "", 0, message, args, info)


@pytest.mark.parametrize("text", ["plain", "two\nlines", 'a "quote" and \\', "\u00e9\u4e16", "\ud800", "\x00\x1b[31m"])
def test_a_message_stays_on_its_line_and_is_read_back(text):
    line = logs.JsonLines().format(record("%s", text))
    assert "\n" not in line
    assert json.loads(line)["message"] == text


def test_the_fields():
    trace = tracing.continued(["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"], request_id="r-1")
    tracing.begin(trace)
    try:
        raise ValueError("no")
    except ValueError as error:
        found = json.loads(logs.JsonLines().format(record("broke", error=error)))
    assert found["time"].endswith("Z")
    assert (found["level"], found["logger"], found["message"]) == ("WARNING", "api", "broke")
    assert (found["request_id"], found["trace_id"]) == ("r-1", trace.trace_id)
    assert found["span_id"] == trace.span_id
    assert found["exception"].endswith("ValueError: no")
    assert logs.Text(logs.TEXT).format(record("slow")).endswith("WARNING api slow [r-1]")


def test_a_request_is_a_line_with_its_figures(caplog):
    with caplog.at_level(logging.INFO, logger="api.access"):
        logs.note_request("GET", "/v1/runs/{dag_id}", 200, 0.0123456, {"caller": "k1", "role": "viewer"})
    found = json.loads(logs.JsonLines().format(caplog.records[-1]))
    assert found["message"] == "GET /v1/runs/{dag_id} 200 12.346 ms"
    assert (found["route"], found["status"], found["milliseconds"]) == ("/v1/runs/{dag_id}", 200, 12.346)
    assert (found["caller"], found["role"]) == ("k1", "viewer")


@pytest.mark.parametrize(
    ("chosen", "terminal", "kind"),
    [
        ("auto", True, logs.Text),
        ("auto", False, logs.JsonLines),
        ("json", True, logs.JsonLines),
        ("text", False, logs.Text),
    ],
)
def test_text_is_for_terminals_and_for_who_wants_it(chosen, terminal, kind):
    assert type(logs.formatter(chosen, terminal=terminal)) is kind


def test_warnings_threads_and_the_end_of_a_process_are_lines_too():
    code = (
        "import threading, warnings; from ml import logs; logs.configure('json')\n"
        "warnings.warn('old')\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "raise SystemError('the end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in found] == ["WARNING", "ERROR", "CRITICAL"]
    assert "ZeroDivisionError" in found[1]["exception"]
    assert "the end" in found[2]["exception"]
