"""Ready or not: one quick look at a child from outside. A probe never raises and never takes long."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from collections.abc import Callable

Probe = Callable[[], bool]
SECONDS = 3.0

# no proxy: an HTTP_PROXY of the machine must not stand between us and 127.0.0.1
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, seconds: float = SECONDS) -> bytes | None:
    """The body of a 200 answer, or None."""
    try:
        with _opener.open(url, timeout=seconds) as reply:
            return reply.read() if reply.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def answers(url: str) -> Probe:
    """Ready when ``url`` answers 200."""
    return lambda: get(url) is not None


def tcp(port: int, host: str = "127.0.0.1") -> Probe:
    """Ready when the port takes connections."""

    def look() -> bool:
        try:
            with socket.create_connection((host, port), timeout=SECONDS):
                return True
        except OSError:
            return False

    return look


def airflow_part(url: str, part: str) -> Probe:
    """Ready when Airflow's own health page says that ``part`` (scheduler, dag_processor) has a fresh heartbeat."""

    def look() -> bool:
        body = get(f"{url}/api/v2/monitor/health")
        return body is not None and (json.loads(body).get(part) or {}).get("status") == "healthy"

    return look
