"""The route on real published data, with a champion that learned it."""

from __future__ import annotations

import pytest

from control_room.clients.api import ApiClient
from ml.errors import NoData


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
