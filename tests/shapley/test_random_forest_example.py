"""A game that is no neural network, against enumeration and as a user would run it."""

import numpy as np
import pytest

from examples.random_forest import ForestGame, accuracy, grow, main, value_trees
from shapley import exact


@pytest.fixture(scope="module")
def forest():
    data = grow(trees=9, bad=2, seed=1)
    return data, ForestGame(data.score_votes, data.score_labels, batch_size=32)


def test_sampled_values_agree_with_enumeration(forest):
    _, game = forest
    truth = exact(game).values[0]
    game.accesses = 0
    found = value_trees(game, budget=200_000, seed=0)
    assert game.accesses == found.evaluations <= 200_000
    assert np.abs((found.values[0] - truth) / found.std_errors[0]).max() < 4
    assert ((found.lower[0] <= truth) & (truth <= found.upper[0])).all()


def test_exact_values_are_efficient_and_name_the_bad_trees(forest):
    data, game = forest
    values = exact(game).values[0]
    full = accuracy(data.score_votes, data.score_labels, np.ones(9, dtype=bool))
    nobody = float((data.score_labels == 0).mean())  # a tie goes to class 0
    assert values.sum() == pytest.approx(full - nobody)
    assert set(np.argsort(values)[:2]) == set(np.flatnonzero(data.bad))
    assert (values[data.bad] < 0).all()


def test_the_example_prints_the_culprits_and_what_removing_them_buys(capsys):
    main(["--trees", "12", "--bad", "3", "--budget", "150000"])
    lines = capsys.readouterr().out.splitlines()
    bad = np.flatnonzero(grow(12, 3, 0).bad).tolist()
    assert [line for line in lines if line.startswith("culprits")] == [f"culprits (interval below 0): {bad}"]
    before, after = (float(word) for word in lines[-1].split() if word.startswith("0."))
    assert after > before
    assert sum("off by one" in line for line in lines) == 3
