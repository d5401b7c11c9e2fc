"""The one way to get a forecast: bundle + state -> answers. API, jobs, notebook and tests all come through here."""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ml.bundle import Bundle
from ml.calendar import holiday_flags
from ml.cleaning import step
from ml.encoding import add_codes
from ml.errors import InputError
from ml.features import KEY, SERIES, WINDOWS, Columns, closed_mask, history_features, known_features
from ml.records import LEVELS, Frequency
from ml.splits import block_of
from ml.training import as_inputs

SIMILAR_PRICE = 0.10  # a past price within 10 % counts as the same price
INPUTS = ("price", "promotion", "holiday")
GOLDEN_ROWS = 24


def tail_of(panel: pl.DataFrame, frequency: Frequency, horizon: int) -> pl.DataFrame:
    """The recent history that serving needs: the longest window before the oldest row a forecast looks at."""
    periods = WINDOWS[frequency].tail + horizon
    since = panel["date"].max() - step(frequency) * periods  # type: ignore[operator]
    return panel.filter(pl.col("date") > since).sort(KEY)


class Forecaster:
    """Answers rows with a verified bundle and the newest known history.

    Parameters
    ----------
    bundle
        From :func:`ml.bundle.load_bundle`.
    state
        Cleaned panel newer than the bundle's own (same columns); None uses the bundle's.
    """

    def __init__(self, bundle: Bundle, state: pl.DataFrame | None = None) -> None:
        m = bundle.manifest
        self.bundle, self.manifest = bundle, m
        self.frequency, self.horizon, self.unit = m.frequency, m.horizon, m.unit
        self.columns = Columns(
            price="price" in m.derived,
            promotion="promotion" in m.derived,
            regressors=tuple(r for r in m.regressors if f"{r}_code" not in m.features),
            text=tuple(r for r in m.regressors if f"{r}_code" in m.features),
            closed_when=tuple(sorted(m.closed_when.items())),
        )
        self.state = self._fitting(bundle.state if state is None else state)
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

    # -- what is there to forecast

    @cached_property
    def _latest(self) -> pl.DataFrame:
        """One row per series that is still sold: its last known inputs."""
        last = self.state.sort(KEY).group_by(SERIES, maintain_order=True).last()
        return last.filter(pl.col("date") == self.origin)

    def catalog(self) -> pl.DataFrame:
        """Series that can be asked for: ``store, product, date_from, date_to, rows, mean_sales, last_price``."""
        price = pl.col("price") if self.columns.price else pl.lit(None, pl.Float64).alias("price")
        sold = self.state.filter(pl.col("sales").is_not_null())
        return sold.group_by(SERIES, maintain_order=True).agg(
            date_from=pl.col("date").min(),
            date_to=pl.col("date").max(),
            rows=pl.len().cast(pl.Int64),
            mean_sales=pl.col("sales").mean(),
            last_price=price.last(),
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
        """Fill what the caller left out: last price, no promotion, calendar, regressors as a week ago."""
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
        return self._with_last_week(rows)

    def _with_last_price(self, rows: pl.DataFrame) -> pl.DataFrame:
        last = self.state.filter(pl.col("price").is_not_null()).group_by(SERIES).agg(_last=pl.col("price").last())
        product = last.group_by("product").agg(_sibling=pl.col("_last").median())
        rows = rows.join(last, on=SERIES, how="left", maintain_order="left")
        rows = rows.join(product, on="product", how="left", maintain_order="left")
        return rows.with_columns(price=pl.coalesce("price", "_last", "_sibling")).drop("_last", "_sibling")

    def _with_last_week(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Regressors that were not given are taken from the same weekday of the last known week."""
        names = list(self.manifest.regressors)
        if not names or not any(rows[name].null_count() for name in names):
            return rows
        days = 7 if self.frequency == "D" else 7 * WINDOWS["W"].year
        ahead = (pl.col("date") - pl.lit(self.origin)).dt.total_days()
        back = ((ahead - 1) // days + 1).clip(lower_bound=0) * days
        past = self.state.select(*SERIES, pl.col("date").alias("_past"), *(pl.col(n).alias(f"_{n}") for n in names))
        rows = rows.with_columns(_past=(pl.col("date") - pl.duration(days=back)).cast(pl.Date))
        rows = rows.join(past, on=[*SERIES, "_past"], how="left", maintain_order="left")
        filled = [pl.coalesce(n, f"_{n}").alias(n) for n in names]
        return rows.with_columns(filled).drop("_past", *(f"_{n}" for n in names))

    # -- forecast

    @cached_property
    def _prepared(self) -> dict[int, pl.DataFrame]:
        """History features of every series for every date of the horizon, per block; asked rows only join them."""
        future = self._future(self._latest.select(SERIES), self.horizon)
        panel = pl.concat([self.state, future], how="diagonal").sort(KEY)
        return {
            block: history_features(panel, block, self.frequency, self.columns).filter(pl.col("date") > self.origin)
            for block in self.manifest.recipe.blocks
        }

    def _future(self, series: pl.DataFrame, periods: int) -> pl.DataFrame:
        one = step(self.frequency)
        dates = [self.origin + one * k for k in range(1, periods + 1)]
        rows = series.join(pl.DataFrame({"date": dates}, schema={"date": pl.Date}), how="cross")
        return rows.with_columns(
            pl.lit(None, self.state.schema[name]).alias(name) for name in self.state.columns if name not in KEY
        )

    def _history(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add block and history features to rows: from the prepared table, or computed for unusual dates."""
        ahead = ((pl.col("date") - pl.lit(self.origin)).dt.total_days() / step(self.frequency).days).ceil()
        rows = rows.with_columns(ahead=ahead.cast(pl.Int64))
        blocks = self.manifest.recipe.blocks
        values = rows["ahead"].to_list()
        rows = rows.with_columns(block=pl.Series([block_of(a, blocks) for a in values], dtype=pl.Int64))
        parts = []
        for (block, usual), part in rows.group_by("block", pl.col("ahead").is_between(1, self.horizon)):
            table = self._prepared[int(block)] if usual else self._unusual(part, int(block))
            parts.append(part.join(table, on=KEY, how="left"))
        return pl.concat(parts).sort("_row")

    def _unusual(self, part: pl.DataFrame, block: int) -> pl.DataFrame:
        """History features for dates before the origin or beyond the horizon.

        Beyond it the offset grows so that only known sales are used; the longest block's model answers.
        """
        season = WINDOWS[self.frequency].season
        furthest = max(int(part["ahead"].max()), 0)  # type: ignore[arg-type]
        offset = max(block, -(-furthest // season) * season)
        if offset > WINDOWS[self.frequency].tail:
            limit = self.origin + step(self.frequency) * WINDOWS[self.frequency].tail
            raise InputError(f"The date lies too far ahead: the history answers dates up to {limit}.", field="date")
        future = self._future(self._latest.select(SERIES), furthest)
        panel = pl.concat([self.state, future], how="diagonal").sort(KEY)
        found = history_features(panel, offset, self.frequency, self.columns)
        return found.join(part.select(KEY).unique(), on=KEY, how="semi")

    def forecast(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Forecast rows, in their order.

        Parameters
        ----------
        rows
            ``date, store, product`` and any of the inputs; null or missing inputs are filled with what is known.

        Returns
        -------
        The keys and inputs as used, plus ``prediction`` and ``low_80, high_80, low_95, high_95`` in units per period,
        ``similar_days`` (Int64), ``ahead`` and ``block`` (periods) and ``warnings`` (codes: ``new_series``,
        ``unseen_in_training``, ``past_date``, ``beyond_horizon``, ``closed``, ``off_calendar``, ``no_similar_days``).
        """
        keyed = rows.select([c for c in (*KEY, *self.inputs) if c in rows.columns]).with_row_index("_row")
        keyed = self._snapped(keyed)
        full = self._history(self._prefilled(keyed))
        full = self._with_fallback_level(full)
        full = known_features(
            add_codes(full, self.manifest.encoding), self.frequency, self.columns, self.manifest.country
        ).sort("_row")
        point = self._predict(full)
        bounds = self.bundle.intervals.bounds(point, full["block"].to_numpy())
        shut = full.with_columns(_shut=closed_mask(self.columns))["_shut"].to_numpy()
        out = full.select("_row", "date", *SERIES, *self.inputs, "ahead", "block", "asked_date", "is_new")
        out = out.with_columns(pl.Series("prediction", np.where(shut, 0.0, point)), pl.Series("closed", shut))
        for level in LEVELS:
            low, high = bounds[level]
            out = out.with_columns(
                pl.Series(f"low_{level}", np.where(shut, 0.0, low)),
                pl.Series(f"high_{level}", np.where(shut, 0.0, high)),
            )
        return self._finished(out)

    def _snapped(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Weekly data is answered for the week (its anchor weekday) that holds the asked date."""
        rows = rows.with_columns(asked_date=pl.col("date"))
        if self.frequency == "D":
            return rows
        gap = (pl.col("date") - pl.lit(self.origin)).dt.total_days()
        weeks = (gap / 7).ceil().cast(pl.Int64)
        return rows.with_columns(date=pl.lit(self.origin) + pl.duration(days=weeks * 7))

    def _predict(self, full: pl.DataFrame) -> np.ndarray:
        point = np.zeros(full.height)
        for block in self.manifest.recipe.blocks:
            mine = (full["block"] == block).to_numpy()
            if mine.any():
                part = full.filter(pl.Series(mine))
                point[mine] = self.bundle.model.predict(block, as_inputs(part, list(self.manifest.features)))
        return point

    def _with_fallback_level(self, full: pl.DataFrame) -> pl.DataFrame:
        """A series without history starts at the level of its product in other stores, or of its store."""
        full = full.with_columns(is_new=pl.col("level").is_null())
        if not full["is_new"].any():
            return full
        levels = self.state.group_by(SERIES).agg(_l=pl.col("sales").tail(WINDOWS[self.frequency].level).mean())
        product = levels.group_by("product").agg(_p=pl.col("_l").mean())
        store = levels.group_by("store").agg(_s=pl.col("_l").mean())
        full = full.join(product, on="product", how="left", maintain_order="left")
        full = full.join(store, on="store", how="left", maintain_order="left")
        overall = float(levels["_l"].mean() or 1.0)  # type: ignore[arg-type]
        level = pl.coalesce("level", "_p", "_s", pl.lit(overall)).clip(lower_bound=0.01)
        full = full.with_columns(level=level, log_level=level.log())
        naive = [pl.coalesce(name, "level").alias(name) for name in ("seasonal_naive", "moving_average")]
        return full.with_columns(naive).drop("_p", "_s")

    # -- support and warnings

    def _finished(self, out: pl.DataFrame) -> pl.DataFrame:
        out = out.join(self._similar(out), on="_row", how="left", maintain_order="left")
        out = out.with_columns(pl.col("similar_days").fill_null(0).cast(pl.Int64))
        flags = {
            "new_series": pl.col("is_new"),
            "unseen_in_training": ~self._trained_on() & ~pl.col("is_new"),
            "past_date": pl.col("ahead") < 1,
            "beyond_horizon": pl.col("ahead") > self.horizon,
            "closed": pl.col("closed"),
            "off_calendar": pl.col("asked_date") != pl.col("date"),
            "no_similar_days": (pl.col("similar_days") == 0) & ~pl.col("is_new"),
        }
        codes = [pl.when(mask.fill_null(False)).then(pl.lit(code)) for code, mask in flags.items()]
        out = out.with_columns(warnings=pl.concat_list(codes).list.drop_nulls())
        return out.with_columns(date=pl.col("asked_date")).drop("_row", "asked_date", "is_new", "closed")

    def _trained_on(self) -> pl.Expr:
        """Whether the model has learned from the row's store and product, or only their newest history is known."""
        known = self.manifest.encoding.categories
        return pl.all_horizontal(pl.col(name).is_in(list(known[name])) for name in SERIES)

    def _similar(self, out: pl.DataFrame) -> pl.DataFrame:
        """How many past periods of the series had the same promotion state and a price within 10 %."""
        used = [name for name in ("price", "promotion") if getattr(self.columns, name)]
        past = self.state.filter(pl.col("sales").is_not_null() & ~closed_mask(self.columns))
        past = past.select(*SERIES, *(pl.col(name).alias(f"_{name}") for name in used))
        pairs = out.select("_row", *SERIES, *used).join(past, on=SERIES, how="inner")
        if "promotion" in used:
            pairs = pairs.filter((pl.col("promotion") > 0) == (pl.col("_promotion") > 0))
        if "price" in used:
            near = (pl.col("price") / pl.col("_price") - 1).abs() <= SIMILAR_PRICE
            pairs = pairs.filter(near.fill_null(True))
        return pairs.group_by("_row").agg(similar_days=pl.len())

    # -- proof that a loaded bundle is the one that was written

    def golden_rows(self) -> list[dict[str, Any]]:
        """Rows over the horizon with their answers, to be written into the bundle."""
        rows = self.next_days([], [])
        every = max(1, rows.height // GOLDEN_ROWS)
        answered = self.forecast(rows.gather_every(every).head(GOLDEN_ROWS))
        return answered.select(*KEY, *self.inputs, "prediction", "low_80", "high_95").to_dicts()

    def check_golden(self) -> float:
        """Largest absolute difference to the golden answers, in units; the bundle's own state must be in use."""
        if not self.bundle.golden:
            return 0.0
        golden = pl.DataFrame(self.bundle.golden, infer_schema_length=None).with_columns(pl.col("date").str.to_date())
        answered = self.forecast(golden.select(*KEY, *self.inputs))
        return max(
            float((answered[name] - golden[name]).abs().max() or 0.0)  # type: ignore[arg-type]
            for name in ("prediction", "low_80", "high_95")
        )


def _dtype(name: str, columns: Columns) -> Any:
    if name in columns.text:
        return pl.String
    return {"holiday": pl.Int8, "date": pl.Date, "store": pl.String, "product": pl.String}.get(name, pl.Float64)
