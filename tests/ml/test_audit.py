"""The command that looks whether the audit is as it was written."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ml.audit import main
from ml.settings import variable

VERSIONS = ("1", "2", "3", "4")


@pytest.fixture
def kept(store, database_url, monkeypatch):
    """Four promotions, each of the one before; its hashes."""
    monkeypatch.setenv(variable("database_url"), database_url)
    before = None
    for version in VERSIONS:
        store.promote(version, expected_previous=before, actor="me", reason="better")
        before = version
    with store.begin() as connection:
        return connection.scalars(sa.text("SELECT hash FROM promotions ORDER BY promotion_id")).all()


def tampered(store, statement):
    """As whoever owns the table may, who switches its trigger off."""
    with store.begin() as connection:
        connection.execute(sa.text("ALTER TABLE promotions DISABLE TRIGGER promotions_final"))
        connection.execute(sa.text(statement))
        connection.execute(sa.text("ALTER TABLE promotions ENABLE TRIGGER promotions_final"))


def test_a_whole_audit_and_a_hash_that_was_noted(kept, capsys):
    assert main([]) == 0
    assert kept[-1] in capsys.readouterr().out
    assert main(["--head", kept[1]]) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotions SET actor = 'somebody else' WHERE version = '2'",
        "UPDATE promotions SET at = at - interval '1 day' WHERE version = '4'",
        "UPDATE promotions SET hash = md5('x') WHERE version = '3'",
        "DELETE FROM promotions WHERE version = '1'",
        "DELETE FROM promotions WHERE version IN ('2', '3')",
    ],
)
def test_a_row_that_was_changed_or_taken_out_is_found(store, kept, capsys, statement):
    tampered(store, statement)
    assert main([]) == 1
    assert "Row" in capsys.readouterr().err


@pytest.mark.parametrize("statement", ["DELETE FROM promotions WHERE version = '4'", "DELETE FROM promotions"])
def test_what_is_missing_at_the_end_is_found_by_a_hash_that_was_noted(store, kept, capsys, statement):
    tampered(store, statement)
    assert main([]) == 0
    assert main(["--head", kept[-1]]) == 1
    assert kept[-1] in capsys.readouterr().err


def test_without_a_database_there_is_nothing_to_look_at(monkeypatch, capsys):
    monkeypatch.delenv(variable("database_url"), raising=False)
    assert main([]) == 1
    assert variable("database_url") in capsys.readouterr().err
