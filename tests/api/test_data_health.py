"""The route on real published data, with a champion that learned it."""

from __future__ import annotations

import pytest

from control_room.clients.api import ApiClient
from ml.errors import NoData, ServiceDown


def test_without_data_it_says_so(bare):
    with pytest.raises(NoData):
        ApiClient(bare.url).data_health()


def test_the_last_weeks_of_the_published_data(served):
    client = ApiClient(served.url)
    snapshot, found = client.snapshot(), client.data_health()
    assert found.data_version == snapshot.data_version
    assert (found.days[-1].date, len(found.days)) == (snapshot.date_to, 56)
    assert max(item.rows for item in found.days) <= snapshot.series
    assert {item.store for item in found.stores} <= set(client.catalog().stores)
    assert found.unseen == ()
    measured = {item.feature for item in snapshot.drift.features} if snapshot.drift else set()
    assert set(found.importance) <= measured


def test_too_few_predictions_are_said_to_be_and_a_database_that_is_away_is_none(served, monkeypatch):
    found = ApiClient(served.url).data_health().predictions
    assert found is not None
    assert found.features == ()
    assert found.note

    def away(*_):
        raise ServiceDown("database", "away")

    monkeypatch.setattr("api.drifting.prediction_drift", away)
    monkeypatch.setattr(served.services.drifting, "_known", None)
    assert ApiClient(served.url).data_health().predictions is None
