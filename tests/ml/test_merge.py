"""Late, corrected and repeated rows: however many runs it took, one rule says what counts."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.cleaning import make_panel
from ml.errors import InputError
from ml.lake import Lake, open_lake
from ml.sources import merge_uploads

FIRST = dt.date(2026, 1, 1)
SCHEMA = {"date": pl.Date, "store": pl.String, "product": pl.String, "sales": pl.Float64, "price": pl.Float64}

row = st.tuples(
    st.integers(0, 20).map(lambda day: FIRST + dt.timedelta(days=day)),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["p", "q"]),
    st.integers(0, 9).map(float),
    st.one_of(st.none(), st.integers(1, 5).map(float)),
)
# The contract lets each date, store and product through once per file.
upload = st.lists(row, min_size=1, max_size=25, unique_by=lambda r: r[:3])


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Callable[[], Lake]:
    """A new one at each call."""
    return lambda: open_lake(str(tmp_path_factory.mktemp("lake")))


def accept(place: Lake, uploads: list[list[tuple]]) -> list[str]:
    names = [f"u{number:02d}" for number in range(len(uploads))]
    for name, rows in zip(names, uploads, strict=True):
        place.put_frame(f"accepted/{name}.parquet", pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    return names


def merged(place: Lake, names: list[str]) -> pl.DataFrame:
    return place.get_frame(merge_uploads(place, names).key)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(upload, min_size=1, max_size=6), st.data())
def test_the_last_accepted_upload_wins_however_many_runs_it_took(lake, uploads, data):
    expected: dict[tuple, tuple] = {}
    for rows in uploads:
        expected |= {(store, product, date): (sales, price) for date, store, product, sales, price in rows}
    at_once, step_by_step = lake(), lake()
    names = accept(at_once, uploads)
    whole = merged(at_once, names)
    assert {r[:3]: r[3:] for r in whole.select("store", "product", "date", "sales", "price").iter_rows()} == expected
    assert whole.height == len(expected)

    accept(step_by_step, uploads)
    stops = data.draw(st.lists(st.integers(1, len(names)), max_size=4))
    for stop in (*stops, len(names)):
        last = merge_uploads(step_by_step, names[:stop])
    assert step_by_step.get_frame(last.key).equals(whole)
    counts = merge_uploads(at_once, names)
    assert (last.rows_in, last.rows, last.notes) == (counts.rows_in, counts.rows, counts.notes)
    assert last.rows_in == sum(map(len, uploads))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(upload, min_size=1, max_size=4), st.data())
def test_what_is_replayed_changes_nothing(lake, uploads, data):
    """The same upload again, or a day of it as a file of its own, right after it: the same panel to the last bit."""
    replayed = data.draw(st.integers(0, len(uploads) - 1))
    day = data.draw(st.sampled_from(sorted({r[0] for r in uploads[replayed]})))
    again = [r for r in uploads[replayed] if data.draw(st.booleans()) or r[0] == day]
    before, after = lake(), lake()
    plain = merged(before, accept(before, uploads))
    repeated = merged(after, accept(after, [*uploads[: replayed + 1], again, *uploads[replayed + 1 :]]))
    assert fingerprint(plain) == fingerprint(repeated)
    if plain["date"].n_unique() > 1:
        assert make_panel(plain, country="ES").frame.equals(make_panel(repeated, country="ES").frame)


def fingerprint(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()


def test_only_what_is_new_is_read_again(lake, monkeypatch):
    place = lake()
    names = accept(
        place, [[(FIRST, "a", "p", 1.0, None)], [(FIRST, "a", "p", 2.0, None)], [(FIRST, "b", "p", 3.0, 1.0)]]
    )
    merge_uploads(place, names[:2])
    read = []
    take = place.get_frame
    monkeypatch.setattr(place, "get_frame", lambda key, *how: read.append(key) or take(key, *how))
    found = merge_uploads(place, names)
    assert [key for key in read if key.startswith("accepted/")] == ["accepted/u02.parquet"]
    assert found.notes == ("1 rows were replaced by later uploads",)
    read.clear()
    assert merge_uploads(place, names) == found
    assert read == []


def test_an_upload_that_says_something_else_now_is_merged_again(lake):
    place = lake()
    (name,) = accept(place, [[(FIRST, "a", "p", 1.0, None)]])
    first = merge_uploads(place, [name])
    accept(place, [[(FIRST, "a", "p", 5.0, None)]])
    second = merge_uploads(place, [name])
    assert first.key != second.key
    assert place.get_frame(second.key)["sales"].to_list() == [5.0]


def test_an_unfinished_merge_is_not_taken_for_one(lake):
    place = lake()
    names = accept(place, [[(FIRST, "a", "p", 1.0, None)]])
    found = merge_uploads(place, names)
    place.delete(found.key.replace(".parquet", ".json"))
    place.put(found.key, b"half")
    assert merge_uploads(place, names) == found
    assert place.get_frame(found.key).height == 1


def test_stores_in_one_file_only_are_refused_also_when_the_others_were_merged_before(lake):
    place = lake()
    names = accept(place, [[(FIRST, "all", "all", 1.0, None)], [(FIRST, "b", "p", 3.0, 1.0)]])
    merge_uploads(place, names[:1])
    with pytest.raises(InputError, match="no store column while other uploads have one"):
        merge_uploads(place, names)
