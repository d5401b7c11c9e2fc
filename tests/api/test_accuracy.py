"""The route over the sums of ml.accuracy: filters by name, and what is no way to group is refused."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room.clients.api import ApiClient
from ml.errors import InputError
from ml.records import Accuracy


@pytest.fixture(scope="module")
def api(serve, make_settings):
    with serve(make_settings()) as made:
        made.services.store.migrate()
        yield made


def test_nothing_is_logged_yet(api):
    given = {"from": dt.date(2026, 1, 1), "to": dt.date(2026, 2, 1), "store": "S", "product": "P", "version": "7"}
    assert ApiClient(api.url).accuracy("horizon", given) == Accuracy(by="horizon", items=(), total=None)


def test_what_is_no_way_to_group_is_refused(api):
    with pytest.raises(InputError):
        ApiClient(api.url).accuracy("colour", {})
