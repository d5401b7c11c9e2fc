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
