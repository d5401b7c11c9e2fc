"""The API as it is deployed: ``python -m api [--host 127.0.0.1] [--port 8800]``."""

from __future__ import annotations

import argparse
import gc

import uvicorn

from api.deadlines import CONNECTIONS, DeadlineProtocol
from ml import logs
from ml.settings import load_settings

COLLECTED = (100_000, 20, 20)  # objects made, less those gone, before the youngest, the middle and all are looked at


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8800)
    asked = parser.parse_args()
    logs.configure(load_settings().log_format)
    # A large answer is thousands of objects that are in no cycle: they are not looked through every 700 of them.
    gc.set_threshold(*COLLECTED)
    uvicorn.run(
        "api.main:create_app",
        factory=True,
        host=asked.host,
        port=asked.port,
        http=DeadlineProtocol,
        limit_concurrency=CONNECTIONS,
        log_config=None,  # its lines go where ours go
        access_log=False,  # the guard writes them: with who asked, and without what was asked for
    )


if __name__ == "__main__":
    main()
