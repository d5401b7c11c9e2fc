"""One-shot of the compose stack: refuse example secrets, then make roles, databases, tables and buckets.

Everything is made only if it is missing, so it runs at every start; passwords are set anew each time, which is how
they are rotated. PostgreSQL's address and superuser come from libpq's variables (PGHOST, PGUSER, PGPASSWORD), the
object store's from the AWS variables.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import boto3
import psycopg2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from psycopg2 import sql

from deploy.make_env import PLACEHOLDER
from ml.errors import ControlRoomError, ServiceDown, SettingsError
from ml.settings import load_settings
from ml.store import Store

WAIT_SECONDS = 120.0
ROLES = ("control_room", "mlflow", "airflow")
PASSWORDS = ("APP_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "AIRFLOW_DB_PASSWORD")
SECRETS = (
    *PASSWORDS,
    "PGPASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
)
Answer = TypeVar("Answer")


class Database(NamedTuple):
    """A database and the role that owns it, of the same name."""

    name: str
    password: str


def refuse_examples(environ: Mapping[str, str]) -> None:
    """Check that every secret is there and is nobody's example.

    Raises
    ------
    SettingsError
        Names every variable that is wrong.
    """
    wrong = [name for name in SECRETS if not environ.get(name) or PLACEHOLDER in environ[name]]
    if wrong:
        raise SettingsError(f"{', '.join(wrong)}: set a secret of your own (python3 deploy/make_env.py makes them).")
    load_settings(environ)


def wait(service: str, look: Callable[[], Answer], errors: tuple[type[Exception], ...], seconds: float) -> Answer:
    """Call ``look`` until it answers.

    Raises
    ------
    ServiceDown
        It did not within ``seconds``; the reason is its last error.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return look()
        except errors as error:
            if time.monotonic() > end:
                raise ServiceDown(service, str(error).strip()) from error
            time.sleep(0.5)


def make_databases(databases: list[Database], seconds: float = WAIT_SECONDS) -> list[str]:
    """Make the roles and databases that are missing and set the passwords; give a line per database."""
    connection = wait("PostgreSQL", lambda: psycopg2.connect("dbname=postgres"), (psycopg2.OperationalError,), seconds)
    connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
    try:
        with connection.cursor() as cursor:
            return [_make_database(cursor, database) for database in databases]
    finally:
        connection.close()


def _make_database(cursor: Any, database: Database) -> str:
    name = sql.Identifier(database.name)
    if not _exists(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", database.name):
        cursor.execute(sql.SQL("CREATE ROLE {}").format(name))
    cursor.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD %s").format(name), [database.password])
    if _exists(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", database.name):
        return f"database {database.name}: there"
    cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    return f"database {database.name}: made"


def _exists(cursor: Any, query: str, name: str) -> bool:
    cursor.execute(query, [name])
    return cursor.fetchone() is not None


def make_buckets(names: list[str], seconds: float = WAIT_SECONDS) -> list[str]:
    """Make the buckets that are missing and write, read and delete one object in each; give a line per bucket.

    Raises
    ------
    ServiceDown
        The store does not answer, or does not keep what it was given.
    """
    config = Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=20, retries={"max_attempts": 1})
    client = boto3.client("s3", config=config)
    errors = (BotoCoreError, ClientError)
    return [wait("object store", lambda name=name: _make_bucket(client, name), errors, seconds) for name in names]  # type: ignore[misc]


def _make_bucket(client: Any, bucket: str) -> str:
    made = "there"
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        client.create_bucket(Bucket=bucket)
        made = "made"
    _probe(client, bucket)
    return f"bucket {bucket}: {made}, write-read-delete ok"


def _probe(client: Any, bucket: str) -> None:
    key, content = f"probe/{uuid.uuid4().hex}", os.urandom(64)
    client.put_object(Bucket=bucket, Key=key, Body=content)
    try:
        if client.get_object(Bucket=bucket, Key=key)["Body"].read() != content:
            raise ServiceDown("object store", f"bucket {bucket} gave back other bytes than were written")
    finally:
        client.delete_object(Bucket=bucket, Key=key)


def prepare(environ: Mapping[str, str]) -> None:
    """Do all of it, in an order in which the first wrong thing is named before anything is made."""
    refuse_examples(environ)
    databases = [Database(name, environ[password]) for name, password in zip(ROLES, PASSWORDS, strict=True)]
    for line in make_databases(databases):
        print(line)
    Store(load_settings(environ).database_url).migrate()
    print("tables of the control room: up to date")
    for line in make_buckets(environ["PREPARE_BUCKETS"].split()):
        print(line)


def main() -> int:
    """Run :func:`prepare`; a problem is one sentence and exit code 1."""
    try:
        prepare(os.environ)
    except ControlRoomError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
