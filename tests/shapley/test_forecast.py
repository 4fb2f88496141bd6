"""`forecast`: told before anything is sampled, after, at the end; right on average about when a search stops."""

import dataclasses

import numpy as np
import pytest

from shapley import fast, forecast, foresee, merge_round, next_round, run_block, start
from tests.shapley.test_fast import GuessedGame, settings_for


def _asked(game, seed=0, **others):
    given = {"side": "both", "top_k": 20, "overlap": 0.9, "screen_draws": 40, "blocks_per_round": 1}
    return settings_for(game, 3_000_000, seed=seed, draws_per_block=4, **(given | others))


def _states(game, settings):
    state = start(settings)
    while tasks := next_round(state, settings):
        state = merge_round(state, settings, [run_block(game, settings, state, task) for task in tasks])
        yield state


def test_nothing_is_foretold_before_samples_or_without_a_goal():
    game = GuessedGame(0.3, n=130)
    settings = _asked(game)
    assert forecast(start(settings), settings) is None
    screened = next(iter(_states(game, settings)))
    assert not screened.paired.count.any()
    assert forecast(screened, settings) is None
    endless = dataclasses.replace(settings, overlap=None, budget=30_000)
    assert all(forecast(state, endless) is None for state in _states(game, endless))


@pytest.mark.parametrize(("blocks", "part"), [(1, 2), (2, 4)])
def test_the_stop_is_foreseen_within_a_factor_of_two_on_most_seeds(blocks, part):
    """After 1 / `part` of the rounds. Early stops by luck cannot be foreseen, so single runs differ more."""
    ratios = []
    for seed in range(8):
        game = GuessedGame(0.3, seed=seed, n=130)
        settings = _asked(game, seed=seed, blocks_per_round=blocks)
        foreseen = []
        for state in _states(game, settings):
            left = forecast(state, settings)
            if left is not None:
                foreseen.append(state.evaluations + left)
        assert foreseen[-1] == state.evaluations  # it has stopped: nothing is left
        ratios.append(foreseen[len(foreseen) // part] / state.evaluations)
    assert np.mean([0.5 <= ratio <= 2 for ratio in ratios]) >= 0.75


def test_no_more_than_the_budget_is_foretold():
    game = GuessedGame(3.0, n=130)
    settings = dataclasses.replace(_asked(game, overlap=0.999), budget=60_000)
    found = [(state.evaluations, forecast(state, settings)) for state in _states(game, settings)]
    told = [spent + left for spent, left in found if left is not None]
    assert told
    assert max(told) <= settings.budget


def test_the_overlap_at_a_budget_is_foreseen():
    """From an early state to the end of the search, on average over seeds; more budget never promises less."""
    gaps = []
    for seed in range(4):
        game = GuessedGame(0.3, seed=seed, n=130)
        settings = _asked(game, seed=seed, overlap=None, blocks_per_round=1)
        settings = dataclasses.replace(settings, budget=120_000)
        states = [state for state in _states(game, settings) if state.paired.count.any()]
        early, end = states[len(states) // 5], states[-1]
        (_, half), (low, whole) = foresee(early, settings, [settings.budget // 2, settings.budget])
        now = fast.expected_overlap(fast.combine(early), settings)
        (spent,) = foresee(early, settings, [1])
        assert spent == (pytest.approx(now), pytest.approx(now)), "what is spent already promises nothing more"
        assert now - 0.05 <= half <= whole + 0.02
        assert now - 0.05 <= low <= whole
        gaps.append(whole - fast.expected_overlap(fast.combine(end), settings))
    assert np.abs(np.mean(gaps)) < 0.05
    assert np.max(np.abs(gaps)) < 0.2


def test_no_overlap_is_foreseen_before_samples():
    game = GuessedGame(0.3, n=130)
    settings = _asked(game)
    assert foresee(start(settings), settings, [10_000]) is None
