"""Files on this machine's disk that take records durably, in room that was made beforehand.

A record costs one write and one ``fdatasync`` that changes neither size nor blocks of the file: no more than the disk
itself takes. It counts when its checksum is right and its number follows that of the record before; so neither what a
crash has torn counts, nor what is left of an earlier use of the same room.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from zlib import crc32

LABEL_BYTES = 4096  # before the first record
_HEAD = struct.Struct("<IIQ")  # length, checksum of number and payload, number
_ZEROS = bytes(1 << 20)


class Segment:
    """One file, locked by the process that has it. ``label``: what its records are, for whoever finds them.

    ``end`` is where the next record goes, ``taken`` up to where they have been dealt with.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self.size = os.fstat(handle).st_size
        self.label = os.pread(handle, LABEL_BYTES, 0).rstrip(b"\0")
        self.found = False  # another process has left it
        self.end = self.taken = LABEL_BYTES
        self.waiting = 0  # records between the two
        self._number = 0

    @classmethod
    def make(cls, path: Path, room: int, label: bytes) -> Segment:
        """A new one with room for so many bytes of records; raises OSError, and then there is none."""
        draft = path.with_name(f".{path.name}.new")
        handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(handle, label.ljust(LABEL_BYTES, b"\0"), 0)
            for at in range(LABEL_BYTES, LABEL_BYTES + room, len(_ZEROS)):
                _write(handle, _ZEROS[: LABEL_BYTES + room - at], at)
            os.fsync(handle)
            os.rename(draft, path)
            _sync(path.parent)
        except OSError:
            os.close(handle)
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        return cls(path, handle)

    @classmethod
    def left(cls, path: Path) -> Segment | None:
        """One that its process has left behind, with its records; None while a process has it."""
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        segment = cls(path, handle)
        segment.found = True
        records, segment.end = segment._read(segment.end, segment.size)
        segment.waiting = len(records)
        return segment

    def fits(self, length: int) -> bool:
        return self.end + _HEAD.size + length <= self.size

    def append(self, payload: bytes) -> None:
        """Durable on return. Raises OSError: then it does not count, unless the process ends before the next one."""
        number = self._number
        head = _HEAD.pack(len(payload), _checksum(number, payload), number)
        _write(self._handle, head + payload, self.end)
        os.fdatasync(self._handle)
        self.end += len(head) + len(payload)
        self._number += 1
        self.waiting += 1

    def read(self, start: int, end: int) -> tuple[list[bytes], bool]:
        """The records between two places, and whether they are all that was there."""
        records, reached = self._read(start, end)
        return records, reached == end

    def take(self, count: int, end: int) -> None:
        """So many records, up to there, have been dealt with."""
        self.taken = end
        self.waiting -= count

    def set_aside(self) -> Path:
        """Keep the file for a person to look at."""
        path = self.path.with_name(f"damaged-{self.path.name}.kept")
        os.rename(self.path, path)
        self.close()
        return path

    def rewind(self) -> None:
        """Use the room once more; for one that has nothing waiting."""
        self.end = self.taken = LABEL_BYTES

    def close(self) -> None:
        """Leave it to whoever finds it."""
        os.close(self._handle)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()

    def _read(self, start: int, end: int) -> tuple[list[bytes], int]:
        """Records from ``start`` as far as they follow each other, and where that is."""
        data = os.pread(self._handle, end - start, start)
        found: list[bytes] = []
        at, expected = 0, None
        while at + _HEAD.size <= len(data):
            length, checksum, number = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if not length or checksum != _checksum(number, payload) or expected not in (None, number):
                break
            found.append(payload)
            at, expected = at + _HEAD.size + length, number + 1
        return found, start + at


def _checksum(number: int, payload: bytes) -> int:
    return crc32(payload, crc32(number.to_bytes(8, "little")))


def _write(handle: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(handle, data, at)
        data, at = data[written:], at + written


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
