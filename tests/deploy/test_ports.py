import os
import socket

import pytest

from deploy.ports import PORTS, PortTaken, check_ports, free_ports, is_free
from ml.settings import Settings


@pytest.fixture
def settings():
    return Settings(**dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_free_ports_pass(settings):
    check_ports(settings)


def test_a_taken_port_is_named_with_its_setting_and_its_holder(settings, taken):
    with pytest.raises(PortTaken) as refusal:
        check_ports(settings.model_copy(update={"api_port": taken}))
    assert f"Port {taken} is taken" in str(refusal.value)
    assert f"pid {os.getpid()})" in str(refusal.value)
    assert "CONTROL_ROOM_API_PORT" in str(refusal.value)
    assert "CONTROL_ROOM_CONSOLE_PORT" not in str(refusal.value)


def test_two_taken_ports_are_told_at_once(settings, taken):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        wanted = {"api_port": taken, "console_port": other.getsockname()[1]}
        with pytest.raises(PortTaken, match=r"(?s)API_PORT.*CONSOLE_PORT"):
            check_ports(settings.model_copy(update=wanted))


def test_a_listener_on_all_addresses_counts(settings):
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        assert not is_free(listener.getsockname()[1])


def test_one_port_for_two_parts_is_refused(settings):
    with pytest.raises(PortTaken, match=r"CONTROL_ROOM_MLFLOW_PORT and CONTROL_ROOM_API_PORT are the same port"):
        check_ports(settings.model_copy(update={"api_port": settings.mlflow_port}))


def test_free_ports_differ():
    assert len(set(free_ports(20))) == 20
