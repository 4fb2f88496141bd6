"""The estimators against enumeration: unbiased, efficient, truncated as certified, covered as claimed."""

import dataclasses
import math

import numpy as np
import pytest

from shapley import Settings, estimate, exact, run
from tests.shapley.games import (
    AdditiveGame,
    AirportGame,
    FunctionGame,
    GloveGame,
    ImageBatchGame,
    VotingGame,
)


def image_game(seed=0, n=8, batch=6, weights=None, lookahead=16):
    rng = np.random.default_rng(seed)
    votes = rng.random((60, n)) ** 2
    votes[:, 1] = -0.5 * votes[:, 1]  # a culprit
    return ImageBatchGame(votes, votes.sum(axis=1) * 0.6, batch, weights, lookahead)


def table_game(n, seed):
    table = np.random.default_rng(seed).random(2**n)
    return FunctionGame(n, lambda s: table[s @ (1 << np.arange(n))], lookahead=n + 1)


GAMES = {
    "voting": (VotingGame([5, 4, 3, 2, 2, 1, 1], 9, lookahead=8), 1.0),
    "gloves": (GloveGame(3, 4, lookahead=8), 3.0),
    "airport": (AirportGame([1, 2, 2, 3, 5], lookahead=8), 5.0),
    "arbitrary": (table_game(9, 0), 1.0),
    "images": (image_game(), 1.0),
    "twelve players": (image_game(3, n=12), 1.0),
}


def settings_for(game, estimator, draws, **changes):
    defaults = {
        "n_players": game.n_players,
        "n_objectives": game.n_objectives,
        "batch_size": game.batch_size,
        "budget": draws * (game.n_players + 1) * game.batch_size,
        "threshold": None,
        "tol": 0.0,
        "top_k": 2,
        "draws_per_block": 100,
        "seed": 3,
    }
    return Settings(estimator, **(defaults | changes))


def z_scores(found, truth):
    off = found.values - truth
    return np.where(np.abs(off) < 1e-9, 0.0, off / np.maximum(found.std_errors, 1e-12))


@pytest.mark.parametrize("estimator", ["monte_carlo", "cmcs", "tmab"])
@pytest.mark.parametrize("name", GAMES)
def test_agreement_with_enumeration(name, estimator):
    game, value_range = GAMES[name]
    truth = exact(game).values
    found, _ = run(game, settings_for(game, estimator, 3000, value_range=value_range))
    assert np.abs(z_scores(found, truth)).max() < 4.0
    assert found.std_errors.max() < 0.03 * value_range


@pytest.mark.parametrize("estimator", ["monte_carlo", "tmab"])
def test_an_additive_game_has_no_variance(estimator):
    game = AdditiveGame([0.4, -0.1, 0.2, 0.0, 0.2])
    found, _ = run(game, settings_for(game, estimator, 50))
    np.testing.assert_allclose(found.values[0], game.shapley, atol=1e-12)


def test_measuring_a_few_does_not_bias_them():
    # The others must stay in the permutation: without them this game's coalitions would be larger.
    game = table_game(9, 5)
    truth = exact(game).values[0, [0, 7]]
    settings = settings_for(game, "monte_carlo", 3000, players=(0, 7))
    found, _ = run(game, settings)
    assert np.abs((found.values[0, [0, 7]] - truth) / found.std_errors[0, [0, 7]]).max() < 4
    assert found.std_errors[0, [0, 7]].max() < 0.01
    assert found.samples[1] == 0
    assert np.isnan(found.values[0, 1])
    assert found.certificate is None  # no full walk


def test_objectives_are_valued_together():
    weights = np.zeros((3, 60))
    weights[0, :30] = weights[1, 30:] = 1.0
    weights[2] = weights[0] + 2.0 * weights[1]
    game = image_game(2, weights=weights)
    truth = exact(game).values
    for estimator in ("monte_carlo", "cmcs", "tmab"):
        found, _ = run(game, settings_for(game, estimator, 800))
        assert found.values.shape == (3, 8)
        assert np.abs(z_scores(found, truth)).max() < 4
        # linearity holds sample by sample, not just on average
        np.testing.assert_allclose(found.values[2], found.values[0] + 2 * found.values[1], atol=1e-12)


