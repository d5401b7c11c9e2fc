"""Taken ports are found before anything starts, with the name of who holds them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

import psutil

from ml.errors import SettingsError
from ml.settings import Settings, variable

PORTS = ("postgres_port", "mlflow_port", "airflow_port", "api_port", "console_port")


class PortTaken(SettingsError):
    """A port that we need is in use."""

    code, title = "port_taken", "A port is in use"


def check_ports(settings: Settings, names: Iterable[str] = PORTS) -> None:
    """Refuse to start on a port that is taken or given twice.

    Raises
    ------
    PortTaken
        Says for every such port which setting changes it and, where the system tells, who holds it.
    """
    wanted = {name: int(getattr(settings, name)) for name in names}
    twice = [name for name, port in wanted.items() if list(wanted.values()).count(port) > 1]
    if twice:
        raise PortTaken(f"{' and '.join(variable(n) for n in twice)} are the same port: give each its own.")
    lines = [_complaint(name, port) for name, port in wanted.items() if not is_free(port)]
    if lines:
        raise PortTaken("\n".join(lines))


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether we could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, all different and below those that systems give to outgoing connections."""
    candidates = random.sample(range(20_000, 32_000), 50 * count)
    return [port for port in candidates if is_free(port)][:count]


def _complaint(name: str, port: int) -> str:
    holder = who_holds(port)
    held = f" (held by {holder})" if holder else ""
    return f"Port {port} is taken{held}: end that program, or set {variable(name)} to a free port."


def who_holds(port: int) -> str:
    """Name and pid of the listener; empty when the system does not tell."""
    try:
        found = [c for c in psutil.net_connections("inet") if c.laddr and c.laddr.port == port]
    except psutil.Error:  # macOS tells only root
        return ""
    listeners = [c for c in found if c.status == psutil.CONN_LISTEN and c.pid]
    if not listeners:
        return ""
    try:
        return f"{psutil.Process(listeners[0].pid).name()}, pid {listeners[0].pid}"
    except psutil.Error:
        return f"pid {listeners[0].pid}"
