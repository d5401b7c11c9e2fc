"""Forecast any file of sales from the command line, without a database or a service.

``python -m bench.forecast IN.parquet --horizon 28 --out OUT.parquet`` reads CSV, XLSX or Parquet as an upload is read
(date, store, product, sales; price, promotion and known-in-advance columns where there are any), cleans it, learns as
retraining does and writes ``date, store, product, prediction, low_80, high_80, low_95, high_95, cold_start`` for the
periods after the last date of the data. ``--future`` names a file with what is known of them (prices, promotions,
regressors; new stores and products too); what it leaves out is filled as the product fills it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Literal

import polars as pl

from bench.ours import BOUNDS, Learned, Wish, learn
from bench.tables import cleaned
from ml.attributes import merge_tables
from ml.cleaning import BASE, Panel, merge, step
from ml.contract import Checked, check_file
from ml.errors import ControlRoomError, FileRefused, InputError
from ml.features import SERIES
from ml.forecasting import Forecaster
from ml.records import Mapping
from ml.settings import load_settings
from ml.sidetable import check_attributes
from ml.training import Data

MAX_HORIZON = {"D": 364, "W": 52}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- reading


def read_sales(path: Path, regressors: list[str]) -> pl.DataFrame:
    """The rows of a file of sales that the contract lets through.

    ``regressors``: columns to use besides those that are recognised as known in advance.
    """
    data = _bytes(path)
    return _used(path, _with_regressors(data, path, check_file(data, path.name), regressors, "training"))


def read_future(path: Path, names: tuple[str, ...]) -> pl.DataFrame:
    """Rows of periods to come, with as many of the named regressors as the file has."""
    data = _bytes(path)
    checked = check_file(data, path.name, purpose="predict")
    has = {column.source for column in checked.preflight.columns}
    checked = _with_regressors(data, path, checked, [name for name in names if name in has], "predict")
    return _used(path, checked).select(pl.selectors.by_name(*BASE, *names, require_all=False))


def _with_regressors(
    data: bytes, path: Path, checked: Checked, names: list[str], purpose: Literal["training", "predict"]
) -> Checked:
    found = checked.preflight.mapping
    more = [name for name in names if name not in (*found.regressors, *found.roles.values())]
    if not more:
        return checked
    known = [column.source for column in checked.preflight.columns]
    if absent := [name for name in more if name not in known]:
        raise InputError(f"{path.name} has no column {absent[0]!r}; it has {', '.join(known)}.", field=absent[0])
    mapping = Mapping(roles=found.roles, regressors=(*found.regressors, *more))
    return check_file(data, path.name, mapping=mapping, purpose=purpose)


def read_attributes(paths: list[Path]) -> pl.DataFrame:
    """Tables that describe stores or products, as one side table; a later one wins."""
    tables = [_used(path, check_attributes(_bytes(path), path.name)) for path in paths]
    side, notes = merge_tables(tables, [path.name for path in paths])
    for note in notes:
        say(note)
    return side


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error.strerror}") from error


def _used(path: Path, checked: Checked) -> pl.DataFrame:
    report = checked.preflight
    if report.verdict == "REJECT":
        raise FileRefused(f"{path.name}: " + "; ".join(f.message for f in report.findings if f.severity == "reject"))
    if checked.rejected.height:
        first = checked.rejected.row(0, named=True)
        say(f"{path.name}: {checked.rejected.height} rows are left out, first row {first['row']}: {first['reason']}")
    return checked.frame


# ---------------------------------------------------------------- forecast


def prepared(sales: pl.DataFrame, side: pl.DataFrame, country: str) -> tuple[Data, Panel]:
    """The panel as ETL makes it, with its attributes."""
    merged, _ = merge([sales], ["sales"])
    data, panel, notes = cleaned(merged, side, country)
    for note in notes:
        say(note)
    return data, panel


def rows_ahead(found: Forecaster, horizon: int, future: pl.DataFrame | None) -> pl.DataFrame:
    """A row per period and series: those sold now and those that the future names, with what is known of each."""
    one = step(found.frequency)
    dates = pl.DataFrame({"date": [found.origin + one * k for k in range(1, horizon + 1)]}, schema={"date": pl.Date})
    series = found.next_days([], [], 1).select(SERIES)
    if future is None:
        return series.join(dates, how="cross")
    series = pl.concat([series, future.select(SERIES)]).unique(maintain_order=True)
    given = _on_periods(found, future)
    inside = given.filter(pl.col("date").is_in(dates["date"].implode()))
    if inside.height < future.height:
        first, last = dates["date"].min(), dates["date"].max()
        say(f"--future: {future.height - inside.height} rows outside {first!s} … {last!s} are not used")
    known = inside.unique(["date", *SERIES], keep="last")
    return series.join(dates, how="cross").join(known, on=[*SERIES, "date"], how="left", maintain_order="left")


def _on_periods(found: Forecaster, future: pl.DataFrame) -> pl.DataFrame:
    """Dates within a week stand for the week, which the data names by one weekday."""
    if found.frequency == "D":
        return future
    weeks = ((pl.col("date") - pl.lit(found.origin)).dt.total_days() / 7).ceil().cast(pl.Int64)
    return future.with_columns(date=pl.lit(found.origin) + pl.duration(days=weeks * 7))


def answered(found: Learned, rows: pl.DataFrame) -> pl.DataFrame:
    forecast = found.forecaster.forecast(rows)
    cold = pl.col("warnings").list.contains("new_series").alias("cold_start")
    return forecast.select("date", *SERIES, "prediction", *BOUNDS, cold).sort(*SERIES, "date")


def run(asked: argparse.Namespace) -> pl.DataFrame:
    """Forecast as the command line asks; raises ControlRoomError with what to do."""
    sales = read_sales(asked.sales, asked.regressors)
    side = read_attributes(asked.attributes)
    data, panel = prepared(sales, side, asked.country)
    if asked.horizon > MAX_HORIZON[data.frequency]:
        raise InputError(f"--horizon {asked.horizon}: at most {MAX_HORIZON[data.frequency]} periods can be asked for.")
    future = read_future(asked.future, panel.regressors) if asked.future else None
    wish = Wish(asked.metric, trials=asked.tune)
    with tempfile.TemporaryDirectory(prefix="control-room-bench-") as scratch:
        found = learn(data, asked.horizon, Path(scratch) / "bundle", wish, side, say)
    race = ", ".join(f"{kind} {value:.4f}" for kind, value in found.race.items())
    say(f"{found.recipe.kind} answers" + (f"; {asked.metric} on the fold that chose: {race}" if race else ""))
    ended = data.panel.select(SERIES).n_unique() - found.forecaster.next_days([], [], 1).height
    if ended:
        say(f"{ended} series had ended before {found.forecaster.origin}: forecast only where --future names them")
    return answered(found, rows_ahead(found.forecaster, asked.horizon, future))


def write(found: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found.write_csv(path) if path.suffix == ".csv" else found.write_parquet(path)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.forecast", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sales", type=Path, metavar="IN", help="file of sales")
    parser.add_argument("--horizon", type=int, required=True, help="periods (days or weeks) to forecast")
    parser.add_argument("--out", type=Path, required=True, help="where to write, .parquet or .csv")
    parser.add_argument("--attributes", type=Path, nargs="+", default=[], help="tables that describe stores, products")
    parser.add_argument("--future", type=Path, help="what is known of the periods to come")
    parser.add_argument("--regressors", type=lambda text: text.split(","), default=[], help="further columns to use")
    parser.add_argument(
        "--country", default=load_settings().country, help="whose public holidays (default: %(default)s)"
    )
    parser.add_argument("--metric", choices=("wape", "rmspe"), default="wape", help="what models are chosen by")
    parser.add_argument("--tune", type=int, default=0, metavar="N", help="trials of a search (default: none)")
    asked = parser.parse_args(given)
    if asked.horizon < 1:
        parser.error(f"--horizon {asked.horizon}: at least 1 period is needed")
    if asked.out.suffix not in (".parquet", ".csv"):
        parser.error(f"--out {asked.out}: the name must end in .parquet or .csv")
    return asked


def main() -> None:
    asked = arguments()
    try:
        found = run(asked)
    except ControlRoomError as error:
        say(f"error: {error}")
        raise SystemExit(2) from error
    write(found, asked.out)
    say(f"{found.height} rows in {asked.out}")


if __name__ == "__main__":
    main()