def test_a_null_player_is_exactly_zero():
    game = FunctionGame(5, lambda s: (s[:, [0, 2, 4]].sum(axis=1) >= 2) * 1.0)
    for estimator in ("monte_carlo", "cmcs", "tmab"):
        found, _ = run(game, settings_for(game, estimator, 60))
        assert found.values[0, 1] == found.values[0, 3] == 0.0
        assert found.values[0, 0] > 0.1


def test_full_walks_are_efficient_on_every_batch():
    game = image_game()
    found, _ = run(game, settings_for(game, "monte_carlo", 30))
    certificate = found.certificate
    assert found.values.sum() == pytest.approx(certificate.intact[0] - certificate.empty[0], abs=1e-12)
    assert certificate.missing[0] == certificate.missing_error[0] == 0.0
    assert certificate.walks == 30


# --- truncation ---------------------------------------------------------------------------------------


def dying_game(lookahead=1, tail=0.0):
    """12 players; agreement and V fall by a fifth per removal until dead; ``tail`` is lost with the last."""

    def alive(s):
        return np.maximum(0.0, 1.0 - (12 - s.sum(axis=1)) / 5)

    return FunctionGame(12, lambda s: alive(s) + tail * s.any(axis=1), alive, 0.0, lookahead)


@pytest.mark.parametrize("estimator", ["monte_carlo", "tmab", "cmcs"])
def test_truncation_past_death_loses_nothing(estimator):
    settings = settings_for(dying_game(), estimator, 400, threshold=0.0, patience=2, draws_per_block=8, pilot_walks=2)
    found, _ = run(dying_game(), settings)
    assert found.depth == 6  # dead with the 5th removal, and a 6th to be sure
    np.testing.assert_allclose(found.values[0], np.full(12, 1 / 12), atol=4.5 * found.std_errors.max())
    assert found.std_errors.max() < 0.008
    assert found.certificate.missing[0] == 0.0


def test_truncated_walks_are_cheaper():
    whole = settings_for(dying_game(), "monte_carlo", 100)
    truncated = dataclasses.replace(whole, threshold=0.0, patience=2)
    assert run(dying_game(), truncated)[0].samples[0] > 1.5 * run(dying_game(), whole)[0].samples[0]


def test_the_certificate_counts_what_is_missing():
    game = dying_game(tail=0.25)
    settings = settings_for(game, "monte_carlo", 200, threshold=0.0, patience=2, value_range=1.25)
    found, _ = run(game, settings)
    certificate = found.certificate
    assert certificate.walks == found.samples[0]  # its own walks, not the pilot's
    assert certificate.missing[0] == pytest.approx(0.25)
    assert found.values.sum() == pytest.approx(certificate.intact[0] - certificate.stop[0], abs=1e-12)
    # with what is missing the values are efficient
    assert found.values.sum() + certificate.missing[0] == pytest.approx(1.25)


def test_a_pilot_certifies_cmcs():
    game = dying_game(tail=0.25)
    settings = settings_for(game, "cmcs", 200, threshold=0.0, patience=2, value_range=1.25, pilot_walks=3)
    found, _ = run(game, settings)
    assert found.certificate.walks == 3
    assert found.certificate.missing[0] == pytest.approx(0.25)


def test_the_pilot_s_walks_are_not_in_the_moments():
    settings = settings_for(dying_game(), "cmcs", 20, threshold=0.0, patience=2, pilot_walks=5)
    found, state = run(dying_game(), settings)
    pilot = 5 * 8  # V(N), six removals, V(empty)
    assert found.samples[0] * 13 + pilot == state.evaluations


def test_a_game_without_a_notion_of_dead_pays_no_pilot():
    game = AdditiveGame([0.1, 0.2, 0.3])
    settings = settings_for(game, "cmcs", 100, threshold=0.5)
    found, _ = run(game, settings)
    assert found.depth == 3
    assert found.evaluations == found.samples[0] * 4 == game.accesses


