"""The acceptance check says what is wrong; that it passes is shown by the compose test and in the local mode."""

import pytest

from deploy import exercise
from deploy.ports import free_ports
from ml.settings import Settings


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(exercise, "READY_SECONDS", 0.1)
    monkeypatch.setattr(exercise, "POLL_SECONDS", 0.05)


def test_names_the_service_that_does_not_answer(capsys):
    (port,) = free_ports(1)
    assert exercise.exercise(exercise.Product(Settings(api_port=port))) == 1
    said = capsys.readouterr().out
    assert said.startswith("FAILED")
    assert f"http://127.0.0.1:{port}/health does not answer" in said
    assert said.count("\n") == 1  # nothing is tried after the first failure


def test_settings_that_cannot_be_used_end_it(monkeypatch, capsys):
    monkeypatch.setenv("CONTROL_ROOM_API_PROT", "1")
    assert exercise.main() == 2
    assert "Did you mean CONTROL_ROOM_API_PORT?" in capsys.readouterr().err
