"""Checks of a data run before it is published: each says what was seen and what to do, with a severity.

An ``error`` means that publishing would most likely harm (a price list a hundred times too high, half of the business
gone): the run stops and the published data stays. A ``warning`` is for a person to look at, ``info`` for the record.
All thresholds are constants with their reasons; none depends on a random number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ml.cleaning import step
from ml.errors import InputError
from ml.records import DataCheck, Frequency

STALE_PERIODS = {"D": 14, "W": 4}  # by then half of the horizon is guessed before it begins
RECENT = {"D": 28, "W": 8}
SILENT = {"D": 7, "W": 2}  # a store without sales for so long is closed, or its till is not connected
MISSING = 0.05  # share of recent store-periods without any row
COPIED_SERIES = 8  # fewer series with the same sales on two days are a coincidence of small numbers
JUMP = 3.0  # times its usual price: no discount does that, a missing decimal point does
JUMPED_MOST = 0.5  # of the series: a unit or a currency, not a product
BAND, FAR = 4.0, 12.0  # robust standard deviations of the log of weekly units
FACTOR, FAR_FACTOR = 1.5, 5.0  # and at least so many times more or fewer: quiet shops have narrow bands
LEAST_WEEKS = 8
GONE_MOST = 0.5  # of the units of the published data
LOST_MOST = 0.2  # a year that is missing takes the season with it
REVISED, REVISED_MOST = 0.02, 0.5
REJECTED, REJECTED_MOST = 0.05, 0.5
SHOWN = 5
ACCEPTED = "accepted"  # among the facts of a check that was an error and has been published in spite of before

Frame = pl.DataFrame


@dataclass(frozen=True)
class Published:
    """What is published now: its rows (``date, store, product, sales``) and how often there is one."""

    rows: Frame
    frequency: Frequency


@dataclass(frozen=True)
class Candidate:
    """What would be published: the cleaned panel, the rows as they came in, and how many were left out."""

    panel: Frame
    merged: Frame
    frequency: Frequency
    rows_rejected: int
    today: dt.date

    @property
    def newest(self) -> dt.date:
        return self.panel["date"].max()  # type: ignore[return-value]

    def last(self, periods: int) -> pl.Expr:
        return pl.col("date") > self.newest - step(self.frequency) * periods


def check_data(
    new: Candidate, before: Published | None = None, accepted: frozenset[str] = frozenset()
) -> tuple[DataCheck, ...]:
    """Everything that is worth saying about data that is about to be published, errors first.

    Parameters
    ----------
    before
        The published data, when it is of the same business; None for a first run.
    accepted
        Codes that a person has published in spite of: they stay warnings for as long as the data shows them.
    """
    found = [*_now(new), *(_beside(new, before) if before is not None else ())]
    found = [_accepted(check) if check.severity == "error" and check.code in accepted else check for check in found]
    order = ("error", "warning", "info")
    return tuple(sorted(found, key=lambda check: order.index(check.severity)))


def _accepted(check: DataCheck) -> DataCheck:
    return check.model_copy(update={"severity": "warning", "facts": check.facts | {ACCEPTED: 1}})


def accepted_codes(checks: Iterable[DataCheck]) -> frozenset[str]:
    """What a snapshot was published in spite of, itself or those before it."""
    return frozenset(check.code for check in checks if check.severity == "error" or check.facts.get(ACCEPTED))


def refuse_errors(checks: Iterable[DataCheck], *, anyway: bool) -> None:
    """Stop a run whose data has errors, unless it was told to publish anyway.

    Raises
    ------
    InputError
        Names every error and what to do.
    """
    errors = [check for check in checks if check.severity == "error"]
    if errors and not anyway:
        said = " ".join(f"{check.message} {check.hint}".strip() for check in errors)
        raise InputError(
            f"The data was not published; what was published before stays. {said} If all of this is meant, run the ETL "
            "again with `publish_anyway`.",
            field="publish_anyway",
            codes=[check.code for check in errors],
        )


def _now(new: Candidate) -> Iterator[DataCheck]:
    for check in (_fresh, _missing, _silent, _copied, _prices, _rejected, _units):
        yield from check(new)


def _beside(new: Candidate, before: Published) -> Iterator[DataCheck]:
    if new.frequency != before.frequency:
        words = {"D": "daily", "W": "weekly"}
        yield DataCheck(
            code="other_frequency",
            severity="error",
            message=f"The data was {words[before.frequency]} and would be {words[new.frequency]}.",
            hint="Mixed files read as neither: use uploads of one kind only.",
        )
        return
    for check in (_older, _gone, _lost, _revised, _added):
        yield from check(new, before)


# ---------------------------------------------------------------- the data alone


def _fresh(new: Candidate) -> Iterator[DataCheck]:
    age = (new.today - new.newest).days
    if age > step(new.frequency).days * STALE_PERIODS[new.frequency]:
        yield DataCheck(
            code="stale",
            severity="warning",
            message=f"The newest sales are of {new.newest}, {age} days ago.",
            hint="Forecasts begin after that day: upload what has been sold since.",
            facts={"date": str(new.newest), "days": age},
        )


def _missing(new: Candidate) -> Iterator[DataCheck]:
    """Periods on which a whole store has no row, though it has before and after."""
    days = new.merged.filter(new.last(RECENT[new.frequency])).select("store", "date").unique()
    spans = new.merged.group_by("store").agg(first=pl.col("date").min())
    start = new.newest - step(new.frequency) * (RECENT[new.frequency] - 1)
    one = step(new.frequency).days
    expected = spans.select((pl.lit(new.newest) - pl.max_horizontal("first", pl.lit(start))).dt.total_days() // one + 1)
    wanted = int(expected.to_series().sum())
    share = 1 - days.height / wanted if wanted else 0.0
    closed = _closed_share(new)
    if share - closed > MISSING:
        yield DataCheck(
            code="missing_periods",
            severity="warning",
            message=f"{share:.0%} of the last {RECENT[new.frequency]} periods of the stores have no row at all.",
            hint="If they were open then, upload those days: a gap reads as unknown or as nothing sold.",
            facts={"share": round(share, 4)},
        )


def _closed_share(new: Candidate) -> float:
    """How much of the time stores usually have no row: closing days are no gap."""
    spans = new.merged.group_by("store").agg(
        first=pl.col("date").min(), last=pl.col("date").max(), days=pl.col("date").n_unique()
    )
    length = (pl.col("last") - pl.col("first")).dt.total_days() // step(new.frequency).days + 1
    return 1 - spans.select(pl.col("days").sum() / length.sum()).item()


def _silent(new: Candidate) -> Iterator[DataCheck]:
    """Stores that sold and have stopped while others go on."""
    periods = SILENT[new.frequency]
    recent = new.panel.group_by("store").agg(
        now=pl.col("sales").filter(new.last(periods)).sum(),
        before=pl.col("sales").filter(new.last(periods + RECENT[new.frequency]) & ~new.last(periods)).sum(),
    )
    stopped = recent.filter((pl.col("now") == 0) & (pl.col("before") > 0))["store"].sort().to_list()
    if stopped:
        yield DataCheck(
            code="store_silent",
            severity="warning",
            message=f"{_named('store', stopped)} sold nothing in the last {periods} periods.",
            hint="If they are open, their newest sales are missing: upload them.",
            facts={"stores": _list(stopped), "count": len(stopped)},
        )


def _copied(new: Candidate) -> Iterator[DataCheck]:
    """Two periods of a store with exactly the same sales of everything it sells."""
    rows = new.merged.filter(new.last(RECENT[new.frequency])).sort("store", "date", "product")
    days = rows.group_by("store", "date", maintain_order=True).agg("product", "sales")
    many = pl.col("sales").list.filter(pl.element() > 0).list.len() >= COPIED_SERIES
    same = days.filter(many).filter(pl.struct("store", "product", "sales").is_duplicated())
    if same.height:
        where = [f"{store} on {date}" for store, date in same.select("store", "date").iter_rows()]
        yield DataCheck(
            code="copied_periods",
            severity="warning",
            message=f"The sales of every product are exactly the same: {_list(where)}.",
            hint="Probably one of these days was filled in with another's figures: correct it by a new upload.",
            facts={"periods": _list(where), "count": same.height},
        )


def _prices(new: Candidate) -> Iterator[DataCheck]:
    """Series whose newest prices are many times, or a small part of, what they used to be."""
    if "price" not in new.panel.columns:
        return
    span = RECENT[new.frequency]
    prices = new.panel.group_by("store", "product").agg(
        now=pl.col("price").filter(new.last(SILENT[new.frequency])).median(),
        before=pl.col("price").filter(new.last(span * 3) & ~new.last(span)).median(),
    )
    ratio = (pl.col("now") / pl.col("before")).log().abs()
    known = prices.filter(ratio.is_finite())
    jumped = known.filter(ratio > np.log(JUMP)).select(pl.format("{} · {}", "store", "product")).to_series().sort()
    if len(jumped):
        share = len(jumped) / known.height
        yield DataCheck(
            code="price_jump",
            severity="error" if share > JUMPED_MOST else "warning",
            message=f"{share:.0%} of the series cost {JUMP:g} times more or less than two months ago: "
            f"{_list(jumped.to_list())}.",
            hint="Look for another unit or currency, or a lost decimal point, in the newest upload; correct and upload "
            "it again.",
            facts={"share": round(share, 4), "count": len(jumped)},
        )


def _rejected(new: Candidate) -> Iterator[DataCheck]:
    share = new.rows_rejected / max(new.rows_rejected + new.merged.height, 1)
    if share > REJECTED:
        yield DataCheck(
            code="rows_left_out",
            severity="error" if share > REJECTED_MOST else "warning",
            message=f"{new.rows_rejected} rows ({share:.0%}) of the uploads were left out.",
            hint="The table of rejected rows says why; mend them and upload the file again.",
            facts={"share": round(share, 4), "rows": new.rows_rejected},
        )


def _units(new: Candidate) -> Iterator[DataCheck]:
    """Newest whole weeks whose units lie far outside of what weeks before them sold."""
    weeks = (
        new.panel.group_by(pl.col("date").dt.truncate("1w").alias("week"))
        .agg(units=pl.col("sales").sum(), days=pl.col("date").n_unique(), known=pl.col("sales").count())
        .filter((pl.col("days") == (7 if new.frequency == "D" else 1)) & (pl.col("known") > 0))
        .sort("week")
        .tail(54)
    )
    if weeks.height < LEAST_WEEKS + 1:
        return
    logs = np.log1p(weeks["units"].to_numpy())
    usual, latest = logs[:-1], logs[-1]
    middle = float(np.median(usual))
    spread = max(1.4826 * float(np.median(np.abs(usual - middle))), 1e-6)
    off, times = abs(latest - middle) / spread, float(np.exp(abs(latest - middle)))
    if off > BAND and times > FACTOR:
        word = "more" if latest > middle else "less"
        yield DataCheck(
            code="units_out_of_band",
            severity="error" if off > FAR and times > FAR_FACTOR else "warning",
            message=f"The week of {weeks['week'][-1]} sold {times:.1f} times {word} than usual "
            f"({weeks['units'][-1]:,.0f} units; usual are {np.expm1(middle):,.0f}).",
            hint="If nothing special happened, rows are missing or doubled in the newest upload.",
            facts={"week": str(weeks["week"][-1]), "times": round(times, 2), "deviations": round(off, 1)},
        )


# ---------------------------------------------------------------- beside what is published


def _older(new: Candidate, before: Published) -> Iterator[DataCheck]:
    was: dt.date = before.rows["date"].max()  # type: ignore[assignment]
    if new.newest < was:
        yield DataCheck(
            code="goes_back",
            severity="error",
            message=f"The newest day would go back from {was} to {new.newest}.",
            hint="Did the run leave uploads out? Without the parameter `uploads` it uses all accepted ones.",
            facts={"from": str(was), "to": str(new.newest)},
        )


def _gone(new: Candidate, before: Published) -> Iterator[DataCheck]:
    keys = ["store", "product"]
    was = before.rows.group_by(keys).agg(pl.col("sales").sum())
    gone = was.join(new.panel.select(keys).unique(), on=keys, how="anti")
    share = _part(gone["sales"].sum(), was["sales"].sum())
    if gone.height:
        named = gone.sort("sales", descending=True).select(pl.format("{} · {}", *keys)).to_series().to_list()
        yield DataCheck(
            code="series_gone",
            severity="error" if share > GONE_MOST else "warning",
            message=f"{gone.height} series with {share:.0%} of the units are no longer in the data: {_list(named)}.",
            hint="If they were not meant to go, use all uploads again, or look for changed names.",
            facts={"count": gone.height, "share": round(share, 4)},
        )


def _lost(new: Candidate, before: Published) -> Iterator[DataCheck]:
    """Days of stores that are still there, of which nothing is known any more."""
    keys = ["store", "date"]
    was = before.rows.join(new.panel.select("store").unique(), on="store", how="semi")
    was = was.group_by(keys).agg(pl.col("sales").sum())
    lost = was.filter(pl.col("sales") > 0).join(new.panel.select(keys).unique(), on=keys, how="anti")
    if lost.height:
        share = _part(lost["sales"].sum(), was["sales"].sum())
        first, last = (str(lost["date"].sort()[end]) for end in (0, -1))
        yield DataCheck(
            code="history_lost",
            severity="error" if share > LOST_MOST else "warning",
            message=f"{lost.height} days of stores with {share:.0%} of the units are no longer in the data, "
            f"from {first} to {last}.",
            hint="An upload that held them was left out: without the parameter `uploads` a run uses all accepted ones.",
            facts={"days": lost.height, "share": round(share, 4)},
        )


def _revised(new: Candidate, before: Published) -> Iterator[DataCheck]:
    """How much of what was known before says something else now, by store and day: rows of millions need no join."""
    keys = ["store", "date"]
    was, now = (rows.group_by(keys).agg(pl.col("sales").sum()) for rows in (before.rows, new.panel))
    both = was.join(now.rename({"sales": "now"}), on=keys, how="inner")
    moved = (pl.col("now") - pl.col("sales")).abs()
    changed = both.filter(moved > 1e-6)
    if not changed.height:
        return
    share = _part(changed.select(moved.sum()).item(), both["sales"].sum())
    severity = "error" if share > REVISED_MOST else "warning" if share > REVISED else "info"
    yield DataCheck.model_validate({
        "code": "revised",
        "severity": severity,
        "message": f"{changed.height} days of stores known before have changed, by {share:.1%} of the units.",
        "hint": "" if severity == "info" else "If this is no correction, an upload has the wrong dates or units.",
        "facts": {"days": changed.height, "share": round(share, 4)},
    })  # fmt: skip


def _added(new: Candidate, before: Published) -> Iterator[DataCheck]:
    keys = ["store", "product"]
    now, was = new.panel.select(keys).unique(), before.rows.select(keys).unique()
    fresh = now.join(was, on=keys, how="anti").height
    if fresh:
        yield DataCheck(
            code="series_new",
            severity="info",
            message=f"{fresh} series are new; until the next retraining they are forecast from similar ones.",
            facts={"count": fresh},
        )


def _part(part: Any, whole: Any) -> float:
    return float(part or 0) / float(whole) if whole else float(bool(part))


def _list(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _named(word: str, names: list[str]) -> str:
    return f"{word.capitalize()}{'s' if len(names) > 1 else ''} {_list(names)}"
