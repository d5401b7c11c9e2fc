"""Static attributes of stores and products: a side table beside the sales.

An attribute belongs to a *level*: to a store, to a product, or to a product in one store (``series``). Its column is
called ``<level>.<name>``, such as ``store.size`` or ``product.category``; the dot keeps it apart from sales columns
and features. Nobody has to know it per day in advance, which is what tells it from a regressor.

The *side table* holds all levels in one frame: ``store`` (null for attributes of products), ``product`` (null for
those of stores) and a column per attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from ml.cleaning import as_text

LEVELS: dict[str, tuple[str, ...]] = {"store": ("store",), "product": ("product",), "series": ("store", "product")}
KEYS = ("store", "product")
_UNNAMEABLE = str.maketrans("[]<", "()\u2039")  # XGBoost refuses them in the name of a feature
EMPTY = pl.DataFrame(schema={"store": pl.String, "product": pl.String})


def level_of(name: str) -> str | None:
    """The level in an attribute's column name; None when it is no such name.

    Examples
    --------
    >>> level_of("product.category"), level_of("price")
    ('product', None)
    """
    level, dot, _ = name.partition(".")
    return level if dot and level in LEVELS else None


def merge_tables(tables: list[pl.DataFrame], names: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Bring accepted tables of attributes into one side table.

    A later table wins for a key; where its cell is empty, what an earlier one says stays. In a table by store and
    product, an attribute that is the same for all rows of a product (or of a store) becomes one of the product (or of
    the store): so it is known for a product that a store has never sold.

    Parameters
    ----------
    tables
        As read by :func:`ml.sidetable.check_attributes`: ``store`` and/or ``product``, then attributes.
    names
        What to call each table in a note.

    Returns
    -------
    The side table, and notes on columns whose numbers had to become text.
    """
    parts = [(level, part, name) for table, name in zip(tables, names, strict=True) for level, part in _parts(table)]
    found, notes = [EMPTY], []
    for level, keys in LEVELS.items():
        mine = [(part, name) for of, part, name in parts if of == level]
        if mine:
            whole, told = _stacked([part for part, _ in mine], [name for _, name in mine])
            newest = whole.group_by(keys, maintain_order=True).agg(pl.all().drop_nulls().last())
            found.append(newest.sort(keys))
            notes += told
    return pl.concat(found, how="diagonal"), notes


