"""How columns become numbers: category codes, dummies, standardised columns.

Statistics are fitted on training rows only; categories are those of all data, for a name says nothing about sales.
Both travel with the snapshot and with the model as :class:`ml.records.Encoding`.
"""

from __future__ import annotations

import polars as pl

from ml.records import Encoding

CODE = "_code"
STANDARD = "_std"
MAX_DUMMIES = 30  # more columns than this cost more than a linear model gains; trees use the codes


def fit_encoding(
    train: pl.DataFrame, categorical: list[str], numeric: list[str], known: pl.DataFrame | None = None
) -> Encoding:
    """Categories in alphabetical order and mean / standard deviation (1 for a constant column).

    Parameters
    ----------
    train
        Rows whose statistics count.
    known
        Rows whose categories count (default: ``train``). The final model is trained on everything, so a product
        launched within the test part needs a code of its own.
    """
    categories = {name: _categories((train if known is None else known)[name]) for name in categorical}
    mean = {name: float(train[name].mean() or 0.0) for name in numeric}  # type: ignore[arg-type]
    scale = {name: float(train[name].std() or 0.0) or 1.0 for name in numeric}  # type: ignore[arg-type]
    return Encoding(categories=categories, mean=mean, scale=scale)


def _categories(column: pl.Series) -> tuple[str, ...]:
    return tuple(column.drop_nulls().unique().cast(pl.String).sort().to_list())


def add_codes(frame: pl.DataFrame, encoding: Encoding) -> pl.DataFrame:
    """Add ``<column>_code`` (Int32): the position in the categories, -1 for null or a value never seen."""
    present = [name for name in encoding.categories if name in frame.columns]
    return frame.with_columns(
        pl.col(name)
        .replace_strict(list(values), list(range(len(values))), default=-1, return_dtype=pl.Int32)
        .fill_null(-1)
        .alias(name + CODE)
        for name in present
        if (values := encoding.categories[name])
    )


def add_standardised(frame: pl.DataFrame, encoding: Encoding) -> pl.DataFrame:
    """Add ``<column>_std`` = (x - mean) / scale; null becomes 0, the mean."""
    return frame.with_columns(
        ((pl.col(name) - mean) / encoding.scale[name]).fill_null(0.0).cast(pl.Float32).alias(name + STANDARD)
        for name, mean in encoding.mean.items()
        if name in frame.columns
    )


def add_dummies(frame: pl.DataFrame, encoding: Encoding) -> pl.DataFrame:
    """Add ``<column>_is_<value>`` (0/1) for every category of a column with at most ``MAX_DUMMIES`` of them."""
    return frame.with_columns(
        (pl.col(name) == value).fill_null(False).cast(pl.UInt8).alias(f"{name}_is_{value}")
        for name, values in encoding.categories.items()
        if name in frame.columns and 1 < len(values) <= MAX_DUMMIES
        for value in values
    )


def encode(frame: pl.DataFrame, encoding: Encoding) -> pl.DataFrame:
    """Codes, dummies and standardised columns, beside the originals."""
    return add_standardised(add_dummies(add_codes(frame, encoding), encoding), encoding)
