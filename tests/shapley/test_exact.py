"""Closed forms, and the axioms that define the Shapley value."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapley import exact
from shapley.exact import shapley_values
from tests.shapley.games import AdditiveGame, AirportGame, FunctionGame, GloveGame, VotingGame

CLOSED_FORMS = {
    "additive": (AdditiveGame([0.1, -0.2, 0.5]), [0.1, -0.2, 0.5]),
    "voting 3,2,1,1 of 4": (VotingGame([3, 2, 1, 1], 4), [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
    "voting with a dummy": (VotingGame([2, 2, 1], 4), [1 / 2, 1 / 2, 0]),
    "majority of 5": (VotingGame([1] * 5, 3), [1 / 5] * 5),
    "one left, two right gloves": (GloveGame(1, 2), [2 / 3, 1 / 6, 1 / 6]),
    "two pairs of gloves": (GloveGame(2, 2), [1 / 2] * 4),
    "airport 3,1,2": (AirportGame([3.0, 1.0, 2.0]), [1 / 3 + 1 / 2 + 1, 1 / 3, 1 / 3 + 1 / 2]),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_values_known_by_hand(name):
    game, expected = CLOSED_FORMS[name]
    game.accesses = 0
    estimate = exact(game)
    np.testing.assert_allclose(estimate.values[0], expected, atol=1e-12)
    np.testing.assert_allclose(game.shapley, expected, atol=1e-12)
    np.testing.assert_array_equal(estimate.lower, estimate.upper)
    assert estimate.evaluations == 2**game.n_players == game.accesses


LARGER = {
    "voting": VotingGame([7, 5, 5, 3, 2, 2, 1, 1, 1], 14, lookahead=256),
    "gloves": GloveGame(4, 6, lookahead=256),
    "airport": AirportGame([3, 1, 4, 1, 5, 9, 2, 6, 5, 3.5], lookahead=256),
}


@pytest.mark.parametrize("name", LARGER)
def test_closed_forms_of_larger_games(name):
    game = LARGER[name]
    np.testing.assert_allclose(exact(game).values[0], game.shapley, atol=1e-12)


def by_permutations(table):
    """Equation 2 of the paper, all n! orders; table [2^n]."""
    n = len(table).bit_length() - 1
    values = np.zeros(n)
    for order in itertools.permutations(range(n)):
        coalition = 0
        for i in order:
            values[i] += table[coalition | 1 << i] - table[coalition]
            coalition |= 1 << i
    return values / math.factorial(n)


tables = st.integers(1, 5).flatmap(lambda n: st.lists(st.floats(-1, 1), min_size=2**n, max_size=2**n))


@given(tables)
def test_enumeration_of_coalitions_equals_enumeration_of_orders(table):
    np.testing.assert_allclose(shapley_values(np.array([table]))[0], by_permutations(table), atol=1e-12)


@given(tables)
def test_efficiency(table):
    assert shapley_values(np.array([table])).sum() == pytest.approx(table[-1] - table[0], abs=1e-12)


@given(tables, st.data())
def test_null_player(table, data):
    n = len(table).bit_length() - 1
    i = data.draw(st.integers(0, n - 1))
    game = np.array([table[code & ~(1 << i)] for code in range(2**n)])  # player i never changes anything
    assert shapley_values(game[None])[0, i] == pytest.approx(0.0, abs=1e-12)


def swapped(code, i, j):
    bit_i, bit_j = code >> i & 1, code >> j & 1
    return code & ~(1 << i) & ~(1 << j) | bit_i << j | bit_j << i


@given(tables.filter(lambda table: len(table) > 2), st.data())
def test_symmetry(table, data):
    n = len(table).bit_length() - 1
    i, j = data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True))
    game = np.array([(table[code] + table[swapped(code, i, j)]) / 2 for code in range(2**n)])
    values = shapley_values(game[None])[0]
    assert values[i] == pytest.approx(values[j], abs=1e-12)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_linearity(n, seed, factor):
    first, second = np.random.default_rng(seed).normal(size=(2, 2**n))
    values = shapley_values(np.stack([first, second, first + factor * second]))
    np.testing.assert_allclose(values[2], values[0] + factor * values[1], atol=1e-10)


def test_too_many_players_are_refused():
    with pytest.raises(ValueError, match="at most 20 players; this game has 21"):
        exact(AdditiveGame([0.0] * 21))


def test_several_objectives_at_once():
    game = FunctionGame(3, lambda s: np.stack([s[:, 0] * 1.0, s[:, 1] & s[:, 2]]))
    np.testing.assert_allclose(exact(game).values, [[1, 0, 0], [0, 0.5, 0.5]], atol=1e-12)
