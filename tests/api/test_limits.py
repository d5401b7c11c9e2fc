"""What the API says it takes at most is what it takes."""

from __future__ import annotations

import pytest

from ml.records import Limits


@pytest.fixture(scope="module")
def away(serve, make_settings):
    with serve(make_settings(upload_limit_mb=1, rate_limit=77)) as made:
        yield made


def test_limits_are_those_of_the_settings_and_of_the_routes(away):
    told = Limits.model_validate(away.get("/v1/limits").json())
    assert (told.upload_mb, told.requests_per_minute) == (1, 77)
    assert away.get(f"/historical-predictions?limit={told.history_rows + 1}").status_code == 422
    too_large = away.post("/v1/uploads?filename=a.csv", content=b"x" * (told.upload_mb * 1_048_576 + 1))
    assert too_large.status_code == 413
