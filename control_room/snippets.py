"""The same question as a cURL command and as Python. The key is named, never shown."""

from __future__ import annotations

import json
from typing import Any


def curl(url: str, path: str, body: dict[str, Any], needs_token: bool) -> str:
    # Inside single quotes the shell leaves everything alone but the quote itself.
    data = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    key = '  -H "X-API-Key: $CONTROL_ROOM_API_TOKEN" \\\n' if needs_token else ""
    return f"curl -X POST '{url}{path}' \\\n  -H 'Content-Type: application/json' \\\n{key}  -d '{data}'"


def python(url: str, path: str, body: dict[str, Any], needs_token: bool) -> str:
    imports = "import os\n\nimport requests" if needs_token else "import requests"
    key = ',\n    headers={"X-API-Key": os.environ["CONTROL_ROOM_API_TOKEN"]}' if needs_token else ""
    return (
        f"{imports}\n\nreply = requests.post(\n    {url + path!r},\n    json={body!r}{key},\n    timeout=10,\n)\n"
        "reply.raise_for_status()\nprint(reply.json())"
    )
