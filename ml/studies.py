"""Where searches for parameters are kept: one Optuna study per run, in a schema of its own of the application's
database, so that a task that was killed goes on at the trial it had reached."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from ml.errors import ServiceDown

SCHEMA = "optuna"
LOCK = 7_310_452  # of PostgreSQL: two tasks must not make the tables at once
FOR = "for"  # attribute of a study: what it searches; another search under the same name starts anew


def open_storage(database_url: str) -> BaseStorage:
    """The storage in PostgreSQL, its schema and tables made if need be; in memory without a database.

    Raises
    ------
    ServiceDown
        PostgreSQL does not answer.
    """
    if not database_url:
        return InMemoryStorage()
    url = sa.make_url(database_url).set(drivername="postgresql+psycopg2")
    with _answering(), _locked(url):
        options = {"options": f"-csearch_path={SCHEMA}", "connect_timeout": 5, "application_name": "optuna"}
        how = {"connect_args": options, "pool_size": 1, "max_overflow": 2, "pool_pre_ping": True}
        return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=how)


@contextmanager
def _locked(url: sa.URL) -> Iterator[None]:
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 5})
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        # A connection of its own: the tables are made over another one, which must see the schema.
        with engine.begin() as other:
            other.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        yield


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        raise ServiceDown("database", str(error.orig).strip()) from error


def open_study(storage: BaseStorage, name: str, purpose: str) -> optuna.Study:
    """The study of a run, as far as it has come. Trials that nobody finishes any more are marked as failed.

    ``purpose``: what is searched (data, metric, seed …); a study of the same name with another one is thrown away.
    """
    with _answering():
        study = _made(storage, name)
        if study.user_attrs.get(FOR, purpose) != purpose:
            optuna.delete_study(study_name=name, storage=storage)
            study = _made(storage, name)
        study.set_user_attr(FOR, purpose)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return study


def _made(storage: BaseStorage, name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)


def forget_studies(database_url: str, before: dt.datetime) -> list[str]:
    """Delete the studies that began before ``before`` (UTC); returns their names."""
    storage = open_storage(database_url)
    with _answering():
        # Optuna keeps local times without a zone.
        limit = before.astimezone().replace(tzinfo=None)
        found = optuna.get_all_study_summaries(storage=storage)
        gone = [item.study_name for item in found if item.datetime_start and item.datetime_start < limit]
        for name in gone:
            optuna.delete_study(study_name=name, storage=storage)
    return gone
