"""Runs :mod:`deploy.first_start` as a process: the Airflow client costs 100 MB that the runner would keep for ever."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Mapping

from deploy.leader import Leader

DONE, FAILED, NOTHING_TO_DO = 0, 1, 10


async def run_first_start(env: Mapping[str, str], began: float) -> bool:
    """Run it to its end beside the supervisor; whether it loaded something. Cancelling ends it.

    ``began`` is the runner's start on the monotonic clock, so that both count the same seconds.
    """
    command = [sys.executable, "-m", "deploy.first_start", str(began)]
    leader = Leader(command, env, tag=f"first-start-{uuid.uuid4().hex}")
    try:
        while not leader.has_exited():
            await asyncio.sleep(0.1)
    finally:
        leader.end(1.0)
    return leader.returncode == DONE
