"""The acceptance check: it passes on the running product and says what is wrong with another."""

import pytest

from deploy import exercise
from deploy.ports import free_ports
from ml.settings import Settings


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(exercise, "READY_SECONDS", 0.1)
    monkeypatch.setattr(exercise, "POLL_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient")
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


@pytest.mark.e2e
def test_passes_on_the_local_product(stack, capsys):
    failures = exercise.exercise(exercise.Product(stack.settings))
    said = capsys.readouterr().out
    assert failures == 0, said
    assert said.count("ok ") == 7
