"""The supervisor with real child processes."""

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from io import StringIO

import psutil
import pytest

from deploy import probes
from deploy.ports import free_ports
from deploy.supervisor import Spec, StartFailed, Supervisor
from deploy.terminal import Terminal

SECONDS = 60


@pytest.fixture
def start(tmp_path):
    """Makes a supervisor of specs; what it prints is in `.printed`."""

    def make(*specs: Spec) -> Supervisor:
        output = StringIO()
        made = Supervisor(specs, tmp_path / "logs", Terminal(output, colour=False), uuid.uuid4().hex)
        made.printed = output  # type: ignore[attr-defined]
        return made

    return make


def script(name: str, code: str, folder, **more: object) -> Spec:
    return Spec(name, (sys.executable, "-c", code), dict(os.environ), folder, **more)  # type: ignore[arg-type]


def listener(name: str, port: int, folder, **more: object) -> Spec:
    return script(name, _serve(port), folder, ready=probes.tcp(port), **more)


def mind(supervisor: Supervisor, scenario: Callable) -> None:
    """Run the supervisor until the scenario (a coroutine function) has ended; whatever happens, it must stop."""

    async def both() -> None:
        healthy = asyncio.Event()
        running = asyncio.create_task(supervisor.run(healthy.set))
        try:
            await asyncio.wait([running, asyncio.create_task(healthy.wait())], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await scenario()
        finally:
            supervisor.stop()
            await running

    asyncio.run(asyncio.wait_for(both(), SECONDS))


async def until(look: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)


def test_a_killed_child_is_started_again_and_all_end_with_us(start, tmp_path):
    supervisor = start(listener("web", free_ports(1)[0], tmp_path))
    web, seen = supervisor.children["web"], []

    async def scenario() -> None:
        seen.append(web.pid)
        os.kill(web.pid, signal.SIGKILL)
        await until(lambda: web.restarts == 1 and web.state == "ready")
        seen.append(web.pid)

    mind(supervisor, scenario)
    first, second = seen
    assert first != second
    assert not any(psutil.pid_exists(pid) for pid in seen)
    assert "was ended by SIGKILL; starts again in 0.5 s" in supervisor.printed.getvalue()


def test_those_that_need_others_wait_for_them(start, tmp_path):
    one, two = free_ports(2)
    slow = script(
        "slow",
        f"import time; time.sleep(1); {_serve(one)}",
        tmp_path,
        ready=probes.tcp(one),
    )
    job = script("job", f"import socket; socket.create_connection(('127.0.0.1', {one}))", tmp_path, after=("slow",))
    last = listener("last", two, tmp_path, after=("job",))
    supervisor = start(last, job, slow)

    async def scenario() -> None:
        assert {name: child.state for name, child in supervisor.children.items()} == {
            "slow": "ready",
            "job": "done",
            "last": "ready",
        }

    mind(supervisor, scenario)
    assert {child.restarts for child in supervisor.children.values()} == {0}


def test_nobody_a_child_left_behind_outlives_it(start, tmp_path):
    """Three orphans: one in the child's group, one in a group of its own, one in a session of its own."""
    port, pids = free_ports(1)[0], tmp_path / "pids"
    code = f"""
import os, subprocess as p, sys, time
from pathlib import Path
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
left = [p.Popen(sleep), p.Popen(sleep, process_group=0), p.Popen(sleep, start_new_session=True)]
Path({str(pids)!r}).write_text(" ".join(str(one.pid) for one in left))
{_serve(port)}
"""
    supervisor = start(script("mother", code, tmp_path, ready=probes.tcp(port)))
    mother = supervisor.children["mother"]

    async def scenario() -> None:
        orphans = [int(pid) for pid in pids.read_text().split()]
        assert all(_lives(pid) for pid in orphans)
        os.kill(mother.pid, signal.SIGKILL)
        await until(lambda: mother.restarts == 1)
        assert not any(_lives(pid) for pid in orphans)
        await until(lambda: mother.state == "ready")

    mind(supervisor, scenario)
    assert "ended 3 process(es) it left behind" in supervisor.printed.getvalue()
    assert not any(_lives(int(pid)) for pid in pids.read_text().split())


def test_a_child_that_will_not_end_is_killed(start, tmp_path):
    port = free_ports(1)[0]
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {_serve(port)}"
    supervisor = start(script("deaf", deaf, tmp_path, ready=probes.tcp(port), stop_seconds=0.5))

    async def scenario() -> None:
        return

    began = time.monotonic()
    mind(supervisor, scenario)
    assert time.monotonic() - began < 15
    assert not _lives(supervisor.children["deaf"].pid)
    assert "was killed" in supervisor.printed.getvalue()


def test_a_child_that_never_comes_up_ends_the_start_and_says_why(start, tmp_path):
    healthy = listener("healthy", free_ports(1)[0], tmp_path)
    broken = script("broken", "raise SystemExit('no such table: sales')", tmp_path, ready=lambda: False)
    supervisor = start(healthy, broken)

    async def scenario() -> None:
        pytest.fail("it must not count as healthy")

    with pytest.raises(StartFailed) as failure:
        mind(supervisor, scenario)
    assert failure.value.name == "broken"
    assert "no such table: sales" in failure.value.tail
    assert not _lives(supervisor.children["healthy"].pid)


def test_a_command_that_is_not_there_is_named(start, tmp_path):
    supervisor = start(Spec("ghost", ("/no/such/program",), {}, tmp_path))

    async def scenario() -> None:
        pytest.fail("it must not count as healthy")

    with pytest.raises(StartFailed, match="/no/such/program"):
        mind(supervisor, scenario)


def test_a_child_that_hangs_before_it_is_ready_is_started_again(start, tmp_path):
    port, mark = free_ports(1)[0], tmp_path / "mark"
    code = f"""
import time
from pathlib import Path
if not Path({str(mark)!r}).exists():
    Path({str(mark)!r}).touch(); time.sleep(600)
{_serve(port)}
"""
    supervisor = start(script("web", code, tmp_path, ready=probes.tcp(port), ready_seconds=2))

    async def scenario() -> None:
        assert supervisor.children["web"].restarts == 1

    mind(supervisor, scenario)
    assert "was not ready within 2 s" in supervisor.printed.getvalue()


def _serve(port: int) -> str:
    """A listener that can be started again at once: without reuse a probe's closed connection holds the port 60 s."""
    return (
        "import socketserver as s; s.TCPServer.allow_reuse_address = True; "
        f"s.TCPServer(('127.0.0.1', {port}), s.BaseRequestHandler).serve_forever()"
    )


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
