"""What the first start decides and tells. Airflow's side is scripted; `test_stack.py` runs it against the real one."""

import datetime as dt
from io import StringIO

import pytest

from deploy import first_start
from deploy.first_start import FirstStart, RunFailed
from deploy.terminal import Terminal
from ml.errors import NotFound, ServiceDown
from ml.records import ETL_DAG, RETRAIN_DAG, Health, ModelRef, Run, TaskState
from ml.settings import Settings

NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
CHAMPION = ModelRef(name="sales", version="4", alias="champion", run_id="r")


class Airflow:
    """Runs end as they are told to, one look after they were started."""

    def __init__(self, earlier=(), fails=()):
        self.known = list(earlier)
        self.fails = fails
        self.triggered = []
        self.is_paused = False

    def trigger(self, dag_id, run_id, conf):
        self.triggered.append((dag_id, conf))
        self.known.insert(0, run(dag_id, run_id, "running", conf))
        return self.known[0]

    def run(self, dag_id, run_id):
        state = "failed" if dag_id in self.fails else "success"
        ended = TaskState(
            task_id="collect", state=state, started_at=NOW, ended_at=NOW + dt.timedelta(seconds=2), try_number=1
        )
        return run(dag_id, run_id, state).model_copy(update={"tasks": (ended,)})

    def runs(self, dag_id, limit=20):
        return [one for one in self.known if one.dag_id == dag_id][:limit]

    def paused(self, dag_id):
        return self.is_paused

    def unpause(self, dag_id):
        self.is_paused = False

    def log(self, dag_id, run_id, task_id, try_number, lines):
        return f"{task_id} try {try_number}: disk full"


def run(dag_id, run_id, state, conf=None):
    return Run(dag_id=dag_id, run_id=run_id, state=state, started_at=NOW, ended_at=None, conf=conf or {})


@pytest.fixture
def start(monkeypatch):
    """Runs a first start against a scripted Airflow; the API says what `healths` say, the last for ever."""
    monkeypatch.setattr(first_start, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(first_start, "POLL_SECONDS", 0.01)

    def make(airflow, *healths, demo=True):
        said = list(healths)

        def get(url, seconds):
            data, champion = said.pop(0) if len(said) > 1 else said[0]
            return (
                Health(
                    status="ok",
                    version="1",
                    champion=champion,
                    data_version=data,
                    data_until=None,
                    parity=None,
                    parts=(),
                )
                .model_dump_json()
                .encode()
            )

        monkeypatch.setattr(first_start.probes, "get", get)
        output = StringIO()
        made = FirstStart(Settings(demo=demo), airflow, Terminal(output, colour=False))
        return made, output

    return make


def test_nothing_there_loads_the_demo_then_trains(start):
    airflow = Airflow()
    first, output = start(airflow, (None, None), ("v1", CHAMPION))
    assert first.run() == first_start.DONE
    assert airflow.triggered == [(ETL_DAG, {"source": "demo"}), (RETRAIN_DAG, {"trials": 4})]
    assert "collect      success after 2.0 s" in output.getvalue()
    assert "the API serves model version 4" in output.getvalue()


@pytest.mark.parametrize(
    ("demo", "health"), [(False, (None, None)), (True, ("v1", CHAMPION))], ids=["demo is off", "all is there"]
)
def test_nothing_to_do(start, demo, health):
    airflow = Airflow()
    first, _ = start(airflow, health, demo=demo)
    assert first.run() == first_start.NOTHING_TO_DO
    assert airflow.triggered == []


def test_a_persons_own_data_is_not_trained_on_unasked(start):
    airflow = Airflow(earlier=[run(ETL_DAG, "theirs", "success", {"upload_id": "u1"})])
    first, _ = start(airflow, ("v1", None))
    assert first.run() == first_start.NOTHING_TO_DO
    assert airflow.triggered == []


def test_a_demo_without_a_model_goes_on_with_the_training(start):
    airflow = Airflow(earlier=[run(ETL_DAG, "first-start-1", "success", {"source": "demo"})])
    first, _ = start(airflow, ("v1", None), ("v1", CHAMPION))
    assert first.run() == first_start.DONE
    assert airflow.triggered == [(RETRAIN_DAG, {"trials": 4})]


def test_a_run_that_is_active_is_joined(start):
    airflow = Airflow(earlier=[run(ETL_DAG, "first-start-1", "running", {"source": "demo"})])
    first, output = start(airflow, (None, None), ("v1", CHAMPION))
    assert first.run() == first_start.DONE
    assert airflow.triggered == [(RETRAIN_DAG, {"trials": 4})]
    assert "process_etl_sales_data runs (first-start-1)" in output.getvalue()


def test_a_paused_dag_is_unpaused(start):
    airflow = Airflow()
    airflow.is_paused = True
    first, _ = start(airflow, (None, None), ("v1", CHAMPION))
    assert first.run() == first_start.DONE
    assert not airflow.is_paused


def test_a_failure_names_the_task_and_shows_its_log(start):
    first, _ = start(Airflow(fails=[ETL_DAG]), (None, None))
    with pytest.raises(RunFailed, match="process_etl_sales_data failed in task collect") as failure:
        first.run()
    assert failure.value.log == "collect try 1: disk full"


def test_a_model_that_was_not_promoted_is_said(start):
    first, output = start(Airflow(), (None, None), ("v1", None))
    assert first.run() == first_start.FAILED
    assert "trained but not champion" in output.getvalue()


@pytest.mark.parametrize("error", [NotFound("DAG not parsed yet"), ServiceDown("airflow", "restarting")])
def test_a_passing_trouble_is_waited_out_and_a_lasting_one_is_not(start, error):
    answers = [error, error, None]

    def once(dag_id):
        answer = answers.pop(0) if answers else None
        if answer:
            raise answer
        return False

    airflow = Airflow()
    airflow.paused = once
    first, _ = start(airflow, (None, None), ("v1", CHAMPION))
    assert first.run() == first_start.DONE
    answers += [error] * 1000
    airflow.known.clear()
    with pytest.raises(type(error)):
        start(airflow, (None, None))[0].run()
