"""A bundle is loaded in a process of its own first: what a damaged file does to that one, it does to no request."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from ml.errors import BundleDamaged

TRIAL_SECONDS = 120.0
REFUSED = 3  # the exit code of a trial that knows what is wrong
_passed: dict[str, float] = {}  # by fingerprint: the same files are tried once


def tried(folder: Path, fingerprint: str) -> float:
    """The largest difference, in units, of a bundle's golden rows to their answers, measured in a child process.

    Raises
    ------
    BundleDamaged
        The child refused the bundle, crashed on it or did not come to an end.
    """
    if fingerprint not in _passed:
        _passed[fingerprint] = _measured(folder)
    return _passed[fingerprint]


def _measured(folder: Path) -> float:
    command = [sys.executable, "-m", "api.trial", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BundleDamaged(f"{folder.name}: loading it took more than {TRIAL_SECONDS:g} s") from error
    if done.returncode:
        raise BundleDamaged(f"{folder.name}: {_why(done)}")
    return float(json.loads(done.stdout.splitlines()[-1])["parity"])


def _why(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == REFUSED:
        return done.stdout.strip().splitlines()[-1]
    if done.returncode < 0:
        return f"loading it in a process of its own ended that process ({signal.Signals(-done.returncode).name})"
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"it could not be loaded in a process of its own ({last[:200]})"


def main(folder: Path) -> int:
    """Load it as it will answer, answer its golden rows, say how far off they are."""
    from ml.bundle import load_bundle
    from ml.forecasting import Forecaster
    from ml.onedal_trees import hastened

    try:
        bundle = load_bundle(folder)
        parity = Forecaster(replace(bundle, model=hastened(bundle.model))).check_golden()
    except BundleDamaged as error:
        print(error)
        return REFUSED
    print(json.dumps({"parity": parity}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
