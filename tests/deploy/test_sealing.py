"""The application's own role can add to the audit and read it, and nothing else, on a real server."""

from __future__ import annotations

import psycopg2
import pytest
import sqlalchemy as sa

from deploy import sealing
from ml import store as ml_store
from ml.accounts import Accounts
from ml.audit import Audit
from ml.store import Store

FORBIDDEN = (
    "UPDATE promotions SET actor = 'x'",
    "DELETE FROM promotions",
    "TRUNCATE promotions",
    "DROP TABLE audit.promotions",
    "ALTER TABLE promotions DISABLE TRIGGER promotions_final",
    "ALTER TABLE promotions OWNER TO app",
    "ALTER TABLE promotions ADD COLUMN more text",
    "DROP TRIGGER promotions_final ON promotions",
    "CREATE OR REPLACE FUNCTION audit.promotions_are_final() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN OLD; END $$",
    "DROP FUNCTION audit.promotions_are_final() CASCADE",
    "DROP SCHEMA audit CASCADE",
    "CREATE TABLE audit.shadow (x int)",
    "CREATE OR REPLACE FUNCTION audit.seal() RETURNS void LANGUAGE sql AS $$ SELECT 1 $$",
    "GRANT UPDATE ON promotions TO app; UPDATE promotions SET actor = 'x'",  # the grant alone is a warning
    "SET session_replication_role = replica",
    "UPDATE bundles SET manifest_sha256 = 'x'",
    "DELETE FROM bundles",
    "DROP TABLE audit.bundles",
    "UPDATE audit_log SET actor = 'x'",
    "DELETE FROM audit_log",
    "DROP TABLE audit.audit_log",
    "ALTER TABLE audit_log DISABLE TRIGGER audit_log_final",
    "DROP FUNCTION audit.audit_is_final() CASCADE",
)


@pytest.fixture(scope="module")
def store(postgres):
    """The database that the product's own start makes and seals, with the tables that the application makes."""
    made = Store(postgres.url("app"))
    made.migrate()
    made.promote("1", expected_previous=None, actor="ana", reason="first")
    made.record_bundle("1", "a" * 64)
    yield made
    made.close()


def test_the_application_adds_and_reads(store):
    store.promote("2", expected_previous="1", actor="ana", reason="better")
    store.record_bundle("2", "b" * 64)
    assert [row.version for row in store.promotions()] == ["2", "1"]
    assert store.bundle_sha256("2") == "b" * 64
    assert store.broken_promotion() is None
    Accounts(store).create("ana", "admin", "tests")
    assert [entry.action for entry in Audit(store).page().items] == [
        "account.created",
        "model.promote",
        "model.promote",
    ]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_application_changes_nothing(store, statement):
    before = store.promotions()
    with pytest.raises(sa.exc.DBAPIError) as refused, store.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert refused.value.orig.pgcode in ("42501", "42P17"), refused.value  # insufficient_privilege
    assert store.promotions() == before
    assert store.bundle_sha256("1") == "a" * 64


def test_the_application_cannot_drop_its_database(store, postgres):
    elsewhere = postgres.url("app").replace("postgresql+psycopg2", "postgresql").rpartition("/")[0] + "/postgres"
    connection = psycopg2.connect(elsewhere)
    connection.autocommit = True
    try:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            connection.cursor().execute("DROP DATABASE app WITH (FORCE)")
    finally:
        connection.close()


def test_tables_from_before_are_sealed_at_the_next_start(postgres, database_url):
    name = database_url.rpartition("/")[2]
    old = Store(database_url)
    old.migrate()
    old.promote("1", expected_previous=None, actor="ana", reason="first")
    superuser = psycopg2.connect(
        host="127.0.0.1", port=postgres.port, user="postgres", password=postgres.password, dbname=name
    )
    try:
        for _ in range(2):
            with superuser:
                sealing.seal(superuser, name, "app")
    finally:
        superuser.close()
    old.close()
    again = Store(database_url)
    again.migrate()
    assert [row.version for row in again.promotions()] == ["1"]
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"), again.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM promotions"))
    again.close()


def test_both_name_the_same_schema():
    assert sealing.AUDIT_SCHEMA == ml_store.AUDIT_SCHEMA
