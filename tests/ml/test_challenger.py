"""Which constraints a challenger is put under."""

from __future__ import annotations

import dataclasses

import pytest

from ml import challenger
from ml.errors import InputError
from ml.features import Columns
from ml.splits import Split


@pytest.fixture
def constrained(chain):
    judge = chain.splits[0]

    def run(monotone, data=chain.data):
        split = Split(judge.origin, judge.end)
        return challenger._constrained(chain.recipe, monotone, data, chain.tables, split, "wape")[0].params["monotone"]

    return run


@pytest.mark.parametrize("asked", ["off", "price", "price_promotion"])
def test_what_is_asked_for_is_done(constrained, asked):
    assert constrained(asked) == asked


def test_an_unknown_word_is_refused_with_those_that_are_known(constrained):
    with pytest.raises(InputError, match="auto, off, price, price_promotion"):
        constrained("prize")


@pytest.mark.parametrize(("cost", "wanted"), [(-1.0, "off"), (1.0, "price_promotion")])
def test_auto_weighs_the_error_of_the_judging_fold(constrained, monkeypatch, cost, wanted):
    """No error is small enough for a bound of -100 %, every one for +100 %."""
    monkeypatch.setattr(challenger, "MONOTONE_COST", cost)
    assert constrained("auto") == wanted


def test_auto_leaves_data_without_price_and_promotion_alone(chain, constrained):
    bare = dataclasses.replace(chain.data, columns=Columns(False, False, (), ()))
    assert constrained("auto", bare) == "off"


def test_trees_that_were_chosen_by_their_error_are_not_trained_again_for_it(chain, monkeypatch):
    trained = []
    tried = challenger._tried

    def counted(recipe, *rest):
        trained.append(recipe.kind)
        return tried(recipe, *rest)

    monkeypatch.setattr(challenger, "_tried", counted)
    best, known = challenger._constrained(chain.recipe, "auto", chain.data, chain.tables, chain.splits[0], "wape")
    _, errors = challenger.race(best, chain.data, chain.tables, chain.splits[0], "wape", known)
    assert trained.count("xgboost") == 2  # free and held
    assert errors["xgboost"] == known
    assert errors["xgboost"] == pytest.approx(tried(best, chain.data, chain.tables, chain.splits[0], "wape"))
