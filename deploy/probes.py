"""Ready or not: one quick look at a child from outside. A probe never raises and never takes long."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

Probe = Callable[[], bool]
SECONDS = 3.0
BEAT_SECONDS = 20.0  # a worker beats every three

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


class AirflowPart:
    """Ready when Airflow's own health page says that ``part`` (scheduler, dag_processor) is healthy.

    The page goes on saying so for some seconds after a part has died: only a heartbeat since :meth:`begin` counts.
    """

    def __init__(self, url: str, part: str) -> None:
        self._url, self._part = url, part
        self._since = dt.datetime.min.replace(tzinfo=dt.UTC)

    def begin(self) -> None:
        """The part is being started now."""
        self._since = dt.datetime.now(dt.UTC)

    def __call__(self) -> bool:
        body = get(f"{self._url}/api/v2/monitor/health")
        found = (json.loads(body).get(self._part) or {}) if body else {}
        beat = str(found.get(f"latest_{self._part}_heartbeat") or "")
        return found.get("status") == "healthy" and beat != "" and dt.datetime.fromisoformat(beat) > self._since


def airflow_part(url: str, part: str) -> Probe:
    """Ready when Airflow says that ``part`` is healthy, whenever it was started."""
    return AirflowPart(url, part)


def alive_file(data: Path) -> Path:
    """What a worker of this machine touches as long as it lives and reaches the database."""
    return data / "worker" / f"alive-{socket.gethostname()}"


def beats(data: Path) -> Probe:
    """Ready when a worker of this machine has just said that it lives."""

    def look() -> bool:
        try:
            return time.time() - alive_file(data).stat().st_mtime < BEAT_SECONDS
        except OSError:
            return False

    return look
