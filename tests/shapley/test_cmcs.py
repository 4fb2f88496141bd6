import itertools

import numpy as np
import pytest

from shapley import Settings, run
from shapley.cmcs import differences, draw_removed, scale
from shapley.exact import coalition_values, shapley_values
from shapley.metering import Meter
from tests.shapley.games import FunctionGame, ImageBatchGame


def random_game(n, seed, lookahead=1):
    table = np.random.default_rng(seed).random(2**n)
    return FunctionGame(n, lambda s: table[s @ (1 << np.arange(n))], lookahead=lookahead)


def fade_out(game, depth):
    """The same game, but every coalition with ``depth`` or more players removed is worth nothing."""
    n = game.n_players
    return FunctionGame(n, lambda s: game.evaluate(s, None).values[0] * (n - s.sum(axis=1) < depth), lookahead=2**n)


def expectation(game, depth):
    """Mean of a draw's scaled differences over all r in 0..depth and all R of that size."""
    n = game.n_players
    by_size = []
    for r in range(depth + 1):
        draws = []
        for removed in itertools.combinations(range(n), r):
            coalition = np.ones(n, dtype=bool)
            coalition[list(removed)] = False
            draws.append(differences(Meter(game), None, coalition[None], np.arange(n))[0])
        by_size.append(np.mean(draws, axis=0))
    return scale(n, depth) * np.mean(by_size, axis=0)


def truncated_value(game, depth):
    """(1/n) sum_{s < M} D_s + (n - M)/(n (n + 1)) D_M, from the table of all coalitions."""
    n = game.n_players
    table = coalition_values(game)[0]
    marginals = np.zeros((n, n))  # [s, i] mean over removed sets of size s
    for i in range(n):
        for s in range(n):
            terms = []
            for removed in itertools.combinations([j for j in range(n) if j != i], s):
                code = 2**n - 1 - sum(1 << j for j in removed)
                terms.append(table[code] - table[code & ~(1 << i)])
            marginals[s, i] = np.mean(terms)
    last = (n - depth) / (n * (n + 1)) * marginals[depth] if depth < n else 0.0
    return marginals[:depth].sum(axis=0) / n + last


def test_one_draw_by_hand():
    # V of present sets, by bits:  {}  0    1    01   2    02   12   012
    table = np.array([0.0, 0.1, 0.2, 0.5, 0.3, 0.4, 0.7, 1.0])
    game = FunctionGame(3, lambda s: table[s @ [1, 2, 4]])
    coalition = np.array([True, False, True])  # R = {1}
    delta = differences(Meter(game), None, coalition[None], np.arange(3))
    #                  V(02)-V(2)  V(012)-V(02)  V(02)-V(0)
    np.testing.assert_allclose(delta[0], [0.4 - 0.3, 1.0 - 0.4, 0.4 - 0.1])
    assert game.accesses == 1 + 3


def test_only_the_players_asked_for_are_measured_and_paid():
    game = random_game(6, 0)
    delta = differences(Meter(game), None, np.ones((1, 6), dtype=bool), np.array([1, 4]))
    assert game.accesses == 3
    np.testing.assert_array_equal(np.flatnonzero(delta[0]), [1, 4])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_full_depth_is_unbiased(n):
    game = random_game(n, n)
    exact = shapley_values(coalition_values(game))[0]
    np.testing.assert_allclose(expectation(game, n), exact, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_lesser_depth_has_the_documented_expectation(depth):
    game = random_game(5, 7)
    np.testing.assert_allclose(expectation(game, depth), truncated_value(game, depth), atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_lesser_depth_is_unbiased_where_the_game_is_dead(depth):
    game = fade_out(random_game(5, 11), depth)
    exact = shapley_values(coalition_values(game))[0]
    np.testing.assert_allclose(expectation(game, depth), exact, atol=1e-12)
    assert np.abs(exact).max() > 0.01


def test_removed_sets_are_uniform_in_size_and_given_size():
    rng = np.random.default_rng(0)
    draws = ~draw_removed(rng, 4, 2, parts=30_000)
    sizes = np.bincount(draws.sum(axis=1), minlength=4) / len(draws)
    np.testing.assert_allclose(sizes, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.012)
    pairs = draws[draws.sum(axis=1) == 2] @ [1, 2, 4, 8]
    shares = np.unique(pairs, return_counts=True)[1] / len(pairs)
    np.testing.assert_allclose(shares, np.full(6, 1 / 6), atol=0.02)


def test_sizes_of_the_parts_are_stratified_and_each_is_uniform():
    rng = np.random.default_rng(3)
    sizes = np.array([np.sort((~draw_removed(rng, 30, 23, parts=4)).sum(axis=1)) for _ in range(200)])
    assert ((sizes >= [0, 6, 12, 18]) & (sizes <= [5, 11, 17, 23])).all()
    one_part = np.array([(~draw_removed(rng, 6, 3)).sum() for _ in range(8000)])
    np.testing.assert_allclose(np.bincount(one_part) / 8000, 1 / 4, atol=0.02)


def test_each_image_under_its_own_coalition():
    rng = np.random.default_rng(4)
    game = ImageBatchGame(rng.random((40, 6)), rng.uniform(0.5, 2.5, 40), batch_size=5)
    batch, coalitions = game.draw_batch(rng), draw_removed(rng, 6, 6, parts=5)
    delta = differences(Meter(game), batch, coalitions, np.arange(6))[0]
    by_hand = np.zeros(6)
    for image, coalition in zip(batch, coalitions):
        with_all = np.repeat(coalition[None], 6, axis=0) | np.eye(6, dtype=bool)
        without = with_all & ~np.eye(6, dtype=bool)
        one = np.array([image])
        by_hand += (game.evaluate(with_all, one).values - game.evaluate(without, one).values)[0] / 5
    np.testing.assert_allclose(delta, by_hand, atol=1e-12)


def test_a_coalition_for_each_image_is_unbiased_and_less_noisy():
    rng = np.random.default_rng(5)
    votes = rng.random(7) + rng.normal(0, 0.05, (60, 7))  # images alike: a common coalition is one accident for all
    game = ImageBatchGame(votes, np.full(60, 1.7), batch_size=12)
    exact = shapley_values(coalition_values(game))[0]
    own, common = (np.array([_draw(game, rng, parts)[0] * scale(7, 7) for _ in range(1500)]) for parts in (12, 1))
    for draws in (own, common):
        z = (draws.mean(axis=0) - exact) / (draws.std(axis=0) / np.sqrt(len(draws)))
        assert np.abs(z).max() < 4
    assert own.var(axis=0).mean() < 0.5 * common.var(axis=0).mean()


def _draw(game, rng, parts):
    coalitions = np.broadcast_to(draw_removed(rng, 7, 7, parts), (12, 7))
    return differences(Meter(game), game.draw_batch(rng), coalitions, np.arange(7))


def test_a_run_of_few_players_matches_their_exact_values():
    game = random_game(8, 3, lookahead=300)
    exact = shapley_values(coalition_values(game))[0]
    settings = Settings("cmcs", 8, 3 * 4000, players=(2, 5), tol=0.0, threshold=None, draws_per_block=500, seed=5)
    estimate, _ = run(game, settings)
    assert estimate.samples.tolist() == [0, 0, 4000, 0, 0, 4000, 0, 0]
    chosen = [2, 5]
    z = (estimate.values[0, chosen] - exact[chosen]) / estimate.std_errors[0, chosen]
    assert np.abs(z).max() < 4
    assert np.isnan(np.delete(estimate.values[0], chosen)).all()
    assert (np.delete(estimate.upper[0], chosen) == 1.0).all()
