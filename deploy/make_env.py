"""Write ``.env`` for compose: ``.env.example`` with random secrets. Standard library only, any Python ≥ 3.9.

An existing file is never overwritten: its secrets are those of the data volumes.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

PLACEHOLDER = "change-me"
ROOT = Path(__file__).resolve().parent.parent


def secret(name: str) -> str:
    """Make a random value of the form that the variable needs."""
    if name == "AIRFLOW_FERNET_KEY":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(10 if name == "S3_ACCESS_KEY" else 32)


def filled(example: str) -> str:
    """Replace every placeholder by a secret of its own; all other lines stay as they are."""
    return "\n".join(_line(line) for line in example.splitlines()) + "\n"


def _line(line: str) -> str:
    name, equals, value = line.partition("=")
    if not equals or name.startswith("#") or PLACEHOLDER not in value:
        return line
    return f"{name}={secret(name)}"


def main(root: Path = ROOT) -> int:
    """Write the file, readable by its owner only."""
    target = root / ".env"
    content = filled((root / ".env.example").read_text(encoding="utf-8"))
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{target} exists and is kept: the data volumes were made with its secrets.", file=sys.stderr)
        return 1
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    print(f"{target} written. The console opens Airflow and the API with its secrets; keep the file.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
