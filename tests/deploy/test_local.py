"""The commands, as a person types them."""

import os
import socket
import subprocess
import sys
import time

import pytest

from deploy import processes
from deploy.ports import PORTS, free_ports
from deploy.state import RunNote, only_one, read_note, write_note
from ml.settings import variable


@pytest.fixture
def run(tmp_path):
    """Runs one command with settings of its own; `.data` is its data folder."""
    ports = {variable(name): str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CONTROL_ROOM_")}

    def command(word, **settings):
        given = {variable(name): str(value) for name, value in settings.items()}
        env = {**clean, **ports, variable("data_dir"): str(tmp_path / "data"), **given}
        return subprocess.run(
            [sys.executable, "-m", "deploy.local", word],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    command.data = tmp_path / "data"
    return command


def test_a_taken_port_ends_the_start_before_anything_runs(run):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = run("up", console_port=listener.getsockname()[1])
    assert done.returncode == 2
    assert f"Port {listener_port(done.stderr)} is taken (held by" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr
    assert "set CONTROL_ROOM_CONSOLE_PORT to a free port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((run.data / "logs").iterdir())
    assert read_note(run.data) is None


def listener_port(text: str) -> str:
    return text.split("Port ")[1].split()[0]


def test_a_setting_that_is_none_is_named(run):
    done = run("up", consol_port=1)
    assert done.returncode == 2
    assert "Did you mean CONTROL_ROOM_CONSOLE_PORT?" in done.stderr


def test_status_and_down_where_nothing_runs(run):
    status = run("status")
    assert (status.returncode, "Not running" in status.stdout) == (1, True)
    down = run("down")
    assert (down.returncode, "does not run" in down.stdout) == (0, True)
    assert not run.data.exists()


def test_a_second_start_shows_where_the_first_one_is(run):
    run.data.mkdir()
    me = RunNote(
        pid=os.getpid(),
        birth=processes.birth(os.getpid()),
        phase="ready",
        began=time.time(),
        addresses=(("Console", "http://127.0.0.1:1"),),
    )
    with only_one(run.data):
        write_note(run.data, me)
        done = run("up")
    assert done.returncode == 0
    assert "Already running" in done.stdout
    assert "http://127.0.0.1:1" in done.stdout


def test_down_ends_what_a_killed_run_left(run):
    run.data.mkdir()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        gone = {"pid": child.pid, "birth": "another process", "phase": "ready", "began": 0.0}
        noted = {"name": "api", "state": "ready", "tag": f"test-{child.pid}:api", "pid": child.pid}
        birth = processes.birth(child.pid)
        write_note(run.data, RunNote.model_validate({**gone, "children": [{**noted, "birth": birth}]}))
        done = run("down")
        assert done.returncode == 0
        assert "1 left-over process(es)" in done.stdout
        assert child.wait(timeout=5) != 0
    finally:
        child.kill()
        child.wait()
