"""Runs :mod:`deploy.first_start` as a process: the Airflow client costs 100 MB that the runner would keep for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Mapping

from deploy import processes

DONE, FAILED, NOTHING_TO_DO = 0, 1, 10


async def run_first_start(env: Mapping[str, str], began: float) -> bool:
    """Run it to its end beside the supervisor; whether it loaded something. Cancelling ends it.

    ``began`` is the runner's start on the monotonic clock, so that both count the same seconds.
    """
    tag = f"first-start-{uuid.uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.first_start", str(began)],
        env={**env, processes.TAG: tag},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            await asyncio.sleep(0.1)
        return process.returncode == DONE
    finally:
        if process.returncode is None:
            processes.Family(process.pid, tag, sure=True).end(1.0)
            process.wait()
