"""The embedded PostgreSQL of the local mode: one server on 127.0.0.1, one database and one role per part.

Only the wheel's binaries are used; how it is made and started is ours: passwords by SCRAM, no Unix socket, every
commit synced to disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from deploy import processes
from deploy.keys import write_private
from deploy.postgres_files import Place, Say, find_place, run_as
from deploy.sealing import seal
from deploy.supervisor import Spec
from ml.errors import ServiceDown, SettingsError

HOST = "127.0.0.1"
APPLICATION = "app"  # the role and database of the control room itself
CONNECTIONS = 120  # Airflow's parts and tasks 50, MLflow 15, API 15, and room for psql


@dataclass(frozen=True)
class Postgres:
    """One cluster; ``passwords`` maps each role (= its database) to its password, ``password`` is the superuser's."""

    place: Place
    port: int
    password: str
    passwords: Mapping[str, str]

    @classmethod
    def at(cls, data: Path, port: int, password: str, passwords: Mapping[str, str], say: Say = print) -> Postgres:
        """The cluster of a data folder."""
        return cls(find_place(data, say), port, password, passwords)

    @property
    def command(self) -> tuple[str, ...]:
        options = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "port": str(self.port),
            "max_connections": str(CONNECTIONS),
            "fsync": "on",
            "timezone": "UTC",
            "log_checkpoints": "off",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return (str(self.place.binaries / "postgres"), "-D", str(self.place.cluster), *flags)

    @property
    def env(self) -> dict[str, str]:
        """Nothing of the caller's: a PGDATA or a locale of theirs must not change the server."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def url(self, role: str) -> str:
        """SQLAlchemy URL of a role's database."""
        return f"postgresql+psycopg2://{role}:{self.passwords[role]}@{HOST}:{self.port}/{role}"

    def spec(self) -> Spec:
        """It as a child of the supervisor."""
        return Spec(
            name="postgres",
            command=self.command,
            env=self.env,
            cwd=self.place.folder,
            ready=self.is_ready,
            account=self.place.account,
            postgres_in=self.place.cluster,
            prepare=self.prepare,
            once_ready=self.make_databases,
            gentle=signal.SIGINT,  # "fast": rolls open transactions back and syncs; SIGTERM would wait for clients
            stop_seconds=30,
            shows="FATAL",  # an ERROR is a client's: Airflow asks for tables before it makes them
        )

    # -- before and after the start

    def prepare(self) -> None:
        """Make the cluster if there is none, and clear what a killed server left."""
        if (self.place.cluster / "PG_VERSION").exists():
            self._clear_stale_pid()
        else:
            self._initdb()

    def _initdb(self) -> None:
        """Made aside and then renamed: a start that was killed half-way leaves no half cluster."""
        fresh = self.place.folder / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self.place.account:
            os.chown(fresh, self.place.account.uid, self.place.account.gid)
        with tempfile.TemporaryDirectory(dir=self.place.folder) as name:
            os.chmod(name, 0o711)
            secret = Path(name) / "password"
            write_private(secret, self.password, self.place.account.uid if self.place.account else None)
            self._run_initdb(fresh, secret)
        fresh.rename(self.place.cluster)

    def _run_initdb(self, folder: Path, secret: Path) -> None:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if self.place.major >= 17 else []
        command = [self.place.binaries / "initdb", "-D", folder, "--username=postgres", f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", *locale]
        drop = run_as(self.place.account)
        done = subprocess.run(  # type: ignore[call-overload]
            command, env=self.env, cwd="/", capture_output=True, text=True, timeout=120, check=False, **drop
        )
        if done.returncode != 0:
            raise SettingsError(f"PostgreSQL could not make its cluster in {folder}: {done.stderr.strip()[-800:]}")

    def _clear_stale_pid(self) -> None:
        """End a server that outlived its supervisor; drop a pid file whose pid now belongs to a stranger.

        PostgreSQL itself deals with a pid that nobody has, but takes any living process for a second server.
        """
        file = self.place.cluster / "postmaster.pid"
        if not file.exists():
            return
        pid = int(file.read_text().split("\n", 1)[0].strip("- "))
        family = processes.Family(pid, tag=f"postmaster-{pid}", postgres_in=self.place.cluster)
        if pid in family.members():
            processes.send([pid], signal.SIGINT)  # "fast": it lets no client wait and syncs
            deadline = time.monotonic() + 10
            while family.members() and time.monotonic() < deadline:
                time.sleep(0.05)
        family.end()
        if psutil.pid_exists(pid):
            file.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        """Whether it takes a query, not just a connection."""
        try:
            psycopg2.connect(**self._superuser("postgres"), connect_timeout=2).close()
        except psycopg2.Error:
            return False
        return True

    def make_databases(self) -> None:
        """Each role with its own database, closed to the others; done again it only renews the passwords.

        Raises
        ------
        ServiceDown
            The server went away meanwhile or refuses.
        """
        try:
            connection = psycopg2.connect(**self._superuser("postgres"), connect_timeout=5)
            connection.autocommit = True
            try:
                for role, password in self.passwords.items():
                    make_role(connection, role, password)
                    make_database(connection, role, role)
            finally:
                connection.close()
            if APPLICATION in self.passwords:
                self._seal()
        except psycopg2.Error as error:
            raise ServiceDown("postgres", str(error).strip()) from error

    def _seal(self) -> None:
        """The application may add to its audit, not change it."""
        connection = psycopg2.connect(**self._superuser(APPLICATION), connect_timeout=5)
        try:
            with connection:
                seal(connection, APPLICATION, APPLICATION)
        finally:
            connection.close()

    def _superuser(self, database: str) -> dict[str, str | int]:
        return {
            "host": HOST,
            "port": self.port,
            "user": "postgres",
            "password": self.password,
            "dbname": database,
        }


def make_role(connection: psycopg2.extensions.connection, role: str, password: str) -> None:
    """Make a role that may log in, or give it this password."""
    name = sql.Identifier(role)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        verb = "ALTER" if cursor.fetchone() else "CREATE"
        cursor.execute(sql.SQL(verb + " ROLE {} LOGIN PASSWORD %s").format(name), [password])


def make_database(connection: psycopg2.extensions.connection, name: str, owner: str) -> None:
    """Make a database that only its owner may enter, unless it is there."""
    database = sql.Identifier(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, sql.Identifier(owner)))
            cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
