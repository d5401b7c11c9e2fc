"""By which names our servers may be called: a foreign name that was rebound to this machine is turned away."""

from __future__ import annotations

import re
from collections.abc import Iterable

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
ANY = "*"
_HOST = re.compile(r"(\[[0-9a-f:]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII | re.IGNORECASE)


class Hosts:
    """The names of the setting ``allowed_hosts`` (comma separated) beside the local ones and ``own``.

    Examples
    --------
    >>> hosts = Hosts("sales.example, .shop.example")
    >>> [hosts.allow(name) for name in ("localhost:8501", "sales.example", "a.shop.example", "evil.example", "[")]
    [True, True, True, False, False]
    """

    def __init__(self, given: str, own: Iterable[str] = ()) -> None:
        names = {name.strip().lower() for name in given.split(",")}
        self._any = ANY in names
        self._names = LOCAL | names | {name.lower() for name in own}
        self._domains = tuple(name for name in names if name.startswith("."))

    def allow(self, *headers: str) -> bool:
        """Whether a request with this Host header is for us; never with none, with two, or one that is no name."""
        found = _HOST.fullmatch(headers[0]) if len(headers) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        return self._any or name in self._names or any(name.endswith(domain) for domain in self._domains)
