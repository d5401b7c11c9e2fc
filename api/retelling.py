"""What another version would have said: logged inputs, answered by it from the history that the answer of then had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from api.loading import Loaded
from api.replaying import Replayer, history_of, inputs_of
from api.scoring import frame_of
from ml.errors import Retired
from ml.records import LEVELS, HistoryItem, ModelInfo, Retellings, Retold

MOST_ROWS = 200
MOST_HISTORIES = 4  # versions of the data of one question: each is fetched and prepared, which takes seconds


def retell(replayer: Replayer, version: str, items: Sequence[HistoryItem]) -> Retellings:
    """The items, each with what the version says; raises Retired when its files are no longer kept."""
    info = replayer.champion.loader.registry().version(version)
    found: list[Retold] = []
    by_data = groupby(sorted(items, key=lambda item: item.data_version), key=lambda item: item.data_version)
    for number, (data_version, group) in enumerate(by_data):
        if number < MOST_HISTORIES:
            found += _of_one_history(replayer, info, data_version, list(group))
    found.sort(key=lambda item: item.prediction_id, reverse=True)
    return _judged(version, found, len(items) - len(found))


def _of_one_history(
    replayer: Replayer, info: ModelInfo, data_version: str, items: list[HistoryItem]
) -> Iterator[Retold]:
    """Nothing when the history is no longer kept."""
    try:
        loaded = replayer.champion.load(info, history_of(replayer.folder, data_version, info))
    except Retired as error:
        if error.facts.get("data_version") != data_version:
            raise
        return
    if loaded.data_version != data_version:
        return
    wanted = {item.prediction_id: item for item in items}
    for rows in _together(replayer, loaded, items):
        answers = loaded.forecaster.forecast(frame_of(loaded, [inputs_of(row) for row in rows])).rows(named=True)
        for row, answer in zip(rows, answers, strict=True):
            if row.prediction_id in wanted:
                yield _retold(loaded, wanted.pop(row.prediction_id), answer)


def _together(replayer: Replayer, loaded: Loaded, items: list[HistoryItem]) -> list[list[HistoryItem]]:
    """All at once; where closed days make rows of a request depend on each other, each with its request."""
    if not loaded.forecaster.manifest.closed_when:
        return [items]
    one_each = {(item.request_id, item.created_at): item.prediction_id for item in items}
    return [replayer.store.prediction_context(number) for number in one_each.values()]


def _retold(loaded: Loaded, item: HistoryItem, answer: dict[str, Any]) -> Retold:
    names = ("prediction_id", "created_at", "date", "store", "product", "unit", "data_version", "actual")
    return Retold(
        **{name: getattr(item, name) for name in names},
        version=item.model_version,
        then=item.prediction,
        now=answer["prediction"],
        interval_now={str(share): (answer[f"low_{share}"], answer[f"high_{share}"]) for share in LEVELS},
        learned=item.date <= loaded.forecaster.manifest.trained_until,
    )


def _judged(version: str, found: list[Retold], gone: int) -> Retellings:
    known = [(item.then, item.now, item.actual) for item in found if item.actual is not None and not item.learned]
    sold = sum(actual for _, _, actual in known)
    errors = [sum(abs(row[which] - row[2]) for row in known) for which in (0, 1)]
    wapes = [error / sold if sold > 0 else None for error in errors]
    return Retellings(
        version=version, items=tuple(found), gone=gone, judged=len(known), wape_then=wapes[0], wape_now=wapes[1]
    )
