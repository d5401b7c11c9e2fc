"""An answer of the past, made again: the bundle that gave it, on the history it started from, with its inputs."""

from __future__ import annotations

import time

from api.champion import Champion
from api.loading import GOLDEN_TOLERANCE, Loaded
from api.published import Published, PublishedFolder
from api.scoring import frame_of
from ml.errors import NotFound, Retired
from ml.records import LEVELS, HistoryItem, ModelInfo, Replay
from ml.store import Store

RELATIVE_TOLERANCE = 1e-6  # of large forecasts: models answer in single precision


class Replayer:
    """Makes logged predictions again. ``folder`` keeps snapshots of its own: the API's are those it serves from."""

    def __init__(self, champion: Champion, store: Store, folder: PublishedFolder) -> None:
        self.champion, self.store, self.folder = champion, store, folder

    def replay(self, prediction_id: int) -> Replay:
        """The logged number and the one that the same bundle and history give now.

        The bundle is verified as any that may answer: recorded manifest, SHA-256 of every file, golden rows.

        Raises
        ------
        NotFound
            There is no such prediction.
        Retired
            The bundle or the version of the data that answered is no longer kept.
        """
        begin = time.perf_counter()
        item = self.store.prediction(prediction_id)
        info = self.champion.loader.registry().version(item.model_version)
        loaded = self.champion.load(info, history_of(self.folder, item.data_version, info))
        if loaded.data_version != item.data_version:
            raise Retired(
                f"Version {info.version} answers from data {loaded.data_version} only, not from {item.data_version}.",
                prediction_id=prediction_id,
            )
        rows = self._together(item, loaded)
        found = loaded.forecaster.forecast(frame_of(loaded, [inputs_of(row) for row in rows])).rows(named=True)
        position = [row.prediction_id for row in rows].index(prediction_id)
        now = found[position]
        tolerance = max(GOLDEN_TOLERANCE, RELATIVE_TOLERANCE * abs(item.prediction))
        difference = now["prediction"] - item.prediction
        return Replay(
            prediction_id=prediction_id,
            model_version=item.model_version,
            data_version=item.data_version,
            manifest_sha256=loaded.forecaster.bundle.fingerprint,
            then=item.prediction,
            now=now["prediction"],
            difference=difference,
            tolerance=tolerance,
            agrees=abs(difference) <= tolerance,
            rows=len(rows),
            unit=item.unit,
            interval_then=item.interval,
            interval_now={str(share): (now[f"low_{share}"], now[f"high_{share}"]) for share in LEVELS},
            seconds=time.perf_counter() - begin,
        )

    def _together(self, item: HistoryItem, loaded: Loaded) -> list[HistoryItem]:
        """With closed days a row's answer depends on the rows around it: then all of its request."""
        if not loaded.forecaster.manifest.closed_when:
            return [item]
        return self.store.prediction_context(item.prediction_id)


def history_of(folder: PublishedFolder, data_version: str, info: ModelInfo) -> Published | None:
    """The snapshot that a model's answers start from; None when that is the bundle's own. Raises Retired."""
    if data_version == info.data_version:
        return None
    try:
        return folder.of(data_version)
    except NotFound as error:
        raise Retired(f"The data {data_version} is no longer kept.", data_version=data_version) from error


def inputs_of(item: HistoryItem) -> dict[str, object]:
    """A logged row as it was asked."""
    return {**item.inputs, "date": item.date, "store": item.store, "product": item.product}
