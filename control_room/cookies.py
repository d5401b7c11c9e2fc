"""The cookie that keeps people of local accounts signed in: HttpOnly, so no script of a page can read it."""

from __future__ import annotations

import re

from ml.settings import Settings

SHAPE = re.compile(r"scs_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")


def secure(settings: Settings) -> bool:
    return settings.console_url.startswith("https://")


def cookie_name(settings: Settings) -> str:
    """With https the browser itself holds the cookie to this host (``__Host-``)."""
    return "__Host-control_room" if secure(settings) else "control_room"
