"""The embedded PostgreSQL: what it must survive and where it puts itself."""

import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from deploy import postgres_files
from deploy.leader import Leader
from deploy.ports import free_ports
from deploy.postgres import Postgres
from deploy.postgres_files import find_place, run_as
from ml.errors import ServiceDown, SettingsError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand PostgreSQL to another account")


@pytest.fixture
def data():
    folder = Path(tempfile.mkdtemp(prefix="control-room-test-")).resolve()
    folder.chmod(0o711)
    yield folder
    _remove(folder)


@pytest.fixture
def closed_data(data):
    """A data folder below a folder that only root may pass, as `mktemp -d` makes it."""
    data.chmod(0o700)
    inside = data / "clone" / ".control-room"
    inside.mkdir(parents=True)
    yield inside
    _remove(inside)


def _remove(data):
    note = data / postgres_files.NOTE
    if note.exists():
        shutil.rmtree(note.read_text().strip())
    shutil.rmtree(data, ignore_errors=True)


def cluster(data, port=None, password=None):
    return Postgres.at(data, port or free_ports(1)[0], password or "top", {"app": "one", "mlflow": "two"}, say=print)


@contextmanager
def started(server):
    """The server, killed without warning at the end of the block."""
    server.prepare()
    how = run_as(server.place.account)
    leader = Leader(server.command, server.env, f"test-{uuid.uuid4().hex}", "/", None, server.place.cluster, **how)
    try:
        wait_until(server.is_ready)
        yield leader
    finally:
        leader.signal(signal.SIGKILL)
        leader.end()


def wait_until(look, seconds=30):
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


@contextmanager
def connected(server, role="app", **changed):
    how = {"user": role, "dbname": role, "password": server.passwords.get(role), **changed}
    connection = psycopg2.connect(host="127.0.0.1", port=server.port, connect_timeout=5, **how)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def test_committed_rows_survive_kill_9_and_a_stale_pid_file_is_no_obstacle(data):
    server = cluster(data)
    with started(server):
        server.make_databases()
        with connected(server) as cursor:
            cursor.execute("CREATE TABLE kept (n int)")
            for n in range(200):
                cursor.execute("INSERT INTO kept VALUES (%s)", [n])
    assert (server.place.cluster / "postmaster.pid").exists()
    with started(server), connected(server) as cursor:
        cursor.execute("SELECT count(*), sum(n) FROM kept")
        assert cursor.fetchone() == (200, 19900)


def test_a_pid_file_whose_pid_now_is_a_stranger_is_dropped_and_the_stranger_lives(data):
    server = cluster(data)
    with started(server):
        pass
    stranger = subprocess.Popen(["sleep", "600"], cwd="/", **run_as(server.place.account))
    try:
        file = server.place.cluster / "postmaster.pid"
        lines = file.read_text().split("\n")
        file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        with started(server):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_that_outlived_its_supervisor_is_ended_first(data):
    server = cluster(data)
    with started(server) as left:
        again = cluster(data, password="top")
        again.prepare()
        assert left.has_exited()
        assert not (again.place.cluster / "postmaster.pid").exists()


def test_databases_have_owners_and_are_closed_to_the_others(data):
    server = cluster(data)
    with started(server):
        server.make_databases()
        server.make_databases()
        with connected(server) as cursor:
            cursor.execute("SHOW fsync")
            assert cursor.fetchone() == ("on",)
            cursor.execute("SHOW server_encoding")
            assert cursor.fetchone() == ("UTF8",)
            cursor.execute("SELECT lower('ÁÉÑ')")
            assert cursor.fetchone() == ("áéñ",)
        with pytest.raises(psycopg2.OperationalError, match="permission denied"), connected(server, dbname="mlflow"):
            pass
        with (
            pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
            connected(server, password="wrong"),
        ):
            pass


def test_it_listens_on_this_machine_only_and_on_no_socket_file(data):
    server = cluster(data)
    with started(server) as process:
        listening = [c.laddr for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]
        unix = [c.laddr for c in psutil.Process(process.pid).net_connections("unix")]
        assert not any(str(server.port) in str(path) for path in unix)


def test_a_half_made_cluster_is_made_again(data):
    server = cluster(data)
    half = server.place.folder / "cluster.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18")
    with started(server):
        assert not half.exists()


