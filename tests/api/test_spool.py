"""Answers on the disk: whole or not at all, in order, and in the log exactly once."""

from __future__ import annotations

import datetime as dt
import errno
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import orjson
import psycopg2
import pytest
import sqlalchemy as sa

from api import journal
from api import spool as spooling
from api.spool import Spool
from ml.copying import WRITTEN, Logged
from ml.errors import ServiceDown
from ml.records import Answer, ModelRef, Support
from ml.store import predictions

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

    def log_rows(self, batches, layout=None):
        self.asked += 1
        raise ServiceDown("database", "it is away")

    log_missing = log_rows


def left(folder, *batches):
    """What a process has acknowledged that ended while the log was away."""
    spool = Spool(Away(), folder)
    for batch in batches:
        spool.log(batch)
    spool.stop()


def drained(store, folder):
    spool = Spool(store, folder)
    count = spool.drain()
    spool.stop()
    return count


def in_log(store):
    query = sa.select(predictions.c.request_id, predictions.c.product).order_by(predictions.c.prediction_id)
    with store.begin() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_what_waits_reaches_the_log_in_order_and_as_it_was(store, tmp_path):
    rows = [logged(f"r{k}", k + 1) for k in range(4)]
    left(tmp_path, *rows)
    back = Spool(store, tmp_path)
    assert back.drain() == 10
    assert back.waiting() == back.drain() == 0
    assert in_log(store) == [(f"r{k}", f"P{p}") for k in range(4) for p in range(k + 1)]
    back.log(logged("now"))
    assert (back.waiting(), back.drain()) == (1, 1)
    store.log_predictions(logged("direct"))
    items = {item.request_id: item for item in store.history().items if item.product == "P0"}
    same = {"prediction_id", "created_at", "request_id"}
    assert (
        items["r0"].model_dump(exclude=same)
        == items["now"].model_dump(exclude=same)
        == items["direct"].model_dump(exclude=same)
    )
    back.stop()


def test_rows_that_the_log_has_already_are_left_out(store, tmp_path):
    """The connection broke after the log had taken them, or the process ended before it could note it."""
    rows, others = logged("twice", 3), logged("once", 2)
    store.log_predictions(rows)
    left(tmp_path, rows, others)
    assert drained(store, tmp_path) == 2
    assert [request for request, _ in in_log(store)] == ["twice"] * 3 + ["once"] * 2


def test_a_connection_that_broke_after_the_log_took_the_rows_leaves_them_there_once(store, tmp_path, monkeypatch):
    spool, taken = Spool(store, tmp_path), store.log_rows

    def torn(batches, layout):
        taken(batches, layout)
        raise ServiceDown("database", "the connection broke")

    monkeypatch.setattr(store, "log_rows", torn)
    for name in ("a", "b"):
        spool.log(logged(name, 2))
    with pytest.raises(ServiceDown):
        spool.drain()
    assert (spool.waiting(), spool.behind) == (2, True)
    spool.log(logged("c"))
    assert spool.drain() == 1
    assert [request for request, _ in in_log(store)] == ["a", "a", "b", "b", "c"]
    assert (spool.waiting(), spool.behind) == (0, False)
    spool.stop()


def test_two_requests_under_one_id_are_two_requests(store, tmp_path):
    left(tmp_path, logged("same id"), logged("same id"))
    assert drained(store, tmp_path) == 2
    assert len(in_log(store)) == 2


def test_whoever_reads_the_log_finds_what_was_answered_before(store, tmp_path):
    spool = Spool(store, tmp_path)  # not started: nothing drains it but the reader
    store.before_reading = spool.settle
    spool.log(logged("just now"))
    (item,) = store.history().items
    assert item.request_id == "just now"
    spool.stop()


def test_a_log_that_is_away_is_not_asked_by_every_reader(tmp_path):
    away = Away()
    spool = Spool(away, tmp_path)
    spool.log(logged("r"))
    for _ in range(20):
        spool.settle()
    assert (away.asked, spool.waiting(), spool.behind) == (1, 1, True)
    spool.stop()


