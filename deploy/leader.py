"""One started process and everything it starts itself, safe to end.

Signals go to a pid or a session only while the leader is not reaped: as long as it lives or is a zombie of ours, the
system gives its number to nobody else. After that there is nothing left that we may touch.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from deploy.processes import TAG, Family, birth


class Leader:
    """A process that leads a session of its own and carries our tag."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        tag: str,
        cwd: Path | str | None = None,
        output: IO[bytes] | None = None,
        postgres_in: Path | None = None,
        **how: Any,
    ) -> None:
        self._popen = subprocess.Popen(
            command,
            env={**env, TAG: tag},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **how,
        )
        self.pid = self._popen.pid
        self.birth = birth(self.pid)
        self._family = Family(self.pid, tag, sure=True, postgres_in=postgres_in)

    @property
    def returncode(self) -> int | None:
        """Known once :meth:`end` has cleaned up behind it."""
        return self._popen.returncode

    def has_exited(self) -> bool:
        """Whether it runs no more; a zombie stays one, so that its number stays taken."""
        if self._popen.returncode is not None:
            return True
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal(self, number: signal.Signals, group: bool = False) -> None:
        """Send a signal to it, or to its whole process group, unless it has exited."""
        if not self.has_exited():
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self, seconds: float = 5.0) -> int:
        """End all that is left of it, itself too, and reap it; returns how many processes that were.

        SIGTERM first, SIGKILL after ``seconds``. Once reaped it does nothing.
        """
        if self._popen.returncode is not None:
            return 0
        ended = self._family.end(seconds)
        self._popen.wait()
        return ended

    @property
    def exit_reason(self) -> str:
        code = self._popen.returncode
        if code is None:
            return "runs"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
