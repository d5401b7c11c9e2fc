"""The environment of the peers: statsforecast, mlforecast and LightGBM cannot live with the product's pins.

``python -m bench.peers`` makes it (``.venv-peers``, ignored by git) from ``bench/peers.lock``; :mod:`bench.accuracy`
does so by itself when a peer is asked for. Nothing else of the project needs it or installs it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "bench" / "peers.lock"
SCRIPT = ROOT / "bench" / "peer_models.py"
HOME = ROOT / ".venv-peers"
NAMES = ("auto_ets", "mlforecast_lightgbm")


class PeersMissing(Exception):
    """The peers cannot be run here; the message says why."""


def interpreter(home: Path = HOME, install: bool = True) -> Path:
    """The peers' Python, made from the lock where it is not there yet.

    Raises
    ------
    PeersMissing
        It is not there and may not, or cannot, be made.
    """
    python, mark = home / "bin" / "python", home / "lock.sha256"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if python.is_file() and mark.is_file() and mark.read_text() == wanted:
        return python
    if not install:
        raise PeersMissing(f"{home} does not hold the packages of bench/peers.lock; `python -m bench.peers` makes it")
    _make(home, python)
    mark.write_text(wanted)
    return python


def _make(home: Path, python: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    if not uv.is_file():
        raise PeersMissing(f"{uv} is not there: `make env` makes the project's environment with it")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"VIRTUAL_ENV": str(home)}
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--require-hashes", "-r", LOCK]
    for command in ([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home], install):
        done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise PeersMissing(f"the peers' environment cannot be made:\n{done.stderr.strip()[-2000:]}")
    if not python.is_file():
        raise PeersMissing(f"{python} was not made")


def main() -> None:
    try:
        print(interpreter())
    except PeersMissing as reason:
        raise SystemExit(str(reason)) from reason


if __name__ == "__main__":
    main()
