"""The one way to get a forecast: bundle + state -> answers. API, jobs, notebook and tests all come through here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ml.attributes import lookup
from ml.bundle import Bundle
from ml.calendar import holiday_flags
from ml.cleaning import begins, series_number, step, usual_price
from ml.closures import NAMES, REACH, closed_days
from ml.encoding import add_codes
from ml.errors import InputError, NotEnoughData
from ml.explain import as_lists, grouped, sentence
from ml.features import (
    DAY_EFFECT,
    KEY,
    OF_YEAR,
    SERIES,
    WINDOWS,
    Columns,
    GroupSales,
    closed_mask,
    history_features,
    known_features,
)
from ml.models import Inputs
from ml.records import LEVELS, Frequency
from ml.siblings import Siblings, attributes_of, levels_of
from ml.splits import block_of
from ml.support import SupportTable, words_of
from ml.training import as_inputs

INPUTS = ("price", "promotion", "holiday")
GOLDEN_ROWS = 24
Array = np.ndarray
FAR_TABLES = 4  # history features of dates beyond the horizon that are kept; each is as large as the horizon's own


def tail_of(panel: pl.DataFrame, frequency: Frequency, horizon: int) -> pl.DataFrame:
    """The recent history that serving needs: the longest window before the oldest row a forecast looks at."""
    periods = WINDOWS[frequency].tail + horizon
    since = panel["date"].max() - step(frequency) * periods  # type: ignore[operator]
    tail = panel.filter(pl.col("date") > since)
    return tail if tail.select(_in_order().all()).item() else tail.sort(KEY)


def _in_order() -> pl.Expr:
    """Whether each row comes after the one before it; to ask takes a fifth of the time that sorting again does."""
    store, product, date = (pl.col(name) for name in KEY)
    before = [column.shift(1) for column in (store, product, date)]
    later = (product > before[1]) | ((product == before[1]) & (date > before[2]))
    return ((store > before[0]) | ((store == before[0]) & later)).fill_null(True)


class Forecaster:
    """Answers rows with a verified bundle and the newest known history.

    Parameters
    ----------
    bundle
        From :func:`ml.bundle.load_bundle`.
    state
        Cleaned panel newer than the bundle's own (same columns); None uses the bundle's.
    attributes
        Side table of static attributes newer than the bundle's own (see :mod:`ml.attributes`); None uses the bundle's.
    """

    def __init__(
        self, bundle: Bundle, state: pl.DataFrame | None = None, attributes: pl.DataFrame | None = None
    ) -> None:
        m = bundle.manifest
        self.bundle, self.manifest = bundle, m
        self.frequency, self.horizon, self.unit = m.frequency, m.horizon, m.unit
        self.columns = Columns(
            price="price" in m.derived,
            promotion="promotion" in m.derived,
            regressors=tuple(r for r in m.regressors if f"{r}_code" not in m.features),
            text=tuple(r for r in m.regressors if f"{r}_code" in m.features),
            closed_when=tuple(sorted(m.closed_when.items())),
            static=tuple(name for name in m.static if f"{name}_code" not in m.features),
            static_text=tuple(name for name in m.static if f"{name}_code" in m.features),
            yearly=OF_YEAR[0] in m.features,
        )
        state = bundle.state if state is None else state
        side = bundle.attributes if attributes is None else attributes
        self.attributes = lookup(side, state, names=m.static)
        self.state = self._with_attributes(self._fitting(state))
        self.origin: dt.date = self.state["date"].max()  # type: ignore[assignment]

    @property
    def inputs(self) -> list[str]:
        """The columns known in advance that this model uses."""
        used = [name for name in ("price", "promotion") if getattr(self.columns, name)]
        return [*used, "holiday", *self.manifest.regressors]

    def _fitting(self, state: pl.DataFrame) -> pl.DataFrame:
        """The state with the columns the model was trained on: what the data no longer has is unknown."""
        wanted = [*KEY, "sales", *self.inputs]
        missing = [pl.lit(None, _dtype(name, self.columns)).alias(name) for name in wanted if name not in state.columns]
        tail = tail_of(state.with_columns(missing).select(wanted), self.frequency, self.horizon)
        return tail.with_columns(pl.col(name).cast(_dtype(name, self.columns)) for name in self.inputs)

    def _with_attributes(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What is known of the rows' stores and products, also of those that have never sold."""
        rows = self.attributes.fill(rows)
        names = self.manifest.static
        rows = rows.with_columns(pl.lit(None).alias(name) for name in names if name not in rows.columns)
        return rows.with_columns(pl.col(name).cast(_dtype(name, self.columns), strict=False) for name in names)

    # -- what is there to forecast

    @cached_property
    def _latest(self) -> pl.DataFrame:
        """One row per series that is still sold: its last known inputs."""
        last = self.state.group_by(SERIES, maintain_order=True).last()
        return last.filter(pl.col("date") == self.origin)

    def catalog(self) -> pl.DataFrame:
        """Series that can be asked for: ``store, product, date_from, date_to, rows, mean_sales, last_price``."""
        sold = self.state.filter(pl.col("sales").is_not_null())
        return sold.group_by(SERIES, maintain_order=True).agg(
            date_from=pl.col("date").min(),
            date_to=pl.col("date").max(),
            rows=pl.len().cast(pl.Int64),
            mean_sales=pl.col("sales").mean(),
            last_price=usual_price(self.inputs),
        )

    def next_days(self, stores: list[str], products: list[str], horizon: int | None = None) -> pl.DataFrame:
        """Rows for the next ``horizon`` periods of the chosen series (empty list: all), inputs prefilled."""
        chosen = self._latest.select(SERIES)
        if stores:
            chosen = chosen.filter(pl.col("store").is_in(stores))
        if products:
            chosen = chosen.filter(pl.col("product").is_in(products))
        one = step(self.frequency)
        dates = [self.origin + one * k for k in range(1, (horizon or self.horizon) + 1)]
        rows = chosen.join(pl.DataFrame({"date": dates}, schema={"date": pl.Date}), how="cross")
        return self._prefilled(rows)

    # -- inputs

    def _prefilled(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Fill what the caller left out: usual price, no promotion, calendar, regressors as a week ago."""
        missing = [
            pl.lit(None, _dtype(name, self.columns)).alias(name) for name in self.inputs if name not in rows.columns
        ]
        rows = rows.with_columns(missing).with_columns(pl.col(n).cast(_dtype(n, self.columns)) for n in self.inputs)
        flags = holiday_flags(rows["date"], self.manifest.country).rename({"holiday": "_flag"})
        rows = rows.join(flags, on="date", how="left", maintain_order="left")
        rows = rows.with_columns(pl.coalesce("holiday", "_flag").cast(pl.Int8).alias("holiday")).drop("_flag")
        if self.columns.promotion:
            rows = rows.with_columns(pl.col("promotion").fill_null(0.0))
        if self.columns.price:
            rows = self._with_last_price(rows)
        return self._with_attributes(self._with_last_week(rows))

    def _with_last_price(self, rows: pl.DataFrame) -> pl.DataFrame:
        if not rows["price"].null_count():
            return rows
        last, product = self._last_prices
        rows = rows.join(last, on=SERIES, how="left", maintain_order="left")
        rows = rows.join(product, on="product", how="left", maintain_order="left")
        return rows.with_columns(price=pl.coalesce("price", "_last", "_sibling")).drop("_last", "_sibling")

    @cached_property
    def _last_prices(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Of each series, and the median of them for each product."""
        last = self.state.filter(pl.col("price").is_not_null()).group_by(SERIES).agg(_last=usual_price(self.inputs))
        return last, last.group_by("product").agg(_sibling=pl.col("_last").median())

    def _with_last_week(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Regressors that were not given are taken from the same weekday of the last known week."""
        names = list(self.manifest.regressors)
        if not names or not any(rows[name].null_count() for name in names):
            return rows
        days = 7 if self.frequency == "D" else 7 * WINDOWS["W"].year
        ahead = (pl.col("date") - pl.lit(self.origin)).dt.total_days()
        back = ((ahead - 1) // days + 1).clip(lower_bound=0) * days
        rows = rows.with_columns(_past=(pl.col("date") - pl.duration(days=back)).cast(pl.Date))
        past = self.state.filter(pl.col("date").is_between(rows["_past"].min(), rows["_past"].max()))
        past = past.select(*SERIES, pl.col("date").alias("_past"), *(pl.col(n).alias(f"_{n}") for n in names))
        rows = rows.join(past, on=[*SERIES, "_past"], how="left", maintain_order="left")
        filled = [pl.coalesce(n, f"_{n}").alias(n) for n in names]
        return rows.with_columns(filled).drop("_past", *(f"_{n}" for n in names))

    def _with_closures(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add what is closed around each row: as known, as the other rows plan it, else as in the last known week."""
        if NAMES[0] not in self.manifest.features:
            return rows
        names, reach = [name for name, _ in self.columns.closed_when], dt.timedelta(days=REACH)
        asked = rows.select(*KEY, *names).unique(KEY, keep="last")
        first: dt.date = rows["date"].min() - 2 * reach  # type: ignore[assignment, operator]
        last: dt.date = rows["date"].max() + reach  # type: ignore[assignment, operator]
        days = asked.select(SERIES).unique().join(pl.select(date=pl.date_range(first, last)), how="cross")
        known = self.state.filter(pl.col("date") >= first).select(*KEY, *names)
        days = days.join(asked, on=KEY, how="left").join(known, on=KEY, how="left", suffix="_known")
        days = days.with_columns(pl.coalesce(name, f"{name}_known") for name in names)
        others = [pl.lit(None).alias(name) for name in self.manifest.regressors if name not in names]
        days = self._with_last_week(days.with_columns(others)).sort(KEY)
        around = closed_days(days, closed_mask(self.columns)).select(*KEY, *NAMES)
        return rows.join(around, on=KEY, how="left", maintain_order="left")

    # -- forecast

    @cached_property
    def _prepared(self) -> dict[int, pl.DataFrame]:
        """History features of every series for every date of the horizon, per block; asked rows only join them."""
        return self._prepared_of(self._continued(self.state, self.horizon), None)

    def _prepared_of(self, panel: pl.DataFrame, groups: GroupSales | None) -> dict[int, pl.DataFrame]:
        groups = groups or GroupSales.of(panel, self.frequency, self.columns)
        return {
            block: history_features(panel, block, self.frequency, self.columns, groups, after=self.origin)
            for block in self.manifest.recipe.blocks
        }

    def usual(self, rows: pl.DataFrame) -> pl.Series:
        """Which rows need nothing but the history of their own series: sold now, and a date within the horizon."""
        sold = rows.select(SERIES).join(self._latest.select(*SERIES, _sold=pl.lit(True)), on=SERIES, how="left",
                                        maintain_order="left")["_sold"]  # fmt: skip
        last = self.origin + step(self.frequency) * self.horizon
        return sold.fill_null(False) & rows["date"].is_between(self.origin, last, closed="right")

    def groups(self) -> GroupSales:
        """Sales of groups over the known history and the horizon: the same for every part of the series."""
        return GroupSales.of(self._continued(self.state, self.horizon), self.frequency, self.columns)

    def told(self) -> Forecaster:
        """Without what only the bundle's own files need: to be sent elsewhere."""
        light = copy(self)
        light.bundle = replace(self.bundle, state=self.bundle.state.clear(), golden=[])
        return light

    def of_series(self, state: pl.DataFrame, groups: GroupSales) -> Forecaster:
        """For :meth:`usual` rows of some series only: ``state`` is theirs, ``groups`` those of all."""
        _ = self._support, self._known, self._last_prices if self.columns.price else None  # made once for all parts
        part = copy(self)
        part.__dict__["_prepared"] = self._prepared_of(self._continued(state, self.horizon), groups)
        return part

    def _continued(self, state: pl.DataFrame, periods: int) -> pl.DataFrame:
        """A state and so many periods of every series that is still sold, sorted as a panel is.

        By the number of the series, for sorting millions of names takes longer than all their features.
        """
        state = state.with_columns(_number=series_number())
        numbers = state.filter(pl.col("date") == self.origin).select(*SERIES, "_number")
        future = self._future(numbers.select(SERIES), periods)
        future = future.join(numbers, on=SERIES, how="left", maintain_order="left")
        return pl.concat([state, future], how="diagonal").sort("_number", maintain_order=True).drop("_number")

    def _future(self, series: pl.DataFrame, periods: int) -> pl.DataFrame:
        one = step(self.frequency)
        dates = [self.origin + one * k for k in range(1, periods + 1)]
        rows = series.join(pl.DataFrame({"date": dates}, schema={"date": pl.Date}), how="cross")
        return rows.with_columns(
            pl.lit(None, self.state.schema[name]).alias(name) for name in self.state.columns if name not in KEY
        )

    def _history(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add block and history features to rows: from the prepared table, or computed for unusual dates.

        Each row is answered by its own distance to the origin, whatever else is asked beside it.
        """
        ahead = ((pl.col("date") - pl.lit(self.origin)).dt.total_days() / step(self.frequency).days).ceil()
        rows = rows.with_columns(ahead=ahead.cast(pl.Int64))
        blocks = self.manifest.recipe.blocks
        values = rows["ahead"].to_list()
        found = {a: (block_of(a, blocks), self._offset(a)) for a in set(values)}
        rows = rows.with_columns(
            block=pl.Series([found[a][0] for a in values], dtype=pl.Int64),
            _offset=pl.Series([found[a][1] for a in values], dtype=pl.Int64),
        )
        parts = []
        for (block, offset), part in rows.group_by("block", "_offset", maintain_order=True):
            table = self._table(int(block), int(offset), part)
            joined = part.drop("_offset").join(table, on=KEY, how="left", maintain_order="left")
            parts.append(self._with_siblings(joined, table))
        return pl.concat(parts).sort("_row")

    def _offset(self, ahead: int) -> int:
        """How far back the newest sale lies that a row beyond the horizon may use; 0 within it, -1 for the past.

        Quarters of the horizon in whole seasons, further out whole horizons, so that many dates share one table.
        """
        if ahead < 1:
            return -1
        if ahead <= self.horizon:
            return 0
        w = WINDOWS[self.frequency]
        furthest = w.tail // w.season * w.season
        if ahead > furthest:
            limit = self.origin + step(self.frequency) * furthest
            raise InputError(f"The date lies too far ahead: the history answers dates up to {limit}.", field="date")
        reach = self.horizon if ahead > 2 * self.horizon else -(-self.horizon // 4)
        wide = -(-reach // w.season) * w.season
        return min(-(-ahead // wide) * wide, furthest)

    def _table(self, block: int, offset: int, part: pl.DataFrame) -> pl.DataFrame:
        if offset == 0:
            return self._prepared[block]
        if offset > 0:
            return self._far(offset)
        found = history_features(self.state, block, self.frequency, self.columns)
        return found.join(part.select("date").unique(), on="date", how="semi")

    def _far(self, offset: int) -> pl.DataFrame:
        """History features for dates beyond the horizon, up to ``offset`` periods ahead; a few are kept."""
        if offset not in self._kept:
            beyond = self.origin + step(self.frequency) * self.horizon
            found = history_features(
                self._continued(self.state, offset), offset, self.frequency, self.columns, after=beyond
            )
            while len(self._kept) >= FAR_TABLES:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[offset] = found
        return self._kept[offset]

    @cached_property
    def _kept(self) -> dict[int, pl.DataFrame]:
        return {}

    # -- series without a history

    @cached_property
    def _siblings(self) -> Siblings:
        """Who can lend; one set for all dates, so that a row's answer does not depend on its company."""
        static = (*self.columns.static, *self.columns.static_text)
        return Siblings(levels_of(self._prepared[self.manifest.recipe.blocks[-1]]), attributes_of(self.state, static))

    def _with_siblings(self, rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        """Rows of series that are not sold now get their history features from series like them."""
        rows = rows.with_columns(_borrows=pl.col("level").is_null())
        if not rows["_borrows"].any():
            return rows
        names = [name for name in table.columns if name not in KEY]
        lacking = rows.filter("_borrows").drop(names)
        lent = self._siblings.borrowed(lacking, table)
        lent = lent.with_columns(pl.col(name).cast(table.schema[name]) for name in names)
        lacking = lacking.join(lent, on=KEY, how="left", maintain_order="left").select(rows.columns)
        return pl.concat([rows.filter(~pl.col("_borrows")), lacking])

    def forecast(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Forecast rows, in their order.

        Parameters
        ----------
        rows
            ``date, store, product`` and any of the inputs; null or missing inputs are filled with what is known.

        Returns
        -------
        The keys and inputs as used, plus ``prediction`` and ``low_80, high_80, low_95, high_95`` in units per period,
        ``similar_days`` and ``similar_sibling_days`` (Int64), ``outside`` (inputs beyond what was seen, see
        :mod:`ml.support`), ``ahead`` and ``block`` (periods) and ``warnings`` (codes, see :meth:`_flags`).
        """
        full = self._featured(rows)
        point = self._predict(full)
        bounds = self.bundle.intervals.bounds(point, full["block"].to_numpy())
        shut = full["_shut"].to_numpy()
        out = full.select("_row", "date", *SERIES, *self.inputs, "ahead", "block", "asked_date", "_borrows")
        out = out.with_columns(pl.Series("prediction", np.where(shut, 0.0, point)), pl.Series("closed", shut))
        for level in LEVELS:
            low, high = bounds[level]
            out = out.with_columns(
                pl.Series(f"low_{level}", np.where(shut, 0.0, low)),
                pl.Series(f"high_{level}", np.where(shut, 0.0, high)),
            )
        return self._finished(out)

    def totals(self, forecast: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
        """Totals of forecast rows per group, with intervals of the sums.

        Parameters
        ----------
        forecast
            The result of :meth:`forecast`, or any frame with ``date, store, product, prediction`` and, as far as
            they are there, ``low_80 … high_95``; one row per date, store and product.
        by
            Columns that make a group: ``date``, ``week`` (the Monday of the calendar week), ``store``, ``product`` or
            any other column; none for one total of everything.

        Returns
        -------
        One row per group: ``by``, ``prediction`` and ``low_80, high_80, low_95, high_95``, in units.

        Raises
        ------
        NotEnoughData
            The model was trained before bundles kept what intervals of totals need.
        """
        if self.bundle.sums is None:
            raise NotEnoughData("This model has no intervals of totals: run retrain_sales_model once.")
        ahead = ((pl.col("date") - pl.lit(self.origin)).dt.total_days() / step(self.frequency).days).ceil()
        rows = forecast.with_columns(ahead=ahead.cast(pl.Int64), week=pl.col("date").dt.truncate("1w"))
        blocks = [block_of(a, self.manifest.recipe.blocks) for a in rows["ahead"].to_list()]
        return self.bundle.sums.bounds(rows.with_columns(block=pl.Series(blocks, dtype=pl.Int64)), by)

    def _featured(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with all features, in their order; ``_row`` counts them, ``_shut`` marks those that never sell."""
        keyed = rows.select([c for c in (*KEY, *self.inputs) if c in rows.columns]).with_row_index("_row")
        full = self._history(self._with_closures(self._prefilled(self._snapped(keyed))))
        full = add_codes(full, self.manifest.encoding)
        full = known_features(full, self.frequency, self.columns, self.manifest.country).sort("_row")
        if self.bundle.days is not None:
            full = full.with_columns(self.bundle.days.of(full).alias(DAY_EFFECT))
        return full.with_columns(_shut=closed_mask(self.columns))

    def planned(self) -> pl.DataFrame:
        """All features of every series that is sold now and each period of the horizon, where nothing else is said.

        Series by series in the order of the dates, with what :meth:`_featured` adds.
        """
        return self._featured(self.next_days([], []).select(KEY))

    @property
    def support(self) -> SupportTable:
        return self._support

    def inputs_of(self, rows: pl.DataFrame) -> dict[int, tuple[Array, Inputs]]:
        """What the model is given for rows: per block the positions of its rows and their inputs."""
        return self._by_block(self._featured(rows))

    def _by_block(self, full: pl.DataFrame) -> dict[int, tuple[Array, Inputs]]:
        found = {}
        for block in self.manifest.recipe.blocks:
            mine = (full["block"] == block).to_numpy()
            if mine.any():
                part = full.filter(pl.Series(mine))
                found[block] = (np.flatnonzero(mine), as_inputs(part, list(self.manifest.features)))
        return found

    def explain(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Say why each row gets its forecast, in units that add up to it.

        Parameters
        ----------
        rows
            As for :meth:`forecast`. Trees take about 2 ms per row.

        Returns
        -------
        ``date, store, product``, ``prediction`` as :meth:`forecast` gives it, ``base`` (the level of the series' recent
        sales) and ``contributions`` (a list of ``group, units``, the largest first; see :mod:`ml.explain`), which
        add up to the prediction; ``sentence`` the code of what to say. On a closed day the one contribution is
        ``closed``.
        """
        full = self._featured(rows)
        base, parts = np.zeros(full.height), np.zeros((full.height, len(self.manifest.features) + 1))
        for block, (index, inputs) in self._by_block(full).items():
            base[index], parts[index] = self.bundle.model.contributions(block, inputs)
        shut = full["_shut"].to_numpy()
        static = (*self.columns.static, *self.columns.static_text)
        groups = grouped(parts, self.manifest.features, (*self.manifest.regressors, *static))
        groups = {name: np.where(shut, 0.0, values) for name, values in groups.items()}
        groups |= {"closed": np.where(shut, -base, 0.0)} if shut.any() else {}
        out = full.select(pl.col("asked_date").alias("date"), *SERIES, pl.Series("base", base))
        point = np.where(shut, 0.0, self._predict(full))
        out = out.with_columns(pl.Series("prediction", point), as_lists(groups))
        codes = [
            "closed" if closed else sentence(b, p, items)
            for b, p, items, closed in zip(base, point, out["contributions"].to_list(), shut, strict=True)
        ]
        return out.with_columns(sentence=pl.Series(codes, dtype=pl.String))

    def _snapped(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Weekly data is answered for the week (its anchor weekday) that holds the asked date."""
        rows = rows.with_columns(asked_date=pl.col("date"))
        if self.frequency == "D":
            return rows
        gap = (pl.col("date") - pl.lit(self.origin)).dt.total_days()
        weeks = (gap / 7).ceil().cast(pl.Int64)
        return rows.with_columns(date=pl.lit(self.origin) + pl.duration(days=weeks * 7))

    def _predict(self, full: pl.DataFrame) -> Array:
        point = np.zeros(full.height)
        for block, (index, inputs) in self._by_block(full).items():
            point[index] = self.bundle.model.predict(block, inputs)
        return point

    # -- support and warnings

    @cached_property
    def _support(self) -> SupportTable:
        return SupportTable(self.state, self.columns)

    @cached_property
    def _known(self) -> pl.DataFrame:
        return self.state.filter(begins()).select(SERIES)

    def _finished(self, out: pl.DataFrame) -> pl.DataFrame:
        known = self._known.with_columns(_known=pl.lit(True))
        out = out.join(known, on=SERIES, how="left", maintain_order="left")
        out = out.hstack([*self._support.similar(out), self._support.outside(out)])
        out = out.with_columns(warnings=self._warnings(out))
        return out.with_columns(date=pl.col("asked_date")).drop("_row", "asked_date", "_borrows", "_known", "closed")

    def _warnings(self, out: pl.DataFrame) -> pl.Series:
        """Codes per row, in the order of the flags."""
        return words_of(out.select(mask.alias(code) for code, mask in self._flags().items()))

    def _flags(self) -> dict[str, pl.Expr]:
        """Each warning and the rows it stands at."""
        new = pl.col("_known").is_null()
        outside = pl.col("outside")
        return {
            "new_series": new,
            "ended_series": pl.col("_borrows") & ~new & (pl.col("ahead") > 0),
            "unseen_in_training": ~self.trained_on() & ~new,
            "past_date": pl.col("ahead") < 1,
            "beyond_horizon": pl.col("ahead") > self.horizon,
            "closed": pl.col("closed"),
            "off_calendar": pl.col("asked_date") != pl.col("date"),
            "no_similar_days": (pl.col("similar_days") == 0) & (pl.col("similar_sibling_days") == 0) & ~new,
            "siblings_only": (pl.col("similar_days") == 0) & (pl.col("similar_sibling_days") > 0) & ~new,
            "price_outside": outside.list.contains("price"),
            "promotion_outside": outside.list.contains("promotion"),
            "regressor_outside": outside.list.set_difference(pl.lit(["price", "promotion"])).list.len() > 0,
        }

    def trained_on(self) -> pl.Expr:
        """Whether the model has learned from the row's store and product, or only their newest history is known."""
        known = self.manifest.encoding.categories
        return pl.all_horizontal(pl.col(name).is_in(list(known[name])) for name in SERIES)

    # -- proof that a loaded bundle is the one that was written

    def golden_rows(self) -> list[dict[str, Any]]:
        """Rows over the horizon with their answers, to be written into the bundle."""
        rows = self.next_days([], [])
        every = max(1, rows.height // GOLDEN_ROWS)
        answered = self.forecast(rows.gather_every(every).head(GOLDEN_ROWS))
        return answered.select(*KEY, *self.inputs, "prediction", "low_80", "high_95").to_dicts()

    def check_golden(self) -> float:
        """Largest difference to the golden answers, in units, or in hundredths of an answer above 100 units, which
        single precision knows no better; the bundle's own state must be in use."""
        if not self.bundle.golden:
            return 0.0
        golden = pl.DataFrame(self.bundle.golden, infer_schema_length=None).with_columns(pl.col("date").str.to_date())
        answered = self.forecast(golden.select(*KEY, *self.inputs))
        return max(
            float(((answered[name] - golden[name]).abs() / (golden[name].abs() / 100).clip(1.0)).max() or 0.0)  # type: ignore[arg-type]
            for name in ("prediction", "low_80", "high_95")
        )


def _dtype(name: str, columns: Columns) -> Any:
    if name in (*columns.text, *columns.static_text):
        return pl.String
    return {"holiday": pl.Int8, "date": pl.Date, "store": pl.String, "product": pl.String}.get(name, pl.Float64)
