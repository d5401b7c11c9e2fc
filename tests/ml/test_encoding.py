from __future__ import annotations

import polars as pl
import pytest

from ml.encoding import encode, fit_encoding

TRAIN = pl.DataFrame({"store": ["b", "a", "a"], "price": [1.0, 2.0, 3.0], "flat": [5.0, 5.0, 5.0]})


def test_statistics_come_from_training_rows_only_and_unseen_values_get_minus_one():
    encoding = fit_encoding(TRAIN, ["store"], ["price", "flat"])
    later = pl.DataFrame({"store": ["a", "new", None], "price": [100.0, 2.0, None], "flat": [5.0, 6.0, 5.0]})
    found = encode(later, encoding)
    assert encoding.mean["price"] == 2.0
    assert encoding.scale["price"] == pytest.approx(1.0)
    assert encoding.scale["flat"] == 1.0
    assert found["store_code"].to_list() == [0, -1, -1]
    assert found["store_is_a"].to_list() == [1, 0, 0]
    assert found["price_std"].to_list() == [98.0, 0.0, 0.0]
    assert found["flat_std"].to_list() == [0.0, 1.0, 0.0]
    assert found["price"].to_list() == [100.0, 2.0, None]


def test_too_many_categories_get_codes_but_no_dummies():
    many = pl.DataFrame({"product": [f"p{i:03d}" for i in range(100)]})
    found = encode(many, fit_encoding(many, ["product"], []))
    assert found.columns == ["product", "product_code"]
    assert found["product_code"].to_list() == list(range(100))


def test_a_product_launched_in_the_test_part_has_a_code_and_no_say_in_the_statistics():
    whole = pl.concat([TRAIN, pl.DataFrame({"store": ["new"], "price": [100.0], "flat": [9.0]})])
    alone, together = (fit_encoding(TRAIN, ["store"], ["price", "flat"], known) for known in (None, whole))
    assert alone.categories == {"store": ("a", "b")}
    assert together.categories == {"store": ("a", "b", "new")}
    assert (together.mean, together.scale) == (alone.mean, alone.scale)


def test_categories_of_any_text_type_are_names_in_alphabetical_order():
    frame = pl.DataFrame({"type": pl.Series(["z", "a", None], dtype=pl.Enum(["z", "a"]))})
    encoding = fit_encoding(frame, ["type"], [])
    assert encoding.categories == {"type": ("a", "z")}
    assert encode(frame, encoding)["type_code"].to_list() == [1, 0, -1]
