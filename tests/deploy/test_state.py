"""What is cleaned up after a killed supervisor, and above all what is not."""

import os
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from deploy import processes
from deploy.state import ChildNote, RunNote, clean_up, only_one, read_note, write_note

RUN = f"test-{uuid.uuid4().hex}:api"  # of this run alone: two runs of the tests must not end each other's processes
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def sleeper(tmp_path):
    """Starts sleeping processes, each leading a session; those that are left are ended."""
    started = []

    def make(tag="", command=SLEEP, cwd="/"):
        env = {**os.environ, processes.TAG: tag} if tag else dict(os.environ)
        started.append(subprocess.Popen(command, env=env, cwd=cwd, start_new_session=True))
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.wait()


def noted(data, *children):
    """The note of a supervisor that has been killed."""
    gone = subprocess.Popen(["true"])
    birth = processes.birth(gone.pid)
    gone.wait()
    write_note(data, RunNote(pid=gone.pid, birth=birth, phase="ready", began=0, children=children))


def ended(process) -> bool:
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_a_child_of_the_killed_run_is_ended(sleeper, tmp_path):
    child = sleeper()
    birth = processes.birth(child.pid)
    noted(tmp_path, ChildNote(name="api", state="ready", tag=RUN, pid=child.pid, birth=birth))
    assert clean_up(tmp_path) == 1
    assert ended(child)
    assert read_note(tmp_path) is None


def test_a_stranger_with_a_recycled_pid_is_left_alone(sleeper, tmp_path):
    stranger = sleeper()
    other_birth = f"{processes.birth(stranger.pid)}0"
    noted(tmp_path, ChildNote(name="api", state="ready", tag=RUN, pid=stranger.pid, birth=other_birth))
    assert clean_up(tmp_path) == 0
    assert stranger.poll() is None


def test_orphans_are_found_by_their_tag_though_their_mother_is_dead(sleeper, tmp_path):
    mother = sleeper(RUN, [sys.executable, "-c", f"import subprocess; subprocess.Popen({SLEEP!r})"])
    mother.wait()
    (orphan,) = (pid for pid in processes.tagged(RUN) if pid != mother.pid)
    noted(tmp_path, ChildNote(name="api", state="ready", tag=RUN, pid=mother.pid, birth="gone"))
    assert clean_up(tmp_path) == 1
    assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE


def test_of_a_session_without_its_leader_only_those_at_work_in_our_folder_count(tmp_path):
    """Airflow writes a title over the environment: then the working folder must do. No tag is set here."""
    home = tmp_path / "airflow"
    home.mkdir()
    here, elsewhere = (_orphan_in(folder) for folder in (home, "/"))
    try:
        assert processes.Family(here[0], RUN, home=tmp_path).end() == 1
        assert processes.Family(elsewhere[0], RUN, home=tmp_path).end() == 0
        assert psutil.pid_exists(elsewhere[1])
    finally:
        psutil.Process(elsewhere[1]).kill()


def _orphan_in(folder):
    """(pid of the dead leader of a session, pid of the member it left behind)"""
    code = f"import subprocess; print(subprocess.Popen({SLEEP!r}, stdout=subprocess.DEVNULL).pid)"
    leader = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    output, _ = leader.communicate()
    return leader.pid, int(output)


def test_nothing_is_touched_while_the_supervisor_lives(sleeper, tmp_path):
    child = sleeper(RUN)
    mine = ChildNote(name="api", state="ready", tag=RUN, pid=child.pid, birth=processes.birth(child.pid))
    me = RunNote(
        pid=os.getpid(), birth=processes.birth(os.getpid()), phase="ready", began=time.time(), children=(mine,)
    )
    write_note(tmp_path, me)
    assert clean_up(tmp_path) == 0
    assert child.poll() is None
    assert read_note(tmp_path) == me


def test_a_damaged_note_is_no_note(tmp_path):
    (tmp_path / "runner.json").write_text('{"pid": 1, "birth"')
    assert read_note(tmp_path) is None
    assert clean_up(tmp_path) == 0


def test_one_supervisor_per_data_folder(tmp_path):
    with only_one(tmp_path) as first, only_one(tmp_path) as second:
        assert (first, second) == (True, False)
    with only_one(tmp_path) as again:
        assert again


def test_a_birth_mark_tells_two_processes_apart(sleeper):
    one, two = sleeper(), sleeper()
    assert processes.birth(one.pid) == processes.birth(one.pid)
    one.kill()
    one.wait()
    assert processes.birth(one.pid) is None
    assert processes.alive(two.pid, processes.birth(two.pid))
    assert not processes.alive(two.pid, None)


def test_an_empty_tag_is_refused_and_our_ancestors_are_never_ended():
    with pytest.raises(ValueError, match="an empty tag names nobody"):
        processes.Family(os.getpid(), "").members()
    mine = processes.Family(os.getsid(0), "no-such-tag", sure=True).members()
    assert not {1, os.getpid(), os.getppid()} & set(mine)
