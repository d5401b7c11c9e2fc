"""The passwords and keys of one data folder: made once, at random, readable by the owner only."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ml.errors import SettingsError


def _password() -> str:
    return secrets.token_urlsafe(24)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _long_secret() -> str:
    return secrets.token_hex(32)  # 64 characters: shorter keys are refused for HS512


class Keys(BaseModel):
    """Every secret of the local mode. A key that an older file lacks is made when the file is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    postgres: str = Field(default_factory=_password)
    app: str = Field(default_factory=_password)
    airflow: str = Field(default_factory=_password)
    mlflow: str = Field(default_factory=_password)
    airflow_admin: str = Field(default_factory=_password)
    airflow_fernet: str = Field(default_factory=_fernet_key)
    airflow_api: str = Field(default_factory=_long_secret)
    airflow_jwt: str = Field(default_factory=_long_secret)
    console: str = Field(default_factory=_long_secret)


def load_keys(data: Path) -> Keys:
    """Read ``secrets.json`` of the data folder, or make it.

    Raises
    ------
    SettingsError
        The file is there but damaged. It is not made anew: the databases know the old passwords.
    """
    path = data / "secrets.json"
    try:
        keys = Keys.model_validate(json.loads(path.read_text())) if path.exists() else Keys()
    except ValueError as error:
        raise SettingsError(
            f"{path} is damaged. Put a copy back, or start again with another CONTROL_ROOM_DATA_DIR.", key="data_dir"
        ) from error
    write_private(path, keys.model_dump_json(indent=2))
    return keys


def write_private(path: Path, text: str, uid: int | None = None) -> None:
    """Write a file that only its owner (or ``uid``) can read; whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if uid is not None:
        os.chown(fresh, uid, uid)
    fresh.replace(path)