def test_processes_on_one_folder_do_not_take_each_others_rows(store, tmp_path):
    one, other = Spool(store, tmp_path), Spool(store, tmp_path)
    one.log(logged("one"))
    other.log(logged("other"))
    assert (one.drain(), other.drain()) == (1, 1)
    one.log(logged("left by one"))
    one.store = Away()
    one.stop()
    other._look_at = 0.0
    assert other.drain() == 1
    assert [request for request, _ in in_log(store)] == ["one", "other", "left by one"]
    other.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_lets_the_log_take_the_rows_at_once(store, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    Spool(store, blocked).log(logged("direct", 2))
    assert [request for request, _ in in_log(store)] == ["direct"] * 2
    with pytest.raises(ServiceDown, match="disk takes nothing"):
        Spool(Away(), blocked).log(logged("r"))


def test_a_disk_that_fails_in_the_middle_loses_and_doubles_nothing(store, tmp_path, monkeypatch):
    spool = Spool(store, tmp_path)
    spool.log(logged("before"))

    def broken(handle):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fdatasync", broken)
        spool.log(logged("meanwhile"))
    spool.log(logged("after"))
    spool.store = Away()  # it ends here, and the next process finds both files
    spool.stop()
    drained(store, tmp_path)
    assert sorted(request for request, _ in in_log(store)) == ["after", "before", "meanwhile"]


def test_more_than_may_wait_goes_into_the_log_or_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(spooling, "SEGMENT_BYTES", 1 << 14)
    monkeypatch.setattr(spooling, "MOST_BYTES", 3 << 14)
    spool, kept = Spool(Away(), tmp_path), 40
    for k in range(kept):
        spool.log(logged(f"r{k}"))
    assert spool.waiting() == kept
    with pytest.raises(ServiceDown, match="wait already"):
        spool.log(logged("large", 200))
    assert spool.waiting_bytes() <= 3 << 14
    spool.store = store
    spool.log(logged("direct", 200))
    assert len(in_log(store)) == 200
    spool.drain()
    assert len(in_log(store)) == kept + 200
    spool.log(logged("room again"))
    assert spool.waiting() == 1
    spool.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_record_larger_than_a_segment_gets_one_of_its_own(store, tmp_path, monkeypatch):
    monkeypatch.setattr(spooling, "SEGMENT_BYTES", 1 << 14)
    spool = Spool(store, tmp_path)
    spool.log(logged("small"))
    spool.log(logged("large", 300))
    spool.log(logged("small again"))
    assert spool.drain() == 302
    spool.stop()


def test_what_the_log_refuses_for_good_is_set_aside_and_keeps_no_other(store, tmp_path):
    spool = Spool(store, tmp_path)
    bad = logged("bad")[0]
    bad = Logged(bad.answer.model_copy(update={"unit": "units\x00"}), "api")
    for batch in (logged("one"), [bad], logged("two")):
        spool.log(batch)
    assert spool.drain() == 2
    assert [request for request, _ in in_log(store)] == ["one", "two"]
    (aside,) = tmp_path.glob("refused-*")
    assert b"bad" in aside.read_bytes()
    with store._cursor() as cursor, aside.open("rb") as file, pytest.raises(psycopg2.DataError, match="0x00"):
        cursor.copy_expert(WRITTEN.statement, file)  # it is a whole COPY: nothing else is wrong with it
    assert spool.waiting() == 0
    spool.stop()


def test_a_file_that_is_damaged_is_kept_and_what_can_be_read_is_in_the_log(store, tmp_path, caplog):
    spool = Spool(store, tmp_path)
    spool.log(logged("whole"))
    place = spool._open.end + 20
    spool.log(logged("damaged"))
    with spool._open.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff\xff")
    spool.drain()
    spool.log(logged("after"))
    spool.drain()
    assert [request for request, _ in in_log(store)] == ["whole", "after"]
    assert spool.waiting() == 0
    assert len(list(tmp_path.glob("damaged-*"))) == 1
    assert "damaged" in caplog.text
    spool.stop()


def test_a_thread_puts_into_the_log_what_is_answered(store, tmp_path):
    spool = Spool(store, tmp_path)
    spool.start()
    for k in range(50):
        spool.log(logged(f"r{k}"))
    end = time.monotonic() + 20
    while spool.waiting():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert [request for request, _ in in_log(store)] == [f"r{k}" for k in range(50)]
    spool.stop()
    assert list(tmp_path.iterdir()) == []


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
    drained(store, tmp_path)
    found = [request for request, _ in in_log(store)]
    assert len(acknowledged) >= 25
    assert all(found.count(name) == 3 for name in acknowledged)
    assert len(found) in (3 * len(acknowledged), 3 * len(acknowledged) + 3)  # one more may have been on its way


def test_what_an_earlier_version_kept_goes_into_the_log_once(store, tmp_path):
    for number, rows in enumerate((logged("a", 2), logged("b"))):
        lines = (orjson.dumps({"source": row.source, "answer": row.answer.model_dump()}) for row in rows)
        (tmp_path / f"{number:020d}-x.jsonl").write_bytes(b"\n".join(lines))
    again = (tmp_path / f"{0:020d}-x.jsonl").read_bytes()
    with pytest.raises(ServiceDown):
        drained(Away(), tmp_path)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    drained(store, tmp_path)
    (tmp_path / f"{0:020d}-x.jsonl").write_bytes(again)  # as if it had been killed before it removed the file
    drained(store, tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))
    assert [item.request_id for item in store.history().items] == ["b", "a", "a"]


def test_records_of_the_version_that_wrote_text_go_into_the_log(store, tmp_path):
    columns = [c.name for c in predictions.columns if c.name not in ("prediction_id", "batch")]
    segment = journal.Segment.make(tmp_path / "1-x.journal", 1 << 14, orjson.dumps(columns))
    for name, product in (("one", "P1"), ("two", "tab\\tand \\\\")):
        line = [NOW.isoformat(), "2026-03-02", "S01", product, '{"price":2.0}', "1.5", "1.0", "2.0", "0.5", "3.0"]
        line += ["units/day", "1", r"\N", "r", "d", "api", name, "3", '{"new_series"}']
        record = "\t".join(line) + "\n"
        segment.append(orjson.dumps([[name, NOW.isoformat()]]) + b"\n" + record.encode() * 2)
    segment.close()
    assert drained(store, tmp_path) == 4
    assert in_log(store) == [("one", "P1")] * 2 + [("two", "tab\tand \\")] * 2
    item = store.history().items[0]
    assert (item.prediction, item.support, item.interval["80"]) == (1.5, 3, (1.0, 2.0))
