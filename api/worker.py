"""The process that works on jobs: ``python -m api.worker``. Several may run, on one machine or on many.

It claims a job, says every few seconds that it lives, and lets go of the job when it is told to end. One that was
killed loses its lease, and the next worker goes on after the last finished chunk.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.exporting import ExportWork
from api.jobwork import JobWork
from api.loading import Loaded, Loader
from api.published import PublishedFolder
from api.replaying import history_of
from ml import logs, tracing
from ml.errors import ControlRoomError, Retired, ServiceDown, SettingsError
from ml.jobboard import MAX_ATTEMPTS, Claim, ExportClaim, FileClaim, JobBoard, JobCancelled, JobLost
from ml.lake import open_lake
from ml.registry import Registry
from ml.settings import Settings, load_settings, variable
from ml.store import Store

LEASE_SECONDS = 15.0  # how long a job waits for a worker that was killed
BEATS_PER_LEASE = 5
POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0  # a job whose object store or registry is away is looked at again after so long

log = logging.getLogger("api.worker")


class Worker:
    """One process' work. ``lease``: seconds that a job stays its own without a sign of life."""

    def __init__(self, settings: Settings, lease: float = LEASE_SECONDS) -> None:
        if not settings.database_url:
            raise SettingsError(f"{variable('database_url')} is not set.", key="database_url")
        self.settings, self.lease = settings, lease
        self.name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.store = Store(settings.database_url)
        self.board = JobBoard(self.store)
        self.lake = open_lake(settings.lake_url)
        self.folder = settings.data_dir / "worker"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.alive = self.folder / f"alive-{socket.gethostname()}"  # as deploy.probes looks for it
        self.published = PublishedFolder(self.lake, self.folder / "snapshots")
        self.loader = Loader(lambda: Registry(settings.mlflow), self.store, self.folder / "bundles")
        self._loaded: Loaded | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let go of the job after its present chunk, then end."""
        self._stop.set()

    def run(self) -> None:
        """Until :meth:`stop`; what is away is waited for."""
        beats = threading.Thread(target=self._beat, name="beats", daemon=True)
        while not self._stop.is_set():
            try:
                if beats.ident is None:
                    self.store.migrate()
                    beats.start()
                if self.work_once():
                    continue
            except ServiceDown as error:
                log.warning("%s", error)
            self._stop.wait(POLL_SECONDS)
        if beats.ident is not None:
            beats.join()
            self._leave()
        self.store.close()

    def work_once(self) -> bool:
        """Work on the job that waits longest; False when none waits. Raises ServiceDown when the database is away."""
        claim = self.board.claim(self.name, self.lease)
        if claim is None:
            return False
        tracing.begin(self.store.cause(f"job-{claim.job_id}"))
        log.info("job %s: attempt %d", claim.job_id, claim.attempts)
        try:
            self._settle(claim)
        except JobLost as error:
            log.warning("%s", error)
        finally:
            tracing.begin(None)
        return True

    def _settle(self, claim: Claim) -> None:
        """Work, and say on the board how it ended; raises JobLost, and ServiceDown when the database is away."""
        try:
            self._work(claim)
        except JobLost:
            raise
        except JobCancelled:
            self.board.cancelled(claim)
        except ServiceDown as error:
            log.warning("job %s waits: %s", claim.job_id, error)
            self.board.release(claim, RETRY_SECONDS, error)
        except ControlRoomError as error:
            self.board.fail(claim, error)
        except Exception:
            log.exception("job %s broke", claim.job_id)
            self.board.fail(claim, ControlRoomError("This is a fault of ours: it is in the worker's log."))

    def _work(self, claim: Claim) -> None:
        if claim.cancelling:
            raise JobCancelled
        if claim.attempts > MAX_ATTEMPTS:
            raise ControlRoomError(f"Its worker ended {MAX_ATTEMPTS} times without finishing a chunk.")
        if not self._work_on(claim).run():
            self.board.release(claim)

    def _work_on(self, claim: Claim) -> JobWork | ExportWork:
        if isinstance(claim, ExportClaim):
            return ExportWork(claim, self.board, self.lake, self._stop.is_set)
        assert isinstance(claim, FileClaim)
        return JobWork(claim, self._model(claim), self.board, self.lake, self._stop.is_set)

    def _model(self, claim: FileClaim) -> Loaded:
        """The pinned version on the pinned data; the last one is kept, for the next job mostly wants the same."""
        wanted = (claim.model.version, claim.data_version)
        now = self._loaded
        if now is None or (now.ref.version, now.data_version) != wanted:
            with _alone(self.folder):
                history = history_of(self.published, claim.data_version, claim.model)
                now = self.loader.load(claim.model, claim.alias, history)
            if now.data_version != claim.data_version:
                raise Retired(f"Version {now.ref.version} does not answer from data {claim.data_version} any more.")
            self._loaded = now
        return now.under(claim.alias)

    def _beat(self) -> None:
        while True:
            try:
                self.board.beat(self.name, self.lease)
                self.alive.touch()
            except ServiceDown as error:
                log.warning("%s", error)
            if self._stop.wait(self.lease / BEATS_PER_LEASE):
                return

    def _leave(self) -> None:
        try:
            self.board.leave(self.name)
        except ServiceDown as error:
            log.warning("%s", error)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Workers of one machine share their folder: one at a time fetches into it."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m api.worker", description=__doc__)
    parser.add_argument(
        "--lease", type=float, default=LEASE_SECONDS, help="seconds until a killed worker's job goes on"
    )
    asked = parser.parse_args(arguments)
    try:
        settings = load_settings()
        logs.configure(settings.log_format)
        worker = Worker(settings, asked.lease)
    except SettingsError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
