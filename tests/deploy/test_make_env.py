"""``deploy/make_env.py``: a .env that starts, with nobody's example secrets."""

import base64
import stat
from pathlib import Path

import pytest

from deploy.make_env import PLACEHOLDER, ROOT, filled, main


def _values(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    return tmp_path


def test_replaces_every_placeholder_and_nothing_else():
    example = (ROOT / ".env.example").read_text()
    before, after = _values(example), _values(filled(example))
    assert list(before) == list(after)
    secrets = [name for name, value in before.items() if PLACEHOLDER in value]
    assert len(secrets) == len({after[name] for name in secrets}) >= 10
    assert all(PLACEHOLDER not in value for value in after.values())
    assert {n: v for n, v in before.items() if n not in secrets} == {n: v for n, v in after.items() if n not in secrets}


def test_secrets_have_the_form_that_is_needed():
    values = _values(filled((ROOT / ".env.example").read_text()))
    assert len(base64.urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32
    assert len(values["AIRFLOW_JWT_SECRET"]) >= 64
    assert all(values[name].isalnum() for name in values if name.endswith("DB_PASSWORD"))  # they stand in URLs


def test_is_private_and_never_overwritten(folder, capsys):
    assert main(folder) == 0
    written = (folder / ".env").read_text()
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert main(folder) == 1
    assert "exists and is kept" in capsys.readouterr().err
    assert (folder / ".env").read_text() == written
