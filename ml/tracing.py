"""Which request this work is for: its id and its W3C trace context, carried on to everything that is called for it.

Only what the recommendation calls a valid ``traceparent`` is continued (https://www.w3.org/TR/trace-context/): whatever
else comes in is as if nothing had come, and a new trace begins.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

HEADER, STATE_HEADER = "traceparent", "tracestate"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# version - trace id - id of the caller's span - flags; only versions after 00 may have more behind it
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[\x20-\x7e\t]*")
MOST_STATE = 512  # characters that a system must be able to hand on; a longer state is dropped, it is not ours
MOST_MEMBERS = 32
SAMPLED = "01"  # every request is in the log: what begins here has been recorded


@dataclass(frozen=True, slots=True)
class Trace:
    """``span_id``: of the work that is done here; ``state``: what other tracing systems want handed on."""

    trace_id: str
    span_id: str
    request_id: str
    flags: str = SAMPLED
    state: str = ""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """What the work of this task or thread belongs to."""
    return _current.get()


def begin(trace: Trace | None) -> None:
    """From here on, the work of this task or thread belongs to ``trace``."""
    _current.set(trace)


def new() -> Trace:
    """A trace that begins here; its request has the same id, so that one id finds everything.

    Examples
    --------
    >>> made = new()
    >>> made.trace_id == made.request_id, len(made.traceparent)
    (True, 55)
    """
    trace_id = secrets.token_hex(16)
    return Trace(trace_id, _span(), trace_id)


def continued(parents: Sequence[str], states: Sequence[str] = (), request_id: str = "") -> Trace:
    """The trace of a request: the caller's, where exactly one valid ``traceparent`` came, else a new one.

    Examples
    --------
    >>> continued(["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"], request_id="r1").trace_id
    '4bf92f3577b34da6a3ce929d0e0e4736'
    >>> continued(["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00"], request_id="r1").flags
    '01'
    """
    known = request_id if REQUEST_ID.fullmatch(request_id) else ""
    found = _TRACEPARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or (found[1] == "00" and found[4]):
        made = new()
        return Trace(made.trace_id, made.span_id, known) if known else made
    flags = SAMPLED if int(found[3], 16) & 1 else "00"  # the other bits are reserved
    return Trace(found[2], _span(), known or secrets.token_hex(16), flags, _handed_on(states))


def headers() -> dict[str, str]:
    """What a call to another service is sent with, for the work of this task or thread."""
    trace = current()
    if trace is None:
        return {}
    return {HEADER: trace.traceparent, **({STATE_HEADER: trace.state} if trace.state else {})}


def as_conf() -> dict[str, str]:
    """What a DAG run is started with, so that its steps belong to the request that started it."""
    trace = current() or new()
    return {"request_id": trace.request_id, HEADER: trace.traceparent}


def begin_from(conf: Mapping[str, Any]) -> None:
    """Belong to the request that started this run, if one did; else begin a trace of our own."""
    parent, request_id = (str(conf.get(name) or "") for name in (HEADER, "request_id"))
    begin(continued([parent], request_id=request_id))


def _span() -> str:
    return secrets.token_hex(8)


def _handed_on(states: Sequence[str]) -> str:
    state = ",".join(states)
    if len(state) > MOST_STATE or state.count(",") >= MOST_MEMBERS or not _STATE.fullmatch(state):
        return ""
    return state.strip()