def test_a_password_is_in_no_command_line(data):
    server = cluster(data, password="very-secret-word")
    assert "very-secret-word" not in " ".join(server.command)
    with started(server):
        assert not list(server.place.folder.rglob("password"))


def test_no_server_is_told_as_such():
    place = postgres_files.Place(Path("/none"), "18.4", Path("/none"), None)
    with pytest.raises(ServiceDown, match="postgres does not answer"):
        Postgres(place, 9, "x", {"app": "y"}).make_databases()


@as_root
def test_root_works_below_a_closed_folder_and_finds_its_database_again(closed_data):
    told = []
    server = Postgres.at(closed_data, free_ports(1)[0], "top", {"app": "one"}, told.append)
    assert server.place.folder.parent == postgres_files.SHARED_ROOT
    assert any("the database goes to" in text for text in told)
    with started(server) as process:
        assert psutil.Process(process.pid).uids().real == server.place.account.uid
        server.make_databases()
        with connected(server) as cursor:
            cursor.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    again = Postgres.at(closed_data, server.port, "top", {"app": "one"}, told.append)
    assert again.place == server.place
    with started(again), connected(again) as cursor:
        cursor.execute("SELECT n FROM kept")
        assert cursor.fetchone() == (7,)


@as_root
def test_the_binaries_are_copied_when_they_cannot_be_reached(data, monkeypatch):
    """The wheel below a closed folder, as in a clone that has its own .venv."""
    spec = postgres_files.importlib.util.find_spec(postgres_files.WHEEL)
    site = Path(spec.submodule_search_locations[0]).parent
    closed = data / "closed"
    closed.mkdir(mode=0o700)
    for name in (postgres_files.WHEEL, f"{postgres_files.WHEEL}.libs"):
        (closed / name).symlink_to(site / name)
    spec.submodule_search_locations[:] = [str(closed / postgres_files.WHEEL)]
    monkeypatch.setattr(postgres_files.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(postgres_files, "SHARED_ROOT", data / "shared")
    server = cluster(data)
    assert server.place.binaries.is_relative_to(data / "shared")
    with started(server):
        assert server.is_ready()


@as_root
def test_the_cluster_belongs_to_the_account_alone(data):
    server = cluster(data)
    server.prepare()
    found = server.place.cluster.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (server.place.account.uid, 0o700)


def test_a_note_to_a_place_that_is_gone_is_an_error_not_an_empty_database(data):
    (data / postgres_files.NOTE).write_text(str(data / "gone"))
    with pytest.raises(SettingsError, match="that folder is gone"):
        find_place(data)
    (data / postgres_files.NOTE).unlink()


def test_a_copied_data_folder_does_not_take_the_first_ones_database(data):
    first, copy, folder = data / "first", data / "copy", data / "elsewhere"
    for made in (first, copy, folder):
        made.mkdir()
    (folder / postgres_files.OWNER).write_text(str(first))
    for one in (first, copy):
        (one / postgres_files.NOTE).write_text(str(folder))
    assert find_place(first).folder == folder
    with pytest.raises(SettingsError, match="is a copy of"):
        find_place(copy)


def test_another_major_version_is_refused_with_what_was_found(data):
    (data / "postgres" / "cluster").mkdir(parents=True)
    (data / "postgres" / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(SettingsError, match=r"No binaries of PostgreSQL 9, which made the database.*18\."):
        find_place(data)


def test_kill_9_during_writes_loses_nothing_acknowledged(data):
    """The client counts what was acknowledged; the server is killed while it writes."""
    server = cluster(data)
    acknowledged = 0
    with started(server) as process:
        server.make_databases()
        with connected(server) as cursor:
            cursor.execute("CREATE TABLE log (n int)")
            deadline = time.monotonic() + 1 + secrets.randbelow(1000) / 2000
            killed = False
            try:
                while True:
                    cursor.execute("INSERT INTO log VALUES (%s)", [acknowledged])
                    acknowledged += 1
                    if not killed and time.monotonic() > deadline:
                        process.signal(signal.SIGKILL)
                        killed = True
            except psycopg2.Error:
                assert killed
    with started(server), connected(server) as cursor:
        cursor.execute("SELECT count(*) FROM log WHERE n < %s", [acknowledged])
        assert cursor.fetchone() == (acknowledged,)
    assert acknowledged > 10
