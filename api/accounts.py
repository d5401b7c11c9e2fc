"""Accounts from the command line: the first administrator, and the way back in.

``python -m api.accounts create-admin ana`` asks for the password without showing it, or reads it from standard input
with ``--password-stdin``. It works on the database itself, so that it needs neither the API nor an account.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from ml.accounts import Accounts
from ml.errors import ControlRoomError, InputError, SettingsError
from ml.settings import Settings, load_settings, variable
from ml.store import Store

BY = "command line"
COMMANDS = {
    "create-admin": "make an account with the role admin",
    "reset": "give an account a new password; its sessions end",
    "disable": "let an account sign in no more; its sessions end",
    "enable": "let it sign in again",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 for done, 1 for a problem, which is said in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m api.accounts", description=__doc__)
    parser.add_argument("command", choices=COMMANDS, help="; ".join(f"{n}: {text}" for n, text in COMMANDS.items()))
    parser.add_argument("name", help="of the account, as ana or ana@shop.example")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    asked = parser.parse_args(arguments)
    try:
        store = Store(database_of(load_settings()))
        try:
            store.migrate()
            print(_done(Accounts(store), asked))
        finally:
            store.close()
    except ControlRoomError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 1
    return 0


def database_of(settings: Settings) -> str:
    """Where the accounts are; in local mode that of the embedded server, which must be running.

    Raises
    ------
    SettingsError
        No database is named, and the product has never been started here.
    """
    if settings.database_url:
        return settings.database_url
    if not (settings.data_dir / "secrets.json").exists():
        raise SettingsError(
            f"{variable('database_url')} is not set and nothing was ever started in {settings.data_dir}: "
            "start the product first (make up).",
            key="database_url",
        )
    from deploy.databases import open_databases
    from deploy.keys import load_keys

    data_dir = settings.data_dir.resolve()
    return open_databases(settings.model_copy(update={"data_dir": data_dir}), load_keys(data_dir)).url("app")


def _done(people: Accounts, asked: argparse.Namespace) -> str:
    if asked.command == "create-admin":
        made = people.create(asked.name, "admin", BY, _password(asked.password_stdin))
        return f"{made.account.name} may sign in as an administrator."
    account = people.find(asked.name)
    if asked.command == "reset":
        people.reset_password(account.account_id, BY, _password(asked.password_stdin))
        return f"{account.name} has a new password."
    people.change(account.account_id, BY, disabled=asked.command == "disable")
    return f"{account.name} is {asked.command}d."


def _password(from_stdin: bool) -> str:
    """Raises InputError when it is typed in two ways."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    typed = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != typed:
        raise InputError("These are two different passwords.", field="password")
    return typed


if __name__ == "__main__":
    sys.exit(main())
