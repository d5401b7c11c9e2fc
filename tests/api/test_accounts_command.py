"""The command that makes the first administrator."""

from __future__ import annotations

import io

import pytest

from api import accounts
from deploy.keys import load_keys
from ml.accounts import Accounts
from ml.errors import SettingsError, SignInFailed
from ml.settings import Settings, variable

PASSWORD = "correct horse battery"


@pytest.fixture
def run(database_url, monkeypatch, capsys):
    monkeypatch.setenv(variable("database_url"), database_url)

    def command(*words, password=PASSWORD):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        code = accounts.main([*words, "--password-stdin"])
        said = capsys.readouterr()
        assert password not in said.out + said.err
        return code, (said.out + said.err).strip()

    return command


def test_from_nothing_to_an_administrator_and_back(run, database_url, store):
    assert run("create-admin", "ana") == (0, "ana may sign in as an administrator.")
    people = Accounts(store)
    assert people.sign_in("ana", PASSWORD, "", 1).account.role == "admin"
    assert run("reset", "ANA", password="another long one") == (0, "ana has a new password.")
    with pytest.raises(SignInFailed):
        people.sign_in("ana", PASSWORD, "", 1)
    assert people.sign_in("ana", "another long one", "", 1)
    code, said = run("disable", "ana")
    assert (code, "last administrator" in said) == (1, True)
    run("create-admin", "ben")
    assert run("disable", "ana") == (0, "ana is disabled.")
    assert run("enable", "ana") == (0, "ana is enabled.")


@pytest.mark.parametrize(("name", "password"), [("ana", "short"), ("two words", PASSWORD), ("", PASSWORD)])
def test_what_cannot_be_is_said_in_one_sentence(run, name, password):
    code, said = run("create-admin", name, password=password)
    assert code == 1
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_a_name_is_made_once(run):
    run("create-admin", "ana")
    assert run("create-admin", "Ana") == (
        1,
        "The request conflicts with the present state: There is an account of this name.",
    )
    assert run("reset", "nobody")[0] == 1


def test_typed_twice(run, store, monkeypatch, capsys):
    run("create-admin", "root")
    typed = iter([PASSWORD, PASSWORD, PASSWORD, "something else 1"])
    monkeypatch.setattr(accounts.getpass, "getpass", lambda prompt: next(typed))
    assert accounts.main(["create-admin", "carla"]) == 0
    assert Accounts(store).sign_in("carla", PASSWORD, "", 1)
    assert accounts.main(["reset", "carla"]) == 1
    assert "two different passwords" in capsys.readouterr().err


def test_in_local_mode_the_database_is_that_of_the_embedded_server(postgres, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="start the product first"):
        accounts.database_of(Settings(data_dir=tmp_path))
    keys = load_keys(tmp_path)
    monkeypatch.setattr("deploy.postgres.find_place", lambda data, say: postgres.place)
    url = accounts.database_of(Settings(data_dir=tmp_path, postgres_port=5999))
    assert url == f"postgresql+psycopg2://app:{keys.app}@127.0.0.1:5999/app"
