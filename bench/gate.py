"""How often the gate is right: retrainings of small generated shops, judged by the product's own code.

``python -m bench.gate --runs 200 --json gate.json``. Every run is a shop of its own (another chain of
:mod:`ml.demo`) whose recipes are trained and judged as a retraining does it. Two questions are put to the gate:

same
    The challenger is the champion's algorithm with another seed. Whoever promotes it is tossing a coin.
better
    The champion's forecasts are drawn toward a moving average, by as much as makes them 3 % worse on 32 weeks of sales
    that no verdict sees. Whoever does not promote leaves money on the table.

A retraining trains both recipes under one seed (``shared seed``): equal recipes are then equal, and what differs is the
recipe. Under seeds of their own, which is the harder case, they also differ by luck.

Beside the gate stand the two rules in common use: the lower error on the same rows, and the lower error of two
evaluations, each logged when its model was trained, so on other rows.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.optimize import brentq
from scipy.stats import binomtest

from bench.sets import DEMO_UNTIL
from bench.tables import cleaned
from ml.challenger import NAIVE
from ml.demo import generate
from ml.evaluation import evaluate, wape
from ml.promotion import decide
from ml.records import Recipe
from ml.splits import Split, rolling_origins
from ml.training import Data, Rows, Tables, backtest, test_rows, train_until
from ml.tuning import known_good

COUNTRY = "ES"
HORIZON = 28
BLOCKS = (7, 28)
TARGET = 0.03
TRUTH_FOLDS = 8  # after the newest known sales: what a challenger is truly worth
OWN = "own seed"
# Case -> (forecast of the champion, is it drawn toward the moving average)
CASES = {
    "same, own seeds": (OWN, False),
    "same, shared seed": ("challenger", False),
    "better, own seeds": (OWN, True),
    "better, shared seed": ("challenger", True),
}
RULES = ("gate", "lower on the same rows", "lower on other rows")


@dataclass(frozen=True)
class Shop:
    """Size of a generated shop, by default that of the demo, and of a retraining."""

    stores: int = 8
    products: int = 40
    days: int = 300
    folds: int = 3
    rounds: int = 20
    window: int = 70


@dataclass(frozen=True)
class Retrained:
    """One run: the backtest's rows with a forecast per recipe.

    ``share``: of the moving average in the handicapped champion; ``true_gain``: over it, on sales that no verdict sees.
    """

    rows: pl.DataFrame
    share: float
    true_gain: float
    seconds: float


# ---------------------------------------------------------------- one run


def retrain(seed: int, shop: Shop) -> Retrained:
    """Train and judge all recipes of one shop; nothing of the weeks after is in what the gate sees."""
    began = time.monotonic()
    data, known_until = _shop_data(seed, shop)
    first: dt.date = data.panel["date"].min()  # type: ignore[assignment]
    splits = rolling_origins(first, known_until, HORIZON, shop.folds, data.frequency)
    recipes = _recipes(seed, shop)
    tables = Tables(data, BLOCKS, Rows(splits[0].origin - dt.timedelta(days=shop.window)))
    rows = backtest(recipes, data, tables, splits)
    later = _later(recipes, data, known_until, shop)
    share = handicap(later)
    return Retrained(rows, share, _gain_over(later, share), time.monotonic() - began)


def _shop_data(seed: int, shop: Shop) -> tuple[Data, dt.date]:
    days = shop.days + TRUTH_FOLDS * HORIZON
    sales = generate(DEMO_UNTIL, seed=seed, days=days, stores=shop.stores, products=shop.products, country=COUNTRY)
    side = pl.DataFrame(schema={"store": pl.String, "product": pl.String})
    return cleaned(sales, side, COUNTRY)[0], DEMO_UNTIL - dt.timedelta(days=TRUTH_FOLDS * HORIZON)


def _recipes(seed: int, shop: Shop) -> dict[str, Recipe]:
    """The challenger, the same under another seed, and the naive ones."""
    params = known_good("wape") | {"rounds": shop.rounds, "eta": 0.3, "max_depth": 5}
    full = Recipe(kind="xgboost", params=params, blocks=BLOCKS, seed=2 * seed)
    naive = [Recipe(kind=kind, blocks=BLOCKS) for kind in NAIVE]
    return {"challenger": full, OWN: full.model_copy(update={"seed": full.seed + 1}), **{r.kind: r for r in naive}}


def _later(recipes: Mapping[str, Recipe], data: Data, known_until: dt.date, shop: Shop) -> pl.DataFrame:
    """The folds after ``known_until``, forecast by models that know no more than that."""
    tables = Tables(data, BLOCKS, Rows(known_until - dt.timedelta(days=shop.window)))
    models = {n: train_until(recipes[n], data, tables, known_until) for n in ("challenger", "moving_average")}
    parts = []
    for number in range(TRUTH_FOLDS):
        origin = known_until + dt.timedelta(days=HORIZON * number)
        split = Split(origin, origin + dt.timedelta(days=HORIZON))
        for block in BLOCKS:
            index, _ = test_rows(tables[block], split, BLOCKS)
            rows = tables[block].seen_from(known_until).take(index)
            found = {name: model.predict(block, rows) for name, model in models.items()}
            parts.append(pl.DataFrame({"y": tables[block].y[index], **found}))
    return pl.concat(parts)


def handicap(rows: pl.DataFrame) -> float:
    """Share of the moving average that makes the challenger's forecasts worse by ``TARGET`` on these rows."""
    return float(brentq(lambda share: _gain_over(rows, share) - TARGET, 0.05, 1.0))


