"""What a Prometheus server reads at ``/metrics``: requests, rows, and which model answers how well."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from ml.errors import ServiceDown

if TYPE_CHECKING:
    from api.services import Services

TEXT = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one process; several processes are scraped one by one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "control_room_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "control_room_request_seconds",
            "From the first byte read to the last byte sent.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rows = Counter(
            "control_room_predicted_rows", "Rows answered and logged.", ("model_version",), registry=self.registry
        )

        # Methods, routes, states and versions are few: looking up a metric takes longer than adding to it.
        self._of_request = cache(
            lambda method, route, status: (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
        )
        self._of_version = cache(self._rows.labels)

    def follow(self, services: Services) -> None:
        """Show the state of these parts at each scrape."""
        self.registry.register(_Parts(services))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """``route`` as it is declared: the path that was asked for is input, and has no end of values."""
        counter, histogram = self._of_request(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def predicted(self, version: str, rows: int) -> None:
        self._of_version(version).inc(rows)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Parts:
    """Asked at each scrape: figures with a life of their own are not kept twice."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._champion()
        up = GaugeMetricFamily("control_room_part_up", "1 where a part answers.", labels=("part",))
        for part in self.services.parts.now():
            up.add_metric((part.name,), float(part.state == "ok"))
        yield up
        spool = self.services.spool
        waiting = "Batches of answers on the disk that the database has not taken yet."
        yield GaugeMetricFamily("control_room_spool_batches", waiting, spool.waiting())
        yield GaugeMetricFamily("control_room_spool_bytes", "The same in bytes.", spool.waiting_bytes())
        yield from self._jobs()

    def _jobs(self) -> Iterator[Metric]:
        try:
            queue = self.services.board.queue()
        except ServiceDown:
            return  # said by the part "database"
        jobs = GaugeMetricFamily("control_room_jobs", "Jobs that wait or are worked on.", labels=("state",))
        jobs.add_metric(("queued",), queue.queued)
        jobs.add_metric(("running",), queue.running)
        yield jobs
        yield GaugeMetricFamily("control_room_workers", "Workers that are alive.", queue.workers)

    def _champion(self) -> Iterator[Metric]:
        champion = self.services.champion
        info = GaugeMetricFamily(
            "control_room_model_info", "1 for the model that answers.", labels=("version", "run_id", "data_version")
        )
        if loaded := champion.current:
            info.add_metric((loaded.ref.version, loaded.ref.run_id, loaded.data_version), 1.0)
            parity = "Largest difference of its golden rows to their answers, in units."
            yield GaugeMetricFamily("control_room_model_parity_units", parity, loaded.parity)
            until = calendar.timegm(loaded.forecaster.origin.timetuple())
            yield GaugeMetricFamily("control_room_data_until_seconds", "Newest day of sales, as Unix time.", until)
        yield info
        ready = "1 when a verified champion answers and nothing keeps a newer one away."
        yield GaugeMetricFamily("control_room_champion_ok", ready, float(bool(champion.current) and not champion.error))
