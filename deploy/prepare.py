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
from functools import partial
from typing import Any, TypeVar

import boto3
import psycopg2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.make_env import PLACEHOLDER
from deploy.postgres import make_database, make_role
from deploy.sealing import seal
from ml.errors import ControlRoomError, ServiceDown, SettingsError
from ml.settings import load_settings
from ml.store import Store

WAIT_SECONDS = 120.0
APPLICATION = "APP_DB_PASSWORD"
PASSWORDS = {"control_room": APPLICATION, "mlflow": "MLFLOW_DB_PASSWORD", "airflow": "AIRFLOW_DB_PASSWORD"}
SECRETS = (
    *PASSWORDS.values(),
    "PGPASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
)
Answer = TypeVar("Answer")


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


def make_databases(passwords: Mapping[str, str], seconds: float = WAIT_SECONDS) -> list[str]:
    """Make the role and database of each name unless they are there, and set the passwords; give a line for each."""
    connection = wait("PostgreSQL", lambda: psycopg2.connect("dbname=postgres"), (psycopg2.OperationalError,), seconds)
    connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
    try:
        for role, password in passwords.items():
            make_role(connection, role, password)
            make_database(connection, role, role)
    finally:
        connection.close()
    return [f"database {name}: there, with its role" for name in passwords]


def seal_audit(application: str) -> str:
    """The application may add to its audit and read it, nothing else."""
    connection = psycopg2.connect(f"dbname={application}")
    try:
        with connection:
            seal(connection, application, application)
    finally:
        connection.close()
    return f"audit of {application}: can only be added to"


def make_buckets(names: list[str], seconds: float = WAIT_SECONDS) -> list[str]:
    """Make the buckets that are missing and write, read and delete one object in each; give a line per bucket.

    Raises
    ------
    ServiceDown
        The store does not answer, or does not keep what it was given.
    """
    config = Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=20, retries={"max_attempts": 1})
    client = boto3.session.Session().client("s3", config=config)  # not boto3's own session: it remembers old keys
    errors = (BotoCoreError, ClientError)
    return [wait("object store", partial(_make_bucket, client, name), errors, seconds) for name in names]


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
    for line in make_databases({role: environ[name] for role, name in PASSWORDS.items()}):
        print(line)
    print(seal_audit(next(role for role, name in PASSWORDS.items() if name == APPLICATION)))
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
