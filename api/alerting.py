"""What is out of the ordinary today: from the log, the published data and the champion's next forecasts."""

from __future__ import annotations

import threading
from collections import Counter

import polars as pl

from api.champion import Champion
from api.loading import Loaded
from api.published import Published, PublishedFolder
from ml.alerts import LATELY, first, jumps, live, silent, unseen
from ml.cleaning import step
from ml.errors import ControlRoomError
from ml.records import Alert, Alerts
from ml.store import Store

MOST_SERIES = 2_000  # the largest: of these the next week is forecast


class Alerter:
    """Works out the expected jumps once per model and data; the rest is asked anew."""

    def __init__(self, champion: Champion, published: PublishedFolder, store: Store) -> None:
        self.champion, self.published, self.store = champion, published, store
        self._lock = threading.Lock()
        self._jumps: tuple[tuple[str, str], list[Alert]] | None = None

    def alerts(self, limit: int) -> Alerts:
        """Raises NoData while nothing is published; what does not answer is named and left out."""
        published, loaded = self.published.require(), self.champion.current
        snapshot = published.snapshot
        found = silent(published.series, snapshot.date_to, snapshot.frequency)
        unknown = []
        try:
            found += live(self.store, snapshot.date_to, snapshot.frequency)
        except ControlRoomError:
            unknown.append("database")
        if loaded is not None:
            learned = loaded.forecaster.manifest.encoding.categories
            found += unseen(published.series, learned, snapshot.date_to, snapshot.frequency)
            found += self._expected_jumps(loaded, published)
        counts = Counter(item.kind for item in found)
        return Alerts(
            data_version=snapshot.data_version, items=first(found, limit), counts=dict(counts), unknown=tuple(unknown)
        )

    def _expected_jumps(self, loaded: Loaded, published: Published) -> list[Alert]:
        key = (loaded.info.version, loaded.data_version)
        with self._lock:
            if self._jumps is None or self._jumps[0] != key:
                self._jumps = (key, expected_jumps(loaded, published))
            return self._jumps[1]


def expected_jumps(loaded: Loaded, published: Published) -> list[Alert]:
    """The largest series whose next week is expected to differ much from the last; a model without intervals of totals
    has none."""
    forecaster = loaded.forecaster
    if forecaster.bundle.sums is None or loaded.data_version != published.snapshot.data_version:
        return []
    periods = min(LATELY if forecaster.frequency == "D" else 4, forecaster.horizon)
    largest = sorted(published.series, key=lambda item: -item.mean_sales)[:MOST_SERIES]
    chosen = pl.DataFrame([(item.store, item.product) for item in largest], ["store", "product"], orient="row")
    rows = forecaster.next_days([], [], periods).join(chosen, on=["store", "product"], how="semi")
    if rows.is_empty():
        return []
    expected = forecaster.totals(forecaster.forecast(rows), ["store", "product"])
    first_day, last_day = rows["date"].min(), rows["date"].max()
    expected = expected.with_columns(date_from=pl.lit(first_day), date_to=pl.lit(last_day))
    since = forecaster.origin - step(forecaster.frequency) * periods
    lately = published.scan().filter(pl.col("date") > since).group_by("store", "product")
    # A period that is not known would make what comes look like a jump.
    known = lately.agg(sold=pl.col("sales").sum(), known=pl.col("sales").count()).filter(pl.col("known") == periods)
    return jumps(expected, known.drop("known").collect())
