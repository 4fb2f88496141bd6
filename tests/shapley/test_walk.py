"""Single walks, step by step."""

import numpy as np
import pytest

from shapley.base import Outcomes
from shapley.metering import Meter
from shapley.walk import dead_cutoff, dead_depth, pilot_cost, pilot_depths, pilot_walk, walk, walk_cost
from tests.shapley.games import FunctionGame


class Recorder(FunctionGame):
    """Keeps the coalitions that it was asked for, as strings of the present players."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.asked = []

    def evaluate(self, coalitions, batch):
        self.asked += ["".join(str(i) for i in np.flatnonzero(row)) for row in coalitions]
        return super().evaluate(coalitions, batch)


#             V of the coalition of these players
TABLE = {"0123": 1.0, "013": 0.7, "13": 0.6, "1": 0.2, "": 0.1, "03": 0.5, "0": 0.25}


def look_up(coalitions):
    return np.array([TABLE["".join(str(i) for i in np.flatnonzero(row))] for row in coalitions])


def ablated_agreement(n, dies_after):
    """Agreement falls by 1/dies_after with each removal, to 0."""
    return lambda coalitions: np.maximum(0.0, 1.0 - (n - coalitions.sum(axis=1)) / dies_after)


def mask(n, *players):
    active = np.zeros(n, dtype=bool)
    active[list(players)] = True
    return active


ALL = np.ones(4, dtype=bool)
ORDER = np.array([2, 0, 3, 1])


def test_a_full_walk():
    game = Recorder(4, look_up)
    result = walk(Meter(game), None, ORDER, ALL, depth=4, patience=1, cutoff=None)
    # removed            -       2      2,0   2,0,3  all
    assert game.asked == ["0123", "013", "13", "1", ""]
    #                   V before - V after, in the order 2, 0, 3, 1
    expected = [0.7 - 0.6, 0.2 - 0.1, 1.0 - 0.7, 0.6 - 0.2]
    np.testing.assert_allclose(result.marginals[0], expected)
    assert result.stop == 4
    np.testing.assert_allclose(result.ends[0], [1.0, 0.1, 0.1, 0.0])


def test_inactive_players_are_removed_but_not_measured():
    game = Recorder(4, look_up)
    result = walk(Meter(game), None, ORDER, mask(4, 0, 1), depth=4, patience=1, cutoff=None)
    # remove 2 (inactive: V is stale), refresh, remove 0, remove 3 (inactive), refresh, remove 1
    assert game.asked == ["013", "13", "1", ""]
    np.testing.assert_allclose(result.marginals[0], [0.7 - 0.6, 0.2 - 0.1, 0.0, 0.0])
    assert result.ends is None


def test_the_depth_ends_a_walk():
    game = Recorder(4, look_up)
    result = walk(Meter(game), None, ORDER, ALL, depth=2, patience=1, cutoff=None)
    # V(empty) is for the certificate
    assert game.asked == ["0123", "013", "13", ""]
    np.testing.assert_allclose(result.marginals[0], [0.7 - 0.6, 0.0, 1.0 - 0.7, 0.0])
    assert result.stop == 2
    np.testing.assert_allclose(result.ends[0], [1.0, 0.6, 0.1, 0.5])


def test_an_active_player_past_the_depth_costs_nothing():
    game = Recorder(4, look_up)
    result = walk(Meter(game), None, ORDER, mask(4, 1), depth=3, patience=1, cutoff=None)
    assert game.asked == []
    assert not result.marginals.any()


@pytest.mark.parametrize(
    ("patience", "asked", "marginals", "stop"),
    [
        (1, ["0123", "013", "13", ""], [0.7 - 0.6, 0.0, 1.0 - 0.7, 0.0], 2),
        (2, ["0123", "013", "13", "1", ""], [0.7 - 0.6, 0.0, 1.0 - 0.7, 0.6 - 0.2], 3),
    ],
)
def test_patience_counts_dead_steps(patience, asked, marginals, stop):
    # agreement by removals:              0    1    2    3    4
    #                                     1.0  0.5  0.0  0.0  0.0
    game = Recorder(4, look_up, ablated_agreement(4, 2), dead_level=0.0)
    result = walk(Meter(game), None, ORDER, ALL, depth=4, patience=patience, cutoff=0.1)
    assert game.asked == asked
    np.testing.assert_allclose(result.marginals[0], marginals)
    assert result.stop == stop


def test_a_step_that_is_alive_again_restarts_the_count():
    agreement = {4: 1.0, 3: 0.0, 2: 1.0, 1: 0.0, 0: 0.0}  # by players present
    game = Recorder(4, look_up, lambda s: np.array([agreement[k] for k in s.sum(axis=1)]), dead_level=0.0)
    assert walk(Meter(game), None, ORDER, ALL, depth=4, patience=2, cutoff=0.1).stop == 4
    assert walk(Meter(game), None, ORDER, ALL, depth=4, patience=1, cutoff=0.1).stop == 1


def test_dead_steps_of_inactive_players_are_not_counted():
    # dead from the second removal on; of the dead steps only that of player 1, the last, is evaluated
    game = Recorder(4, look_up, ablated_agreement(4, 2), dead_level=0.0)
    result = walk(Meter(game), None, ORDER, mask(4, 1, 2), depth=4, patience=1, cutoff=0.1)
    assert game.asked == ["0123", "013", "1", ""]
    assert result.stop == 4


@pytest.mark.parametrize("lookahead", [2, 3, 100])
def test_looking_ahead_costs_but_changes_nothing(lookahead):
    plain = FunctionGame(9, lambda s: s.sum(axis=1) ** 2.0, ablated_agreement(9, 3), 0.0)
    ahead = FunctionGame(9, lambda s: s.sum(axis=1) ** 2.0, ablated_agreement(9, 3), 0.0, lookahead)
    order = np.random.default_rng(0).permutation(9)
    for active in (np.ones(9, dtype=bool), mask(9, 1, 4, 5, 8)):
        one = walk(Meter(plain), None, order, active, depth=8, patience=2, cutoff=0.0)
        meter = Meter(ahead)
        other = walk(meter, None, order, active, depth=8, patience=2, cutoff=0.0)
        np.testing.assert_array_equal(one.marginals, other.marginals)
        assert one.stop == other.stop
        if one.ends is not None:
            np.testing.assert_array_equal(one.ends, other.ends)
        assert meter.evaluations <= walk_cost(9, int(active.sum()), 8)


def test_dead_cutoff():
    def game(level):
        return FunctionGame(1, lambda s: s[:, 0] * 1.0, dead_level=level)

    assert dead_cutoff(game(0.1), 0.05) == pytest.approx(0.15)
    assert dead_cutoff(game(0.1), None) is None
    assert dead_cutoff(game(-1.0), 1.5) is None  # no notion of dead, whatever the threshold
    assert dead_cutoff(game(0.97), 0.05) is None  # would call the intact network dead


def test_a_pilot_of_few_players_is_the_full_truncated_walk():
    game = Recorder(9, lambda s: s.sum(axis=1) / 9, ablated_agreement(9, 3), 0.0)
    order = np.arange(9)
    agreement, ends = pilot_walk(Meter(game), None, order, patience=2, cutoff=0.0)
    asked, game.asked = game.asked, []
    full = walk(Meter(game), None, order, np.ones(9, dtype=bool), depth=9, patience=2, cutoff=0.0)
    assert asked == game.asked
    assert dead_depth(agreement, 9, 2, 0.0) == full.stop == 4  # dead after the third removal, and once more
    np.testing.assert_array_equal(ends, full.ends)


def test_a_pilot_of_many_players_strides():
    game = FunctionGame(1000, lambda s: s.sum(axis=1) / 1000, ablated_agreement(1000, 100), 0.0)
    meter = Meter(game)
    agreement, ends = pilot_walk(meter, None, np.arange(1000), patience=3, cutoff=0.0)
    # stride 16: dead at 112, 128, 144; three single steps from 112 on end at 114
    assert dead_depth(agreement, 1000, 3, 0.0) == 114
    np.testing.assert_allclose(ends[0], [1.0, 0.856, 0.0, 0.856])
    assert meter.evaluations == 1 + 9 + 1  # V(N), 16..144, V(empty)


@pytest.mark.parametrize("n", [1, 5, 64, 65, 130, 1000])
@pytest.mark.parametrize("lookahead", [1, 7, 2000])
def test_a_pilot_never_costs_more_than_said(n, lookahead):
    for dies_after in (1, n // 2 + 1, 10 * n):
        game = FunctionGame(n, lambda s: s.sum(axis=1) / n, ablated_agreement(n, dies_after), 0.0, lookahead)
        meter = Meter(game)
        pilot_walk(meter, None, np.arange(n), patience=2, cutoff=0.0)
        assert meter.evaluations <= pilot_cost(n)


def test_a_network_that_never_dies_has_full_depth():
    game = FunctionGame(9, lambda s: s.sum(axis=1) / 9, dead_level=0.0)
    agreement, _ = pilot_walk(Meter(game), None, np.arange(9), patience=1, cutoff=0.0)
    assert dead_depth(agreement, 9, 1, 0.0) == 9


def test_a_walk_that_agrees_by_chance_does_not_deepen_the_rest():
    n, rng = 640, np.random.default_rng(0)
    removed = pilot_depths(n)
    alive = np.where(removed < 100, 1.0 - removed / 110, 0.1)
    noisy = alive + rng.normal(0, 0.05, len(removed)) * (removed >= 100)  # a mean of 8 walks on 8 images
    assert 90 <= dead_depth(noisy, n, 5, 0.15) <= 120


def test_an_answer_of_the_wrong_shape_is_refused():
    class Wrong(FunctionGame):
        def evaluate(self, coalitions, batch):
            return Outcomes(np.zeros((2, len(coalitions))), np.ones(len(coalitions)))

    game = Wrong(3, lambda s: s[:, 0] * 1.0)
    with pytest.raises(ValueError, match=r"answered values \(2, 1\) .* expected \(1, 1\)"):
        walk(Meter(game), None, np.arange(3), np.ones(3, dtype=bool), 3, 1, None)
