"""The one-shot of the compose stack, against a real PostgreSQL and a real S3 server."""

import re
import uuid
from pathlib import Path

import boto3
import psycopg2
import pytest

from deploy import prepare as module
from deploy.ports import free_ports
from deploy.prepare import PASSWORDS, SECRETS, make_buckets, make_databases, prepare, refuse_examples
from ml.errors import ServiceDown, SettingsError
from ml.store import HEAD, Store


@pytest.fixture
def superuser(postgres, monkeypatch):
    for name, value in {"PGHOST": "127.0.0.1", "PGPORT": postgres.port, "PGUSER": "postgres"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    return postgres


@pytest.fixture
def s3_client(s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("s3")


@pytest.fixture
def bucket(s3_client):
    """A name for a bucket, removed afterwards: each takes its share of the test server's few volumes."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    yield name
    s3_client.delete_bucket(Bucket=name)


@pytest.fixture
def role(superuser):
    """A name for a role and its database, dropped afterwards."""
    name = f"prepare_{uuid.uuid4().hex[:8]}"
    yield name
    _drop(superuser, name)


def _drop(server, name):
    connection = psycopg2.connect("dbname=postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"DROP ROLE IF EXISTS {name}")
    connection.close()


def _connect(server, role, password):
    return psycopg2.connect(host="127.0.0.1", port=server.port, user=role, password=password, dbname=role)


def _complete(**changes) -> dict[str, str]:
    good = dict.fromkeys(SECRETS, "a-secret-of-my-own") | {
        "CONTROL_ROOM_ENVIRONMENT": "server",
        "CONTROL_ROOM_SIGN_IN": "accounts",
        "CONTROL_ROOM_API_TOKEN": "key",
        "CONTROL_ROOM_AIRFLOW_PASSWORD": "word",
        "CONTROL_ROOM_DATABASE_URL": "postgresql://control_room:secret@nowhere/control_room",
    }
    return good | changes


# ---------------------------------------------------------------- secrets


def test_secrets_of_ones_own_pass():
    refuse_examples(_complete())


@pytest.mark.parametrize("name", [*SECRETS, "CONTROL_ROOM_API_TOKEN", "CONTROL_ROOM_AIRFLOW_PASSWORD"])
@pytest.mark.parametrize("value", ["", "change-me-please"])
def test_missing_and_example_secrets_are_named(name, value):
    with pytest.raises(SettingsError, match=name):
        refuse_examples(_complete(**{name: value}))


def test_nothing_is_made_with_example_secrets(monkeypatch, capsys):
    for name, value in _complete(APP_DB_PASSWORD="change-me").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "make_databases", lambda *_: pytest.fail("a database was made"))
    assert module.main() == 1
    assert "APP_DB_PASSWORD" in capsys.readouterr().err


# ---------------------------------------------------------------- PostgreSQL


def test_makes_roles_and_databases_and_renews_passwords(superuser, role):
    make_databases({role: "first"})
    _connect(superuser, role, "first").close()
    make_databases({role: "second"})
    _connect(superuser, role, "second").close()
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        _connect(superuser, role, "first")


def test_a_role_enters_only_its_own_database(superuser, role):
    other = f"{role}_other"
    try:
        make_databases({role: "one", other: "two"})
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(host="127.0.0.1", port=superuser.port, user=role, password="one", dbname=other)
        with _connect(superuser, role, "one") as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE mine (id int)")
    finally:
        _drop(superuser, other)


def test_a_server_that_is_away_is_named(monkeypatch):
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(free_ports(1)[0]))
    with pytest.raises(ServiceDown, match=r"PostgreSQL does not answer: .*Connection refused"):
        make_databases({"nobody": "x"}, seconds=0.1)


# ---------------------------------------------------------------- object store


def test_makes_buckets_once_and_leaves_no_probe(s3_client, bucket):
    assert make_buckets([bucket], seconds=30) == [f"bucket {bucket}: made, write-read-delete ok"]
    assert make_buckets([bucket], seconds=30) == [f"bucket {bucket}: there, write-read-delete ok"]
    assert "Contents" not in s3_client.list_objects_v2(Bucket=bucket)


@pytest.mark.usefixtures("s3_client")
def test_wrong_keys_are_said(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ServiceDown, match="object store does not answer"):
        make_buckets(["control-room"], seconds=0.1)


# ---------------------------------------------------------------- all of it


def test_prepares_from_nothing_and_again(superuser, s3_client, monkeypatch, capsys, role, bucket):
    monkeypatch.setattr(module, "PASSWORDS", {role: "APP_DB_PASSWORD"})
    url = f"postgresql://{role}:a-secret-of-my-own@127.0.0.1:{superuser.port}/{role}"
    environ = _complete(CONTROL_ROOM_DATABASE_URL=url, PREPARE_BUCKETS=bucket)
    prepare(environ)
    prepare(environ)
    store = Store(url)
    assert store.revision() == HEAD
    store.close()
    s3_client.head_bucket(Bucket=bucket)
    assert capsys.readouterr().out.count("write-read-delete ok") == 2


def test_urls_of_the_compose_file_use_the_same_roles_and_passwords():
    compose = (Path(module.__file__).parents[1] / "compose.yaml").read_text()
    found = re.findall(r"postgresql\+psycopg2://(\w+):\$\{(\w+)[^}]*\}@postgres:5432/(\w+)", compose)
    assert {role: password for role, password, _ in found} == PASSWORDS
    assert all(role == database for role, _, database in found)
