"""A world to break, of its own: its services are killed and its champion changes all the time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.world import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """PostgreSQL, MLflow and an S3 server behind proxies, with two businesses as files."""
    with tempfile.TemporaryDirectory(prefix="control-room-faults-") as folder, World(Path(folder)).open() as made:
        yield made
