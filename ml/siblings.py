"""What a series without a history of its own borrows from series like it.

*Siblings* are, in this order: the same product in other stores; products of the same store that share the most
attributes with it (all of them where nothing is known of it); any series. The shape (weekday, season, trend, promotion
effect, usual price) is the mean of their features on the same date; the level is theirs, scaled by how much the store
sells beside the stores it was taken from.
"""

from __future__ import annotations

import polars as pl

from ml.features import KEY, SERIES

MOST = 200  # siblings: more change a mean of features no further
UNITS = ("level", "seasonal_naive", "moving_average")
STORE_FEATURES = ("r_store_trend", "r_store_long", "r_store_last_year", "r_store_weekday", "r_store_size")
LEAST_LEVEL = 0.01
ROUNDS = 25  # of proportional fitting; chains whose stores share products are there after three


class Siblings:
    """The known series of one table of history features, as donors for the others.

    Parameters
    ----------
    levels
        ``store, product, level`` in units per period: every series that has a level.
    attributes
        Static attributes per series (``store.…`` and ``product.…``), or only the two keys.
    """

    def __init__(self, levels: pl.DataFrame, attributes: pl.DataFrame) -> None:
        self.levels = levels.filter(pl.col("level").is_not_null())
        self.attributes = attributes
        self.factors = _store_factors(self.levels)

    def borrowed(self, rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        """History features for the rows of new series, one per distinct store, product and date of ``rows``.

        ``table``: :func:`ml.features.history_features` of the donors on the same dates.
        """
        names = [name for name in table.columns if name not in KEY]
        wanted = rows.select(KEY).unique(maintain_order=True)
        pairs = rows.unique(SERIES, maintain_order=True)
        donors = pl.concat([self._donors(pair) for pair in pairs.iter_rows(named=True)])
        found = wanted.join(donors, on=SERIES, how="left")
        theirs = table.rename({"store": "_store", "product": "_product"})
        found = found.join(theirs, on=["_store", "_product", "date"], how="left")
        shares = [pl.col(n).mean() for n in names if n not in (*UNITS, "log_level")]
        # Forecasts in units of the donors, as multiples of their level, so that a large donor decides no more.
        units = [(pl.col(n) / pl.col("level")).mean().alias(n) for n in UNITS[1:]]
        level = pl.col("level").mean() / pl.col("_level").mean() * pl.col("_target").first()
        level = pl.coalesce(level, pl.col("_target").first()).clip(lower_bound=LEAST_LEVEL)
        found = found.group_by(KEY, maintain_order=True).agg(*shares, *units, level.alias("level"))
        found = found.with_columns(pl.col("level").log().alias("log_level"))
        found = found.with_columns((pl.col(n).fill_null(1.0) * pl.col("level")).alias(n) for n in UNITS[1:])
        return _with_store(found, table).select(*KEY, *names)

    def _donors(self, pair: dict[str, object]) -> pl.DataFrame:
        """The siblings of one new series (``_store, _product, _level``) and the level it should have (``_target``)."""
        others = self.levels.filter(pl.any_horizontal(pl.col(name) != pair[name] for name in SERIES))
        donors = others.filter(pl.col("product") == pair["product"])
        if donors.height:
            target = float(donors["level"].sum()) / max(self._factor_sum(donors), LEAST_LEVEL) * self._factor(pair)
        else:
            donors = self._like(others.filter(pl.col("store") == pair["store"]), pair, "product")
            donors = donors if donors.height else self._like(self._like(others, pair, "product"), pair, "store")
            target = float(donors["level"].mean() or 1.0)  # type: ignore[arg-type]
        donors = donors.gather_every(max(1, -(-donors.height // MOST)))
        if donors.is_empty():
            donors = pl.DataFrame([{"store": None, "product": None, "level": None}], schema=self.levels.schema)
        return donors.select(
            pl.lit(pair["store"], pl.String).alias("store"),
            pl.lit(pair["product"], pl.String).alias("product"),
            pl.col("store").alias("_store"),
            pl.col("product").alias("_product"),
            pl.col("level").alias("_level"),
            pl.lit(target, pl.Float64).alias("_target"),
        )

    def _factor_sum(self, donors: pl.DataFrame) -> float:
        return float(donors.join(self.factors, on="store", how="left")["factor"].sum())

    def _factor(self, pair: dict[str, object]) -> float:
        """How much the store sells beside the mean store: its own, that of stores like it, or 1."""
        own = self.factors.filter(pl.col("store") == pair["store"])
        if own.is_empty():
            own = self.factors.join(
                self._like(self.levels, pair, "store").select("store").unique(), on="store", how="semi"
            )
        return float(own["factor"].mean() or 1.0)  # type: ignore[arg-type]

    def _like(self, donors: pl.DataFrame, pair: dict[str, object], kind: str) -> pl.DataFrame:
        """Of the donors those that share the most attributes of this kind with the pair; all, when none is shared."""
        names = [n for n in self.attributes.columns if n.startswith(f"{kind}.") and pair.get(n) is not None]
        if not names or donors.is_empty():
            return donors
        shared = pl.sum_horizontal(pl.col(n).eq(pair[n]).fill_null(False).cast(pl.Int32) for n in names)
        counted = donors.join(self.attributes, on=SERIES, how="left", maintain_order="left").with_columns(
            _shared=shared
        )
        return counted.filter(pl.col("_shared") == pl.col("_shared").max()).select(donors.columns)


def _store_factors(levels: pl.DataFrame) -> pl.DataFrame:
    """How many times the sales of a mean store each one has, product by product.

    The maximum-likelihood fit of level = product × store for Poisson counts, by iterative proportional fitting (Deming
    & Stephan 1940): sums, so that small sellers do no harm, and a product that one store alone sells tells nothing.
    """
    found = levels.with_columns(factor=pl.lit(1.0))
    for _ in range(ROUNDS):
        product = (pl.col("level").sum() / pl.col("factor").sum()).over("product")
        found = found.with_columns(_product=product)
        store = (pl.col("level").sum() / pl.col("_product").sum()).over("store")
        found = found.with_columns(factor=store.fill_nan(1.0).clip(lower_bound=LEAST_LEVEL))
    factors = found.group_by("store", maintain_order=True).agg(pl.col("factor").first())
    return factors.with_columns(pl.col("factor") / pl.col("factor").mean())


def _with_store(found: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """What belongs to the store alone comes from the store itself where it is known."""
    names = [name for name in STORE_FEATURES if name in table.columns]
    own = table.group_by("store", "date").agg(pl.col(name).mean().alias(f"_{name}") for name in names)
    found = found.join(own, on=["store", "date"], how="left", maintain_order="left")
    return found.with_columns(pl.coalesce(f"_{name}", name).alias(name) for name in names)


def levels_of(table: pl.DataFrame) -> pl.DataFrame:
    """The mean level of every series over the dates of a table, in units per period."""
    finite = table.filter(pl.col("level").is_finite())
    return finite.group_by(SERIES, maintain_order=True).agg(pl.col("level").mean())


def attributes_of(state: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """The attributes that each series last had."""
    present = [name for name in names if name in state.columns]
    return state.group_by(SERIES, maintain_order=True).agg(pl.col(name).drop_nulls().last() for name in present)
