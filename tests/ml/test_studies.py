"""Searches kept in a real PostgreSQL: killed in the middle, they end as if nothing had happened."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
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
def report(text):  # a trial is running while this is told; the test may hold it there
    print(text, file=sys.stderr, flush=True)
    if sys.argv[2]:
        sys.stdin.readline()
recipe, trials = tune(
    data, Tables(data, (28,)), split, blocks=(28,), trials={TRIALS}, seed=11,
    storage=open_storage(sys.argv[1]), name="r", progress=report,
)
print(json.dumps([recipe.params, [[t.value, t.params] for t in trials]]))
"""


def search(url: str, held: str = "") -> subprocess.Popen[str]:
    """A search in a process of its own; ``held``: each trial waits for a line before it is told."""
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE} if held else {}
    return subprocess.Popen(
        [sys.executable, "-c", SEARCH, url, held], cwd=ROOT, stdout=subprocess.PIPE, text=True, **pipes
    )


def finished(url: str) -> str:
    out, _ = search(url).communicate(timeout=300)
    return out.splitlines()[-1]


def states(url: str) -> list[TrialState]:
    try:
        study = optuna.load_study(study_name="r", storage=open_storage(url))
    except KeyError:
        return []
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def trial_running(process: subprocess.Popen[str]) -> None:
    """Wait until the search has trained and judged a trial and tells of it."""
    for line in process.stderr:
        if line.startswith("trial "):
            return
    raise AssertionError(f"the search ended with {process.wait()}")


def test_a_killed_search_goes_on_at_its_trial(database_url):
    for trials in (1, 2):  # killed twice, each time within the trial after so many that were let through
        with search(database_url, "held") as process:
            for _ in range(trials):
                trial_running(process)
                process.stdin.write("go on\n")
                process.stdin.flush()
            trial_running(process)
            assert TrialState.RUNNING in states(database_url)
            process.kill()
    before = states(database_url).count(TrialState.COMPLETE)
    assert before == 3
    found = finished(database_url)
    after = states(database_url)
    assert after.count(TrialState.COMPLETE) == TRIALS
    assert after.count(TrialState.RUNNING) == 0
    assert after.count(TrialState.FAIL) == len(after) - TRIALS == 2
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
