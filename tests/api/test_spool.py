"""Answers on the disk: whole or not at all, in order, and in the log exactly once."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import sqlalchemy as sa

from api import spool as spooling
from api.spool import Spool
from ml.errors import ServiceDown
from ml.records import Answer, ModelRef, Support
from ml.store import Logged, predictions

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
NUMBERS = itertools.count()


def logged(request_id: str, rows: int = 1) -> list[Logged]:
    made = NOW + dt.timedelta(microseconds=next(NUMBERS))
    return [
        Logged(
            Answer(
                date=dt.date(2026, 3, 2),
                store="S01",
                product=f"P{k}",
                prediction=1.5 + k,
                unit="units/day",
                interval={"80": (1.0, 2.0), "95": (0.5, 3.0)},
                support=Support(similar_days=3, level="thin", similar_sibling_days=0, outside=()),
                inputs={"price": 2.0, "promotion": None},
                model=ModelRef(name="sales", version="1", alias="champion", run_id="r"),
                data_version="d",
                request_id=request_id,
                created_at=made,
                warnings=("new_series",),
            ),
            "api",
        )
        for k in range(rows)
    ]


class Away:
    """A log that refuses, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def log_predictions(self, rows):
        self.asked += 1
        raise ServiceDown("database", "it is away")

    log_missing = log_predictions


def in_log(store):
    query = sa.select(predictions.c.request_id, predictions.c.product).order_by(predictions.c.prediction_id)
    with store.begin() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_what_waits_reaches_the_log_in_order_and_as_it_was(store, tmp_path):
    away = Spool(Away(), tmp_path)
    rows = [logged(f"r{k}", k + 1) for k in range(4)]
    for batch in rows:
        away.log(batch)
    assert away.waiting() == 4
    back = Spool(store, tmp_path)
    assert back.drain() == 10
    assert back.waiting() == back.drain() == 0
    assert in_log(store) == [(f"r{k}", f"P{p}") for k in range(4) for p in range(k + 1)]
    direct = Spool(store, tmp_path)
    direct.log(logged("direct"))
    ours, theirs = (next(i for i in store.history().items if i.request_id == name) for name in ("r0", "direct"))
    same = {"prediction_id", "created_at", "request_id"}
    assert ours.model_dump(exclude=same) == theirs.model_dump(exclude=same)


def test_rows_that_the_log_has_already_are_left_out(store, tmp_path):
    """The connection broke after the log had taken them, or the process ended before the file was removed."""
    rows, others = logged("twice", 3), logged("once", 2)
    store.log_predictions(rows)
    away = Spool(Away(), tmp_path)
    away.log(rows)
    away.log(others)
    assert Spool(store, tmp_path).drain() == 2
    assert [request for request, _ in in_log(store)] == ["twice"] * 3 + ["once"] * 2


def test_two_requests_under_one_id_are_two_requests(store, tmp_path):
    away = Spool(Away(), tmp_path)
    for _ in range(2):
        away.log(logged("same id"))
    assert Spool(store, tmp_path).drain() == 2
    assert len(in_log(store)) == 2


def test_a_log_that_is_away_is_not_asked_for_every_row(tmp_path, monkeypatch):
    log = Away()
    spool = Spool(log, tmp_path)
    for k in range(20):
        spool.log(logged(f"r{k}"))
    assert (log.asked, spool.waiting()) == (1, 20)
    monkeypatch.setattr(spooling, "AWAY_SECONDS", 0.0)
    spool._away_until = 0.0
    spool.log(logged("later"))
    assert log.asked == 2


def test_only_one_process_drains_at_a_time(store, tmp_path):
    Spool(Away(), tmp_path).log(logged("waits"))
    one, other = Spool(store, tmp_path), Spool(store, tmp_path)
    with one._alone() as mine:
        assert mine
        assert other.drain() == 0
    assert other.drain() == 1


def test_a_disk_that_takes_nothing_is_said_and_nothing_is_acknowledged(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(ServiceDown, match="disk takes nothing"):
        Spool(Away(), blocked).log(logged("r"))


def test_a_draft_of_a_killed_process_is_never_read(store, tmp_path):
    spool = Spool(Away(), tmp_path)
    spool.log(logged("whole"))
    (tmp_path / ".00-half.new").write_bytes(b'{"source": "api", "ans')
    assert Spool(store, tmp_path).drain() == 1


def test_every_acknowledged_row_outlives_kill_9(store, tmp_path):
    """A process acknowledges on its output what it has spooled, until it is killed."""
    code = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(os.getcwd())!r})
        from pathlib import Path
        from api.spool import Spool
        from tests.api.test_spool import Away, logged
        spool, k = Spool(Away(), Path(sys.argv[1])), 0
        while True:
            spool.log(logged(f"k{{k}}", 3))
            print(f"k{{k}}", flush=True)
            k += 1
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(25)]
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().split()
    process.wait()
    Spool(store, tmp_path).drain()
    found = [request for request, _ in in_log(store)]
    assert len(acknowledged) >= 25
    assert all(found.count(name) == 3 for name in acknowledged)
    assert len(found) in (3 * len(acknowledged), 3 * len(acknowledged) + 3)  # one more may have been on its way