def test_an_objective_that_is_higher_when_dead_does_not_confuse_truncation():
    # V of the dead network (0.667) exceeds that of the intact one (0.539); agreement knows better.
    def agreement(s):
        return np.maximum(0.3, 1.0 - (12 - s.sum(axis=1)) * 0.15)

    game = FunctionGame(12, lambda s: np.where(agreement(s) > 0.3, 0.539, 0.667), agreement, 0.3)
    found, _ = run(game, settings_for(game, "monte_carlo", 50, threshold=0.01, patience=1))
    assert found.depth == 5
    np.testing.assert_allclose(found.values.sum(), 0.539 - 0.667)
    assert found.certificate.missing[0] == 0.0


# --- the bandit ---------------------------------------------------------------------------------------


def noisy_weights_game(weights, seed=0):
    """Each image sees each player's weight with noise: the value of a player is its weight's mean."""
    rng = np.random.default_rng(seed)
    seen = np.asarray(weights) + rng.choice([-0.2, 0.2], size=(400, len(weights)))
    seen += np.asarray(weights) - seen.mean(axis=0)

    class Noisy(FunctionGame):
        batch_size = 4
        n_images = 400

        def draw_batch(self, rng):
            return rng.integers(400, size=4)

        def full_batch(self):
            return np.arange(400)

        def evaluate(self, coalitions, batch):
            self.accesses += len(coalitions) * len(batch)
            outcomes = super().evaluate(coalitions, None)
            self.accesses -= len(coalitions)
            return dataclasses.replace(outcomes, values=(coalitions @ seen[batch].mean(axis=0))[None])

    game = Noisy(len(weights), lambda s: s.sum(axis=1) * 0.0)
    return game


WEIGHTS = [0.5, 0.45, 0.3, 0.25, 0.1, 0.08, -0.1, -0.15, -0.3, -0.4]


@pytest.mark.parametrize(
    ("side", "k", "found_at"),
    [
        ("top", 2, [{0, 1}, None]),
        ("bottom", 2, [None, {8, 9}]),
        ("both", 2, [{0, 1}, {8, 9}]),
        ("top", 4, [{0, 1, 2, 3}, None]),
    ],
)
def test_tmab_separates_the_ends_that_are_asked_for(side, k, found_at):
    game = noisy_weights_game(WEIGHTS)
    settings = settings_for(game, "tmab", 5000, top_k=k, side=side, tol=0.002, draws_per_block=8)
    found, state = run(game, settings)
    assert found.stopped == "converged"
    assert state.evaluations < settings.budget
    order = np.argsort(-found.values[0])
    top, bottom = found_at
    assert top is None or set(order[:k]) == top
    assert bottom is None or set(order[-k:]) == bottom


def test_tmab_spends_its_samples_at_the_border():
    game = noisy_weights_game([0.5, 0.31, 0.3, 0.1, 0.0, -0.2])
    found, _ = run(game, settings_for(game, "tmab", 1500, top_k=2, draws_per_block=8))
    assert found.samples[[1, 2]].min() > 4 * found.samples[[0, 3, 4, 5]].max()


@pytest.mark.parametrize("bound", ["clt", "bernstein", "bernstein_paper", "anytime"])
def test_ties_at_the_border_end_by_tolerance(bound):
    game = noisy_weights_game([0.5, 0.3, 0.3, 0.3, 0.0])
    settings = settings_for(game, "tmab", 40_000, top_k=2, tol=0.05, bound=bound, draws_per_block=50)
    found, _ = run(game, settings)
    assert found.stopped == "converged"


@pytest.mark.parametrize("side", ["top", "bottom", "both"])
def test_exact_ties_without_tolerance_end_by_budget(side):
    game = AdditiveGame([0.25, 0.25, 0.25, 0.25])
    found, _ = run(game, settings_for(game, "tmab", 500, top_k=2, side=side, draws_per_block=50))
    assert found.stopped == "budget"
    assert found.evaluations <= 500 * 5


# --- intervals ----------------------------------------------------------------------------------------


def test_clt_intervals_cover_nominally_over_seeds():
    game, player, seeds, delta = image_game(1, n=5, batch=20), 2, 600, 0.1
    truth = exact(game).values[0, player]
    covered = 0
    for seed in range(seeds):
        settings = settings_for(game, "cmcs", 40, seed=seed, draws_per_block=40, players=(player,))
        settings = dataclasses.replace(settings, budget=40 * 2 * 20)
        found = estimate(run(game, settings)[1], settings, delta=delta, claims=1)
        covered += found.lower[0, player] <= truth <= found.upper[0, player]
    two_errors = 2 * math.sqrt(delta * (1 - delta) / seeds)
    assert covered / seeds == pytest.approx(1 - delta, abs=two_errors)