def _gain_over(rows: pl.DataFrame, share: float) -> float:
    y = rows["y"].to_numpy()
    return 1 - wape(y, rows["challenger"].to_numpy()) / wape(y, drawn(rows, "challenger", share))


def drawn(rows: pl.DataFrame, name: str, share: float) -> np.ndarray:
    """Forecasts drawn toward the moving average."""
    return (1 - share) * rows[name].to_numpy() + share * rows["moving_average"].to_numpy()


# ---------------------------------------------------------------- verdicts


def verdicts(run: Retrained, case: str) -> dict[str, bool]:
    """What each rule does with the challenger of one run."""
    rows = as_case(run, case)
    names = ("challenger", "champion", "seasonal_naive")
    evaluation = evaluate(rows, names, "simulated")
    decision = decide(rows, evaluation, same_data=False, challenger=Recipe(kind="xgboost"))
    errors = {name: evaluation.overall[name].wape for name in names}
    newest, before = evaluation.folds[-1].metrics, evaluation.folds[-2 if len(evaluation.folds) > 1 else 0].metrics
    found = (decision.promote, errors["challenger"] < errors["champion"],
             newest["challenger"].wape < before["champion"].wape)  # fmt: skip
    return dict(zip(RULES, found, strict=True))


def as_case(run: Retrained, case: str) -> pl.DataFrame:
    """The backtest's rows with the forecasts of the champion of the case."""
    name, handicapped = CASES[case]
    champion = drawn(run.rows, name, run.share if handicapped else 0.0)
    return run.rows.with_columns(champion=pl.Series(champion)).drop(OWN, "moving_average")


def table(runs: Sequence[Retrained], seconds: float) -> list[dict[str, Any]]:
    """One row per case and rule: how many of the runs promoted, with the Wilson interval of their share."""
    found = []
    for case, (_, handicapped) in CASES.items():
        told = [verdicts(run, case) for run in runs]
        gains = [run.true_gain if handicapped else 0.0 for run in runs]
        found += [_row(f"{case}: {rule}", sum(verdict[rule] for verdict in told), gains, seconds) for rule in RULES]
    return found


def _row(case: str, promoted: int, gains: Sequence[float], seconds: float) -> dict[str, Any]:
    wilson = binomtest(promoted, len(gains)).proportion_ci(method="wilson")
    return {
        "case": case,
        "runs": len(gains),
        "promoted": promoted,
        "share": promoted / len(gains),
        "low": float(wilson.low),
        "high": float(wilson.high),
        "true_gain": float(np.mean(gains)),
        "true_gain_sd": float(np.std(gains)),
        "seconds": seconds,
    }


# ---------------------------------------------------------------- all runs


def simulate(
    seeds: Sequence[int], shop: Shop, keep: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> list[Retrained]:
    """Every run, read from the folder ``keep`` where it has been kept: a changed gate then judges without training."""
    runs = []
    for number, seed in enumerate(seeds):
        path = keep / f"{seed}.parquet" if keep else None
        run = _read(path) if path and path.is_file() else retrain(seed, shop)
        if path and not path.is_file():
            _write(path, run)
        runs.append(run)
        progress(f"run {number + 1} of {len(seeds)}, {run.seconds:.1f} s")
    return runs


def _write(path: Path, run: Retrained) -> None:
    facts = {"share": run.share, "true_gain": run.true_gain, "seconds": run.seconds}
    run.rows.write_parquet(path, metadata={"run": json.dumps(facts)})


def _read(path: Path) -> Retrained:
    facts = json.loads(pl.read_parquet_metadata(path)["run"])
    return Retrained(pl.read_parquet(path), **facts)


def show(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{'case: rule':44}{'runs':>6}{'promoted':>10}{'share':>8}{'95 % interval':>18}{'true gain':>11}"]
    for row in rows:
        span = f"{row['low']:.1%} to {row['high']:.1%}"
        counts = f"{row['runs']:6d}{row['promoted']:10d}{row['share']:8.1%}"
        lines.append(f"{row['case']:44}{counts}{span:>18}{row['true_gain']:11.2%}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    shop = Shop()
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="simulated retrainings")
    parser.add_argument("--first-seed", type=int, default=10_001, help="of the generated shops; another one each run")
    for name in ("stores", "products", "days", "folds", "rounds"):
        parser.add_argument(f"--{name}", type=int, default=getattr(shop, name))
    parser.add_argument("--keep", type=Path, help="folder that keeps the runs, to go on or to judge them again")
    parser.add_argument("--json", type=Path, help="where to write the table")
    asked = parser.parse_args(arguments)
    shop = Shop(asked.stores, asked.products, asked.days, asked.folds, asked.rounds)
    if asked.keep:
        asked.keep.mkdir(parents=True, exist_ok=True)
    seeds = range(asked.first_seed, asked.first_seed + asked.runs)
    runs = simulate(seeds, shop, asked.keep, lambda text: print(text, flush=True))
    rows = table(runs, sum(run.seconds for run in runs))
    print(show(rows))
    if asked.json:
        asked.json.write_text(json.dumps({"shop": vars(shop), "first_seed": asked.first_seed, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
