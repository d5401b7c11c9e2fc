"""Tells webhooks what has happened: looks at what there is, notes what is new, sends what is due.

Events are read from what the other parts have written down anyway (the audit, the uploads, the runs of Airflow, the
published data, the jobs). So nothing that happened is missed, whoever did it and whichever process was killed.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests

from ml import tracing
from ml.errors import ControlRoomError
from ml.records import ETL_DAG, RETRAIN_DAG, Event, EventKind
from ml.store import MOVES
from ml.webhooks import Due, Webhooks, body_of, signature

if TYPE_CHECKING:
    from api.services import Services

LOOK_SECONDS = 2.0
BACK = dt.timedelta(days=7)  # what happened longer ago is no news, even for an API that was away
CLEANED_EVERY = 3600.0
AT_ONCE = 4
TIMEOUT = (3.0, 10.0)  # seconds to connect, and to answer

log = logging.getLogger("api")
Source = Callable[["Services", dt.datetime], Iterable[Event]]


def promotions(services: Services, since: dt.datetime) -> Iterator[Event]:
    for row in services.store.promotions(limit=50):
        if row.action in MOVES and row.at >= since:
            data = row.model_dump(mode="json", include={"version", "previous", "action", "actor", "reason"})
            yield Event(event_id=f"promotion-{row.promotion_id}", kind="model.promoted", at=row.at, data=data)


def accepted_uploads(services: Services, since: dt.datetime) -> Iterator[Event]:
    for upload in services.store.uploads(limit=50):
        if upload.accepted_at is not None and upload.accepted_at >= since:
            data = upload.model_dump(mode="json", include={"upload_id", "filename", "purpose"})
            data["rows_used"] = upload.preflight.rows_used
            yield Event(event_id=f"upload-{upload.upload_id}", kind="data.accepted", at=upload.accepted_at, data=data)


def finished_runs(services: Services, since: dt.datetime) -> Iterator[Event]:
    for dag_id in (ETL_DAG, RETRAIN_DAG):
        for run in services.airflow.runs(dag_id):
            if run.ended_at is not None and not run.active and run.ended_at >= since:
                data = run.model_dump(mode="json", include={"dag_id", "run_id", "state", "started_at", "ended_at"})
                parent = str(run.conf.get(tracing.HEADER) or "")
                yield Event(
                    event_id=f"run-{run.run_id}", kind="run.finished", at=run.ended_at, data=data, traceparent=parent
                )


def drifted_data(services: Services, since: dt.datetime) -> Iterator[Event]:
    published = services.published.current
    found = published.snapshot if published else None
    if found is None or found.drift is None or found.created_at < since:
        return
    moved = [item.model_dump(mode="json") for item in found.drift.features if item.level != "none"]
    if moved:
        data = {"data_version": found.data_version, "champion": found.drift.version, "features": moved}
        yield Event(event_id=f"drift-{found.data_version}", kind="drift.detected", at=found.created_at, data=data)


def finished_jobs(services: Services, since: dt.datetime) -> Iterator[Event]:
    for job in services.board.jobs(50):
        if job.ended_at is not None and job.ended_at >= since:
            data = job.model_dump(mode="json", include={"job_id", "kind", "state", "filename", "rows_refused", "error"})
            yield Event(event_id=f"job-{job.job_id}", kind="job.finished", at=job.ended_at, data=data)


SOURCES: dict[EventKind, Source] = {
    "model.promoted": promotions,
    "data.accepted": accepted_uploads,
    "run.finished": finished_runs,
    "drift.detected": drifted_data,
    "job.finished": finished_jobs,
}


class Teller:
    """A thread that looks and sends; several processes may do this at once, each event is noted and leased once."""

    def __init__(self, services: Services, sources: Mapping[EventKind, Source] = SOURCES) -> None:
        self.services, self.sources = services, sources
        self.webhooks = Webhooks(services.store)
        self._cleaned = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Once: note what is new of what anybody asks for, and send what is due.

        A source that is away is looked at the next time.
        """
        if time.monotonic() - self._cleaned > CLEANED_EVERY:
            self._cleaned = time.monotonic()
            self.webhooks.forget_old()
        asked = {kind for webhook in self.webhooks.all() for kind in webhook.events}
        for kind, source in self.sources.items():
            if kind in asked:
                self._noted(source)
        if asked and (due := self.webhooks.due()):
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
                list(pool.map(self._told, due))

    def _noted(self, source: Source) -> None:
        try:
            self.webhooks.emit(source(self.services, dt.datetime.now(dt.UTC) - BACK))
        except ControlRoomError as error:
            log.debug("events: %s", error)

    def _told(self, due: Due) -> None:
        tracing.begin(due.trace)
        arrived, answer = sent(due)
        if not arrived:
            log.warning("webhook %s was not told of %s: %s", due.webhook_id, due.event.event_id, answer)
        self.webhooks.settle(due, arrived=arrived, answer=answer)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except ControlRoomError:
                continue
            except Exception:
                log.exception("webhooks could not be told")


def sent(due: Due) -> tuple[bool, str]:
    """Post an event; whether it was taken (any 2xx), and what was answered. Redirects are not followed."""
    body, now = body_of(due.event), int(time.time())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": due.event.event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(due.secret, due.event.event_id, now, body),
        **tracing.headers(),
    }
    try:
        reply = requests.post(due.url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True)
        reply.close()
    except (requests.RequestException, ValueError) as error:
        return False, type(error).__name__
    return reply.ok and reply.status_code < 300, f"HTTP {reply.status_code}"