def _parts(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """One table by level, its attributes renamed to ``<level>.<name>``."""
    keys = [name for name in KEYS if name in table.columns]
    levels = {name: _level(table, name, keys) for name in table.columns if name not in keys}
    parts = []
    for level, of in LEVELS.items():
        mine = {name: f"{level}.{name.translate(_UNNAMEABLE)}" for name, found in levels.items() if found == level}
        if mine:
            parts.append((level, table.select(*of, *mine).rename(mine).unique(maintain_order=True)))
    return parts


def _level(table: pl.DataFrame, name: str, keys: list[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    for level in ("product", "store"):
        if int(table.group_by(level).agg(n=pl.col(name).n_unique())["n"].max() or 0) <= 1:  # type: ignore[arg-type]
            return level
    return "series"


def _stacked(tables: list[pl.DataFrame], names: list[str]) -> tuple[pl.DataFrame, list[str]]:
    aligned, notes = as_text(tables, names)
    return pl.concat(aligned, how="diagonal_relaxed"), notes


@dataclass(frozen=True)
class Attached:
    """A panel with the attributes of its rows; ``static`` names the new columns."""

    frame: pl.DataFrame
    static: tuple[str, ...]
    notes: tuple[str, ...]


def attach(panel: pl.DataFrame, side: pl.DataFrame) -> Attached:
    """Add to each row of a panel the attributes of its store and product: numbers Float32, names Enum.

    An attribute that is the same everywhere, or known for none of the rows, could teach nothing and is left out, with
    a note. Stores and products without attributes get null, with a note; so do keys that the sales do not have.
    """
    series = panel.select(KEYS).unique()
    known = lookup(side).fill(series)
    useful = [name for name in known.columns if level_of(name) and known[name].drop_nulls().n_unique() > 1]
    useful = [name for name in useful if name not in panel.columns]
    left = [name for name in side.columns if level_of(name) and name not in useful]
    notes = [f"{name} is not used: it has the same value, or none, wherever there are sales" for name in left]
    typed = known.select(*KEYS, *(_typed(known[name]) for name in useful))
    notes += _key_notes(series, side)
    if useful:
        panel = panel.join(typed, on=KEYS, how="left", maintain_order="left")
    return Attached(panel, tuple(useful), tuple(notes))


def _typed(values: pl.Series) -> pl.Series:
    """A name costs one small number per row: panels have millions of rows and a handful of names."""
    if values.dtype.is_numeric():
        return values.cast(pl.Float32)
    return values.cast(pl.Enum(values.drop_nulls().unique().sort()))


def _key_notes(series: pl.DataFrame, side: pl.DataFrame) -> list[str]:
    notes = []
    for level, keys in LEVELS.items():
        rows = _of_level(side, level)
        if rows is None:
            continue
        known, sold = rows.select(keys), series.select(keys).unique()
        extra, without = known.join(sold, on=keys, how="anti").height, sold.join(known, on=keys, how="anti").height
        notes += [f"attributes of {extra} {level} keys that no sales have (yet)"] if extra else []
        notes += [f"{without} of {sold.height} {level} keys have no attributes"] if without else []
    return notes


def _of_level(side: pl.DataFrame, level: str) -> pl.DataFrame | None:
    """The rows and columns of one level; None when the side table has none."""
    names = [name for name in side.columns if level_of(name) == level]
    if not names:
        return None
    present = [pl.col(key).is_not_null() if key in LEVELS[level] else pl.col(key).is_null() for key in KEYS]
    return side.filter(present).select(*LEVELS[level], *names)


# ---------------------------------------------------------------- serving


@dataclass(frozen=True)
class Lookup:
    """Attributes by level; ``tables``: level -> frame with that level's keys and attributes."""

    tables: dict[str, pl.DataFrame]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for table in self.tables.values() for name in table.columns if name not in KEYS)

    def fill(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows (with ``store`` and ``product``) in their order, with every attribute; null where it is not known."""
        rows = rows.drop(self.names, strict=False)
        for level, table in self.tables.items():
            rows = rows.join(table, on=LEVELS[level], how="left", maintain_order="left")
        return rows

    def of(self, store: str | None, product: str | None) -> dict[str, Any]:
        """The known attributes of one store, product, or product in a store; a None side is left out.

        Examples
        --------
        >>> side = pl.DataFrame({"store": [None], "product": ["p1"], "product.category": ["milk"]})
        >>> lookup(side).of(None, "p1"), lookup(side).of(None, "p2")
        ({'product.category': 'milk'}, {})
        """
        schema = {"store": pl.String, "product": pl.String}
        row = self.fill(pl.DataFrame({"store": [store], "product": [product]}, schema=schema)).row(0, named=True)
        return {name: value for name, value in row.items() if name not in KEYS and value is not None}


def lookup(*sources: pl.DataFrame | None, names: tuple[str, ...] | None = None) -> Lookup:
    """Attributes of stores, products and series, from side tables or from panels that carry them.

    Parameters
    ----------
    sources
        The first one that knows an attribute of a key is believed. A side table also knows keys that have never sold.
    names
        Attributes wanted, in order of level (default: all there are).
    """
    tables = {}
    for level, keys in LEVELS.items():
        found = [
            part for source in sources if source is not None and (part := _known(source, level, names)) is not None
        ]
        if found:
            whole = pl.concat(found, how="diagonal_relaxed")
            tables[level] = whole.group_by(keys, maintain_order=True).agg(pl.all().drop_nulls().first())
    return Lookup(tables)


def _known(source: pl.DataFrame, level: str, names: tuple[str, ...] | None) -> pl.DataFrame | None:
    if "date" not in source.columns:
        part = _of_level(source, level)
    else:
        mine = [name for name in source.columns if level_of(name) == level]
        part = source.select(*LEVELS[level], *mine).unique(maintain_order=True) if mine else None
    if part is None:
        return None
    kept = [name for name in part.columns if name in LEVELS[level] or names is None or name in names]
    text = [pl.col(name).cast(pl.String) for name in kept if not part.schema[name].is_numeric()]
    return part.select(kept).with_columns(text) if len(kept) > len(LEVELS[level]) else None
