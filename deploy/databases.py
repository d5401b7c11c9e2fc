"""The databases of the local mode: the embedded server, or a server that the person names."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psycopg2

from deploy.keys import Keys
from deploy.postgres import Postgres, make_database
from deploy.postgres_files import Say
from deploy.supervisor import Spec
from ml.errors import SettingsError
from ml.settings import Settings

PARTS = ("app", "airflow", "mlflow")


class Databases(Protocol):
    """Where the three databases are, and what must run for them."""

    def url(self, part: str) -> str:
        """SQLAlchemy URL of the database of ``part``."""

    def specs(self) -> list[Spec]:
        """Children to run for it."""


class EmbeddedDatabases:
    """One PostgreSQL child with a database and a role for each part."""

    def __init__(self, data: Path, port: int, keys: Keys, say: Say) -> None:
        passwords = {"app": keys.app, "airflow": keys.airflow, "mlflow": keys.mlflow}
        self.server = Postgres.at(data, port, keys.postgres, passwords, say)

    def url(self, part: str) -> str:
        return self.server.url(part)

    def specs(self) -> list[Spec]:
        return [self.server.spec()]


class GivenDatabases:
    """A server of the person's own: their database for the application, two more beside it."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    def url(self, part: str) -> str:
        return self._url._replace(path=f"/{self._name(part)}").geturl()

    def _name(self, part: str) -> str:
        name = self._url.path.lstrip("/")
        return name if part == "app" else f"{name}_{part}"

    def specs(self) -> list[Spec]:
        self._make()
        return []

    def _make(self) -> None:
        """Make the databases of Airflow and MLflow unless they are there."""
        address = self._url._replace(scheme="postgresql").geturl()
        owner = self._url.username or "postgres"
        try:
            connection = psycopg2.connect(address, connect_timeout=10)
            connection.autocommit = True
            try:
                for part in PARTS[1:]:
                    make_database(connection, self._name(part), owner)
            finally:
                connection.close()
        except psycopg2.Error as error:
            wanted = " and ".join(self._name(part) for part in PARTS)
            raise SettingsError(
                f"CONTROL_ROOM_DATABASE_URL: {str(error).strip()}. The databases {wanted} must exist, or the role "
                f"{owner} must be allowed to make them.",
                key="database_url",
            ) from error


def open_databases(settings: Settings, keys: Keys, say: Say = print) -> Databases:
    """The databases that the settings ask for.

    Raises
    ------
    SettingsError
        No PostgreSQL can be found or reached, or the URL is of another database.
    """
    if not settings.database_url:
        return EmbeddedDatabases(settings.data_dir, settings.postgres_port, keys, say)
    if not settings.database_url.startswith("postgresql"):
        raise SettingsError(
            "CONTROL_ROOM_DATABASE_URL must begin with postgresql:// (SQLite stops under concurrent runs).",
            key="database_url",
        )
    return GivenDatabases(settings.database_url)
