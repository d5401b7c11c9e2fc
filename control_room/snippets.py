"""The same question as a cURL command, as Python and as a Power Query. The key is named, never shown."""

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


def power_query(url: str, path: str, body: dict[str, Any], needs_token: bool) -> str:
    """M for Excel and Power BI: one row per prediction. The key is the query parameter ``ApiKey``."""
    key = ', #"X-API-Key" = ApiKey' if needs_token else ""
    return (
        "let\n"
        f"    Body = Text.ToBinary({_m_text(json.dumps(body, ensure_ascii=False))}),\n"
        f"    Reply = Web.Contents({_m_text(url)}, [\n"
        f"        RelativePath = {_m_text(path.lstrip('/'))},\n"
        f'        Headers = [#"Content-Type" = "application/json"{key}],\n'
        "        Content = Body\n"
        "    ]),\n"
        "    Answers = Json.Document(Reply)[predictions],\n"
        "    Rows = Table.FromRecords(Answers),\n"
        '    Columns = Table.SelectColumns(Rows, {"date", "store", "product", "prediction", "unit"}),\n'
        '    Typed = Table.TransformColumnTypes(Columns, {{"date", type date}, {"prediction", type number}}, "en-US")\n'
        "in\n"
        "    Typed"
    )


def _m_text(text: str) -> str:
    """A text literal of M: quotes are doubled, and what would begin an escape is escaped itself."""
    return '"' + text.replace("#(", "#(#)(").replace('"', '""') + '"'
