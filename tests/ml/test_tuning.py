from __future__ import annotations

import datetime as dt
import warnings

import optuna
import pytest

from ml.splits import Split
from ml.tuning import (
    KNOWN_GOOD,
    LARGE,
    VERY_LARGE,
    Trial,
    cheapest_of_the_best,
    importance,
    known_good,
    suggest,
    tune,
    tuning_split,
)

DAY = dt.date(2026, 1, 1)


def test_without_trials_the_known_good_recipe_comes_back(chain):
    recipe, trials = tune(chain.data, chain.tables, chain.splits[0], blocks=(7, 28), trials=0, seed=3)
    assert recipe.params == KNOWN_GOOD
    assert (recipe.seed, recipe.blocks, trials) == (3, (7, 28), [])


def test_the_search_starts_with_the_known_good_and_repeats_itself(chain):
    found = [tune(chain.data, chain.tables, chain.splits[0], blocks=(7, 28), trials=3, seed=3) for _ in range(2)]
    (recipe, trials), (again, _) = found
    assert {k: v for k, v in KNOWN_GOOD.items() if k != "max_bin"} == trials[0].params
    assert recipe == again
    assert recipe.params | {"max_bin": 64} == recipe.params
    assert min(t.value for t in trials) <= trials[0].value


def test_percentage_errors_are_searched_from_the_share_objective(chain):
    recipe, _ = tune(chain.data, chain.tables, chain.splits[0], blocks=(7, 28), trials=0, seed=3, metric="rmspe")
    assert (recipe.params["objective"], recipe.params["centre"]) == ("share", "share")


@pytest.mark.parametrize("metric", ["wape", "rmspe"])
@pytest.mark.parametrize("rows", [1_000, LARGE, VERY_LARGE])
def test_what_is_known_to_be_good_lies_in_the_space_that_is_searched(metric, rows):
    study = optuna.create_study()
    start = known_good(metric, rows)
    study.enqueue_trial({k: v for k, v in start.items() if k not in ("max_bin", "centre")})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna only warns of a value that lies outside
        suggested = suggest(study.ask(), metric, rows)
    assert start.items() >= suggested.items()


def trial(value: float, rounds: int, depth: int) -> Trial:
    return Trial(0, value, {"rounds": rounds, "max_depth": depth})


def test_of_equals_the_cheapest_and_never_a_worse_one():
    assert cheapest_of_the_best([trial(0.300, 200, 7), trial(0.301, 100, 5), trial(0.32, 75, 4)]).value == 0.301
    assert cheapest_of_the_best([trial(0.300, 200, 7), trial(0.303, 75, 4)]).value == 0.300


def test_two_objectives_cost_twice():
    both = Trial(0, 0.300, {"objective": "squared+tweedie", "rounds": 100, "max_depth": 6})
    one = Trial(1, 0.301, {"objective": "tweedie", "rounds": 150, "max_depth": 6})
    assert cheapest_of_the_best([both, one]) == one


@pytest.mark.parametrize(("days", "wanted"), [(400, 28), (40, 20)])
def test_the_judge_ends_where_the_decision_begins(days, wanted):
    first = Split(DAY + dt.timedelta(days=days), DAY + dt.timedelta(days=days + 28))
    judge = tuning_split(first, DAY, dt.timedelta(days=28))
    assert judge.end == first.origin
    assert (judge.end - judge.origin).days == wanted


def searched(storage, trials):
    """A search in which only the depth decides."""
    study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True)
    for number in range(trials):
        found = study.ask()
        depth = found.suggest_int("max_depth", 2, 12)
        found.suggest_float("subsample", 0.6, 1.0)
        study.tell(found, float(depth) if number % 7 else depth + 0.001)


def test_importance_is_that_of_what_decides_and_needs_enough_trials():
    storage = optuna.storages.InMemoryStorage()
    assert importance(storage, "s", 1) == {}
    searched(storage, 7)
    assert importance(storage, "s", 1) == {}
    searched(storage, 20)
    found = importance(storage, "s", 1)
    assert next(iter(found)) == "max_depth"
    assert found["max_depth"] > 0.9
    assert sum(found.values()) == pytest.approx(1)
    assert importance(storage, "s", 1) == found
