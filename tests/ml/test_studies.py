"""Searches kept in a real PostgreSQL: killed in the middle, they end as if nothing had happened."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from ml.errors import ServiceDown
from ml.studies import SCHEMA, forget_studies, open_storage, open_study

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 6
SEARCH = f"""
import datetime as dt, json, sys
from ml import demo
from ml.cleaning import make_panel
from ml.encoding import fit_encoding
from ml.features import Columns
from ml.splits import rolling_origins
from ml.studies import open_storage
from ml.training import Data, Tables
from ml.tuning import tune
frame = make_panel(demo.generate(dt.date(2026, 3, 1), days=240, stores=2, products=4), country="ES").frame
data = Data(frame, "D", Columns.of(frame, (), {{}}), fit_encoding(frame, ["store", "product"], []), "ES")
split = rolling_origins(frame["date"].min(), frame["date"].max(), 28, 2, "D")[0]
recipe, trials = tune(
    data, Tables(data, (28,)), split, blocks=(28,), trials={TRIALS}, seed=11,
    storage=open_storage(sys.argv[1]), name="r",
)
print(json.dumps([recipe.params, [[t.value, t.params] for t in trials]]))
"""


def search(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SEARCH, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finished(url: str) -> str:
    out, _ = search(url).communicate(timeout=300)
    return out.splitlines()[-1]


def states(url: str) -> list[TrialState]:
    try:
        study = optuna.load_study(study_name="r", storage=open_storage(url))
    except KeyError:
        return []
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_a_killed_search_goes_on_at_its_trial(database_url):
    for done in (1, 3):  # killed twice, each time within a trial
        process = search(database_url)
        deadline = time.monotonic() + 200
        while not (
            states(database_url).count(TrialState.COMPLETE) >= done and TrialState.RUNNING in states(database_url)
        ):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = states(database_url).count(TrialState.COMPLETE)
    assert before < TRIALS
    found = finished(database_url)
    after = states(database_url)
    assert after.count(TrialState.COMPLETE) == TRIALS
    assert after.count(TrialState.RUNNING) == 0
    assert after.count(TrialState.FAIL) == len(after) - TRIALS <= 2
    study = optuna.load_study(study_name="r", storage=open_storage(database_url))
    tried = [str(trial.params) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    assert len(set(tried)) == TRIALS
    assert finished(database_url) == found  # nothing is left to do
    assert found == finished("")  # and in one go, in memory, it is the same search


def test_other_data_under_the_same_name_starts_anew(database_url):
    storage = open_storage(database_url)
    study = open_study(storage, "r", "one")
    study.tell(study.ask(), 1.0)
    assert len(open_study(storage, "r", "one").trials) == 1
    assert len(open_study(storage, "r", "two").trials) == 0


def test_the_tables_lie_in_a_schema_of_their_own(database_url):
    failures: list[BaseException] = []

    def make() -> None:
        try:
            open_storage(database_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = sa.create_engine(sa.make_url(database_url).set(drivername="postgresql+psycopg2"))
    tables = sa.inspect(engine)
    assert {"studies", "trials"} <= set(tables.get_table_names(schema=SCHEMA))
    assert tables.get_table_names() == []
    engine.dispose()


def test_old_searches_are_forgotten(database_url):
    storage = open_storage(database_url)
    for name in ("old", "new"):
        study = open_study(storage, name, "x")
        study.tell(study.ask(), 1.0)
    engine = sa.create_engine(sa.make_url(database_url).set(drivername="postgresql+psycopg2"))
    with engine.begin() as connection:
        old = "SELECT study_id FROM optuna.studies WHERE study_name = 'old'"
        connection.execute(
            sa.text(f"UPDATE optuna.trials SET datetime_start = now() - interval '40 days' WHERE study_id = ({old})")
        )
    engine.dispose()
    assert forget_studies(database_url, dt.datetime.now(dt.UTC) - dt.timedelta(days=30)) == ["old"]
    assert optuna.get_all_study_names(storage) == ["new"]


def test_without_a_server_it_says_so():
    with pytest.raises(ServiceDown, match="database does not answer"):
        open_storage("postgresql://app:secret@127.0.0.1:9/app")
