"""Public holidays."""

import datetime as dt

import polars as pl
import pytest

from ml.calendar import holiday_flags
from ml.errors import InputError


def test_flags_distinct_days_in_order_across_years():
    days = pl.Series([dt.date(2026, 1, 1), dt.date(2025, 12, 26), dt.date(2025, 12, 25), dt.date(2025, 12, 25), None])
    flags = holiday_flags(days, "ES")
    assert flags.schema == {"date": pl.Date, "holiday": pl.Int8}
    assert flags.rows() == [(dt.date(2025, 12, 25), 1), (dt.date(2025, 12, 26), 0), (dt.date(2026, 1, 1), 1)]


def test_takes_a_frame_and_lower_case_country():
    frame = pl.DataFrame({"date": [dt.date(2026, 7, 4), dt.date(2026, 7, 6)], "sales": [1.0, 2.0]})
    assert holiday_flags(frame, "us")["holiday"].to_list() == [1, 0]


def test_countries_differ():
    day = pl.Series([dt.date(2026, 7, 14)])
    assert holiday_flags(day, "FR")["holiday"][0] == 1
    assert holiday_flags(day, "ES")["holiday"][0] == 0


def test_no_days():
    assert holiday_flags(pl.Series([], dtype=pl.Date), "ES").height == 0


def test_unknown_country_says_what_to_do():
    with pytest.raises(InputError, match=r"'XX' are not known; use an ISO 3166"):
        holiday_flags(pl.Series([dt.date(2026, 1, 1)]), "XX")
