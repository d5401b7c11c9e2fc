"""What our processes write to their log: one JSON object per line, or text for a person at a terminal.

Each line says which request it belongs to (:mod:`ml.tracing`). Bodies, keys and paths as they were asked for are never
handed to a logger: routes stand there as they are declared.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import threading
from typing import Any, Literal

import orjson

from ml import tracing

Format = Literal["auto", "json", "text"]
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
OURS = "control_room_facts"  # attribute of a record: fields of ours beside the message

access = logging.getLogger("api.access")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := tracing.current():
            line |= {"request_id": trace.request_id, "trace_id": trace.trace_id, "span_id": trace.span_id}
        line |= getattr(record, OURS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _written(line)


class Text(logging.Formatter):
    """A record as text, with the request id at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        trace = tracing.current()
        return super().formatMessage(record) + (f" [{trace.request_id}]" if trace else "")


def _written(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # half a surrogate pair, or a value that is no JSON
        return json.dumps(line, default=str)


def configure(chosen: Format, *, level: int = logging.INFO) -> None:
    """Everything that is logged in this process, to stderr; where somebody has seen to that (Airflow), nothing."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(chosen, terminal=sys.stderr.isatty()))
    root.addHandler(handler)
    root.setLevel(level)
    # Neither stands in our lines; https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    sys.excepthook = lambda *error: logging.getLogger("control_room").critical("ended by an error", exc_info=error)
    threading.excepthook = _thread_ended


def formatter(chosen: Format, *, terminal: bool) -> logging.Formatter:
    """``auto``: text where a person reads along, else JSON."""
    return Text(TEXT) if chosen == "text" or (chosen == "auto" and terminal) else JsonLines()


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    error = ended.exc_value or ended.exc_type()
    logging.getLogger("control_room").error("a thread ended by an error", exc_info=error)


def note_request(method: str, route: str, status: int, seconds: float, caller: dict[str, Any]) -> None:
    """The line of one request. ``route`` as it is declared; ``caller``: name, role and key id, as far as known.

    Not through ``Logger.info``, which looks for its caller's file and line: this is done for every request.
    """
    if not access.isEnabledFor(logging.INFO):
        return
    milliseconds = round(seconds * 1000, 3)
    said = f"{method} {route} {status} {milliseconds:g} ms"
    record = logging.LogRecord(access.name, logging.INFO, "", 0, said, None, None)
    facts = {"method": method, "route": route, "status": status, "milliseconds": milliseconds, **caller}
    setattr(record, OURS, facts)
    access.handle(record)
