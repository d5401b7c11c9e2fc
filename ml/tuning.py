"""Optuna search for the boosted trees' parameters, judged on one fold before the rows that decide promotion."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import optuna
import polars as pl
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from ml.evaluation import rmspe, wape
from ml.models import Model
from ml.records import Recipe
from ml.splits import Split
from ml.studies import open_study
from ml.training import Data, Progress, Table, train_until

log = logging.getLogger("ml.jobs")
Metric = Literal["wape", "rmspe"]
CLOSE = 0.005  # share of the best value; refitting one recipe with another seed moves it by about as much
SAMPLE = 60_000  # rows per trial: more change the order of the candidates little and cost minutes

# Known good on retail data of very different kind; every search starts with it, so tuning can only help.
KNOWN_GOOD: dict[str, float | int | str] = {
    "objective": "tweedie",
    "tweedie_power": 1.2,
    "eta": 0.12,
    "rounds": 125,
    "max_depth": 6,
    "min_child_weight": 20.0,
    "subsample": 0.8,
    "colsample": 0.6,
    "lambda": 2.0,
    "max_bin": 64,
    "half_life": 365.0,
}


# From this many rows on, larger trees and more of them still find something to learn.
LARGE = 400_000
LARGE_GOOD: dict[str, float | int | str] = {
    "eta": 0.07,
    "rounds": 300,
    "max_depth": 8,
    "colsample": 0.4,
    "half_life": 0.0,
}
# Of millions of rows most are of series that hardly sell: squared errors forecast their totals best, with fewer trees.
VERY_LARGE = 2_000_000
VERY_LARGE_GOOD: dict[str, float | int | str] = {"objective": "squared", "rounds": 125}
OBJECTIVES: dict[Metric, list[str]] = {
    "wape": ["tweedie", "poisson", "squared", "log", "squared+tweedie"],
    "rmspe": ["share", "log", "log+share"],
}


def known_good(metric: Metric, rows: int = 0) -> dict[str, float | int | str]:
    """Where every search over data of so many rows starts."""
    found = KNOWN_GOOD | (LARGE_GOOD if rows >= LARGE else {}) | (VERY_LARGE_GOOD if rows >= VERY_LARGE else {})
    if metric == "wape":
        return found
    # Shares of the truth are judged best by what has learned from shares, or is centred on them.
    return found | {"objective": "log+share" if rows >= LARGE else "share", "centre": "share"}


LEAST_TRIALS = 8


@dataclass(frozen=True)
class Trial:
    number: int
    value: float
    params: dict[str, float | int | str]


def suggest(trial: optuna.Trial, metric: Metric, rows: int) -> dict[str, float | int | str]:
    """One point of the search space for data of so many rows."""
    fewest, most, shallow, deep = (100, 400, 6, 9) if rows >= LARGE else (75, 200, 4, 7)
    found: dict[str, float | int | str] = {
        "objective": trial.suggest_categorical("objective", OBJECTIVES[metric]),
        "tweedie_power": trial.suggest_float("tweedie_power", 1.05, 1.6),
        "eta": trial.suggest_float("eta", 0.02, 0.15, log=True),
        "rounds": trial.suggest_int("rounds", fewest, most, step=25),
        "max_depth": trial.suggest_int("max_depth", shallow, deep),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 200.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.6, 1.0),
        "colsample": trial.suggest_float("colsample", 0.3, 1.0),
        "lambda": trial.suggest_float("lambda", 0.1, 20.0, log=True),
        "half_life": trial.suggest_categorical("half_life", [0.0, 180.0, 365.0]),
    }
    return found | {"max_bin": KNOWN_GOOD["max_bin"]}


def score(model: Model, tables: Mapping[int, Table], split: Split, metric: Metric) -> float:
    """The metric over all rows of a fold, as a share."""
    blocks = model.recipe.blocks
    rows = pl.concat(tables[block].judged({"model": model}, split, blocks) for block in blocks)
    measure = rmspe if metric == "rmspe" else wape
    return measure(rows["y"].to_numpy(), rows["model"].to_numpy())


def tune(
    data: Data,
    tables: Mapping[int, Table],
    split: Split,
    *,
    blocks: tuple[int, ...],
    trials: int,
    seed: int,
    metric: Metric = "wape",
    seconds: float | None = None,
    progress: Progress = lambda _: None,
    count: Callable[[int, int], None] = lambda done, of: None,
    storage: BaseStorage | None = None,
    name: str = "search",
    data_version: str = "",
) -> tuple[Recipe, list[Trial]]:
    """Search for the best recipe of boosted trees; the first trial is ``KNOWN_GOOD``.

    Parameters
    ----------
    split
        The fold that judges; its end must lie before the folds that decide promotion.
    trials
        0 returns ``KNOWN_GOOD`` without a search.
    seconds
        Stop starting trials after this long, of all attempts together; the first trial runs in any case.
    progress, count
        Told in words, and how many trials are done, of how many.
    storage, name, data_version
        Where the study is kept and what it is called. A search of the same name over the same data that was killed
        goes on where it was: what is suggested follows from the seed and the trials before, so it ends as if nothing
        had happened.
    """
    rows = data.panel.height
    start = known_good(metric, rows)
    base = {"centre": start["centre"]} if "centre" in start else {}

    def recipe(params: dict[str, float | int | str]) -> Recipe:
        return Recipe(kind="xgboost", params=params | base, blocks=blocks, seed=seed)

    def objective(trial: optuna.Trial) -> float:
        # The longest block decides alone: it answers most of the horizon and halves the time.
        candidate = recipe(suggest(trial, metric, rows)).model_copy(update={"blocks": blocks[-1:]})
        value = score(train_until(candidate, data, tables, split.origin, limit=SAMPLE), tables, split, metric)
        progress(f"trial {len(_complete(study)) + 1} of {trials}: {metric} {value:.4f}")
        return value

    if trials <= 0:
        return recipe(start), []
    purpose = json.dumps([data_version, rows, metric, seed, blocks, str(split.origin), str(split.end), start])
    study = open_study(storage or InMemoryStorage(), name, purpose)
    first = {k: v for k, v in start.items() if k not in ("max_bin", "centre")}
    _search(study, objective, first, trials, seconds, seed, count)
    done = [Trial(n, float(t.value or 0.0), dict(t.params)) for n, t in enumerate(_complete(study))]
    best = cheapest_of_the_best(done)
    return recipe(best.params | {"max_bin": KNOWN_GOOD["max_bin"]}), done


def importance(storage: BaseStorage, name: str, seed: int) -> dict[str, float]:
    """Parameter -> its share in how the errors of a search's trials vary, by functional ANOVA (Hutter et al. 2014).

    Empty for fewer than ``LEAST_TRIALS``: a forest that is fitted to them would tell their chance.
    """
    names = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage) if name in names else None
    done = _complete(study) if study else []
    if study is None or len(done) < LEAST_TRIALS or len({trial.value for trial in done}) < 2:
        return {}
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed)))


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _search(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    first: dict[str, float | int | str],
    trials: int,
    seconds: float | None,
    seed: int,
    count: Callable[[int, int], None],
) -> None:
    """Run the trials that the study still lacks, one at a time."""
    done = _complete(study)
    if done:
        log.info("the search goes on after trial %d of %d", len(done), trials)
    spent = sum((trial.duration or dt.timedelta()).total_seconds() for trial in done)
    for number in range(len(done), trials):
        if number and seconds is not None and spent >= seconds:
            log.info("%.0f s are spent: no trial after %d of %d", spent, number, trials)
            return
        count(number, trials)
        if number == 0:
            study.enqueue_trial(first)
        # One sampler per trial: after a restart a single one would draw again what it has drawn before.
        study.sampler = optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=5, constant_liar=False)
        trial = study.ask()
        told = study.tell(trial, objective(trial))
        spent += (told.duration or dt.timedelta()).total_seconds()
    count(trials, trials)


def cheapest_of_the_best(trials: list[Trial]) -> Trial:
    """Of the trials within ``CLOSE`` of the best the one with the least work: such differences are noise, time is not.

    Work is taken as rounds × depth for each objective, which is what a round of histogram trees costs on large data.
    """
    best = min(trial.value for trial in trials)
    close = [trial for trial in trials if trial.value <= best * (1 + CLOSE)]
    return min(close, key=lambda t: (_work(t.params), t.value))


def _work(params: dict[str, float | int | str]) -> int:
    members = 1 + str(params.get("objective", "")).count("+")
    return int(params["rounds"]) * int(params["max_depth"]) * members


def tuning_split(first_judged: Split, first: dt.date, horizon: dt.timedelta) -> Split:
    """The fold right before the judged ones; on short histories as long as leaves half of it for training."""
    room = (first_judged.origin - first) / 2
    return Split(first_judged.origin - min(horizon, room), first_judged.origin)