@pytest.mark.parametrize("interval", ["bernstein", "anytime"])
def test_bounded_intervals_hold_together_over_seeds(interval):
    game, seeds, delta = image_game(1, n=5, batch=2), 60, 0.3
    truth = exact(game).values
    missed = 0
    for seed in range(seeds):
        # anytime: under adaptive sampling, and looked at after every round
        estimator = "tmab" if interval == "anytime" else "monte_carlo"
        settings = settings_for(game, estimator, 150, seed=seed, draws_per_block=10)
        found = estimate(run(game, settings)[1], settings, interval, delta)
        assert found.interval.claims == 5
        missed += not ((found.lower <= truth) & (truth <= found.upper)).all()
    assert missed / seeds <= delta


def test_a_lesser_depth_scales_errors_and_intervals_with_the_values():
    """Over seeds, the standard error is the spread of the estimates, and the interval follows it."""
    game, draws = image_game(1, n=5, batch=20), 100
    settings = settings_for(game, "cmcs", draws, depth=2)
    runs = []
    for seed in range(60):
        seeded = dataclasses.replace(settings, seed=seed)
        runs.append(estimate(run(game, seeded)[1], seeded, claims=1, delta=0.05))
    seen = np.std([found.values[0] for found in runs], axis=0, ddof=1)
    said = np.mean([found.std_errors[0] for found in runs], axis=0)
    np.testing.assert_allclose(said, seen, rtol=0.35)  # unscaled it would be twice as large
    widths = np.array([(found.upper - found.lower)[0] for found in runs])
    errors = np.array([found.std_errors[0] for found in runs])
    np.testing.assert_allclose(widths, 2 * 1.984 * errors, rtol=1e-3)  # Student's t, 99 degrees of freedom


def test_more_claims_make_wider_intervals():
    settings = settings_for(image_game(), "cmcs", 100)
    _, state = run(image_game(), settings)
    for interval in ("clt", "bernstein", "bernstein_paper", "anytime"):
        one, all_of_them = (estimate(state, settings, interval, claims=c) for c in (1, None))
        width = [found.upper - found.lower for found in (one, all_of_them)]
        assert (width[0] < width[1]).any()
        assert (width[0] <= width[1]).all()
        assert all_of_them.interval.claims == 8
        assert all_of_them.interval.name == interval


def test_an_estimate_says_what_its_intervals_promise():
    settings = settings_for(image_game(), "cmcs", 20)
    _, state = run(image_game(), settings)
    text = estimate(state, settings, delta=0.05).interval.text
    assert "95% for all 8 intervals together" in text
    assert "8 with under 30 samples show the bounded-range interval" in text
    assert "any stopping rule" in estimate(state, settings, "anytime").interval.text
    with pytest.raises(ValueError, match="claims must be at least 1"):
        estimate(state, settings, claims=0)


def test_mostly_zero_samples_do_not_pretend_certainty():
    votes = np.ones((50, 4)) * [1.0, 1.0, 1.0, 0.001]
    game = ImageBatchGame(votes, np.full(50, 1.5), 5)
    found, _ = run(game, settings_for(game, "cmcs", 60))
    assert found.std_errors[0, 3] == 0.0  # the last player was never seen to matter
    assert found.upper[0, 3] - found.lower[0, 3] > 0.01


def test_nothing_sampled_is_said_as_such():
    settings = settings_for(image_game(), "cmcs", 20, players=(1, 2))
    _, state = run(image_game(), settings)
    found = estimate(state, settings)
    unsampled = [0, 3, 4, 5, 6, 7]
    assert (found.samples[unsampled] == 0).all()
    assert np.isnan(found.values[0, unsampled]).all()
    assert np.isnan(found.std_errors[0, unsampled]).all()
    assert (found.lower[0, unsampled] == -1.0).all()
    assert (found.upper[0, unsampled] == 1.0).all()
