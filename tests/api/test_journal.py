"""Records on the disk: whole and in order, whatever stands behind them."""

from __future__ import annotations

import errno
import os

import pytest

from api import journal
from api.journal import LABEL_BYTES, Segment

ROOM = 1 << 16


@pytest.fixture
def segment(tmp_path):
    made = Segment.make(tmp_path / "one.journal", ROOM, b"what it is")
    yield made
    made.close()


def left_of(segment, **changed):
    """The file as another process would find it, with bytes changed at some places."""
    data = bytearray(segment.path.read_bytes())
    for place, piece in changed.values():
        data[place : place + len(piece)] = piece
    copy = segment.path.with_name("copy.journal")
    copy.write_bytes(data)
    found = Segment.left(copy)
    records, whole = found.read(found.taken, found.end)
    assert whole
    found.close()
    return records


def test_what_was_appended_is_found_in_order(segment):
    records = [b"one", b"two" * 500, b"three"]
    for record in records:
        assert segment.fits(len(record))
        segment.append(record)
    assert segment.waiting == 3
    assert segment.read(segment.taken, segment.end) == (records, True)
    assert left_of(segment) == records
    assert segment.label == b"what it is"


def test_a_file_that_a_process_has_is_not_found(segment):
    segment.append(b"mine")
    assert Segment.left(segment.path) is None
    assert Segment.left(segment.path.with_name("never.journal")) is None


@pytest.mark.parametrize("torn", [b"\x00", b"\xff\xff\xff\xff", b"\x05\x00\x00\x00"])
@pytest.mark.parametrize("place", [0, 4, 8, 16, 20])
def test_a_torn_record_ends_the_file_and_costs_none_before_it(segment, torn, place):
    segment.append(b"whole one")
    segment.append(b"whole two")
    at = segment.end
    segment.append(b"\x01torn by a crash")
    kept = left_of(segment, torn=(at + place, torn))
    assert kept == [b"whole one", b"whole two"]


def test_every_length_of_a_tail_leaves_the_records_before_it(segment):
    segment.append(b"whole")
    at = segment.end
    segment.append(b"x" * 40)
    for length in range(segment.end - at):
        assert left_of(segment, gone=(at + length, bytes(segment.end - at - length))) == [b"whole"]


def test_room_is_used_again_and_what_is_left_in_it_is_not_read(segment):
    for k in range(20):
        segment.append(b"old %d" % k)  # all of one length: new records end where old ones begin
    segment.take(20, segment.end)
    segment.rewind()
    for k in range(3):
        segment.append(b"new %d" % k)
    assert left_of(segment) == [b"new 0", b"new 1", b"new 2"]


def test_a_sync_that_fails_is_raised_and_the_next_record_takes_the_place(segment, monkeypatch):
    segment.append(b"before")

    def broken(handle):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fdatasync", broken)
        with pytest.raises(OSError, match="Input/output"):
            segment.append(b"never acknowledged")
    segment.append(b"after")
    assert left_of(segment) == [b"before", b"after"]
    assert segment.waiting == 2


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(handle, data, at):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal.os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        Segment.make(tmp_path / "one.journal", ROOM, b"")
    assert list(tmp_path.iterdir()) == []


def test_records_fill_the_room_that_was_made_and_no_more(segment):
    while segment.fits(1000):
        segment.append(b"r" * 1000)
    assert segment.end <= segment.size == segment.path.stat().st_size == LABEL_BYTES + ROOM
    assert len(left_of(segment)) == segment.waiting == ROOM // 1016
