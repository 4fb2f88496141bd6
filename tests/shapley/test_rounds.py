"""Rounds and blocks: the same bits however they are run, and never over budget."""

import dataclasses
import io
import random
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shapley import (
    BlockResult,
    BlockTask,
    BudgetTooSmall,
    Settings,
    State,
    merge_round,
    next_round,
    run,
    run_block,
    start,
)
from shapley import estimate as estimate_of
from shapley.rounds import draw_cost
from tests.shapley.games import FunctionGame, ImageBatchGame

N, BATCH = 9, 4


def image_game(lookahead=1, n=N, seed=0):
    """Dies after about half of the removals; dead_level 0."""
    rng = np.random.default_rng(seed)
    votes = rng.random((60, n))
    return ImageBatchGame(votes, votes.sum(axis=1) * 0.7, BATCH, lookahead=lookahead)


def make(estimator, **changes):
    defaults = {
        "n_players": N,
        "batch_size": BATCH,
        "budget": 20_000,
        "top_k": 3,
        "tol": 0.0,
        "threshold": 0.05,
        "patience": 2,
        "draws_per_block": 3,
        "blocks_per_round": 5,
        "seed": 7,
    }
    return Settings(estimator, **(defaults | changes))


KINDS = {
    "tmab": make("tmab"),
    "tmab, untruncated": make("tmab", threshold=None),
    "tmab, both ends": make("tmab", side="both", top_k=2, bound="anytime"),
    "monte_carlo": make("monte_carlo"),
    "monte_carlo, depth given": make("monte_carlo", depth=5, threshold=None),
    "monte_carlo, of three": make("monte_carlo", players=(1, 4, 6)),
    "cmcs": make("cmcs"),
    "cmcs, of two": make("cmcs", players=(0, 8), depth=6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_everywhere_is_uninterrupted_to_the_bit(kind):
    settings, game = KINDS[kind], image_game()
    whole_estimate, whole = run(game, settings)
    assert whole.round >= 3

    shuffle = random.Random(1)
    stored = start(settings).to_bytes()
    settings = Settings.from_json(settings.to_json())
    while tasks := next_round(State.from_bytes(stored), settings):
        tasks = [BlockTask.from_json(task.to_json()) for task in tasks]
        shuffle.shuffle(tasks)
        results = [run_block(image_game(), settings, State.from_bytes(stored), task).to_bytes() for task in tasks]
        shuffle.shuffle(results)
        merged = merge_round(State.from_bytes(stored), settings, [BlockResult.from_bytes(r) for r in results])
        stored = merged.to_bytes()
    assert stored == whole.to_bytes()
    np.testing.assert_array_equal(estimate_of(State.from_bytes(stored), settings).values, whole_estimate.values)


def test_a_run_goes_on_from_any_state():
    settings, game = KINDS["tmab"], image_game()
    state = start(settings)
    for _ in range(2):
        results = [run_block(game, settings, state, task) for task in next_round(state, settings)]
        state = merge_round(state, settings, results)
    assert run(game, settings, state)[1].to_bytes() == run(game, settings)[1].to_bytes()


def test_a_block_run_twice_gives_the_same_bytes():
    settings, state = KINDS["cmcs"], start(KINDS["cmcs"])
    task = next_round(state, settings)[0]
    first, second = (run_block(image_game(), settings, state, task).to_bytes() for _ in range(2))
    assert first == second


def test_stored_bytes_do_not_depend_on_the_clock():
    with zipfile.ZipFile(io.BytesIO(start(KINDS["cmcs"]).to_bytes())) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("name", ["seed", "stream"])
def test_other_seeds_and_streams_are_other_samples(name):
    settings = KINDS["cmcs"]
    other = dataclasses.replace(settings, **{name: 99})
    assert not np.array_equal(run(image_game(), settings)[0].values, run(image_game(), other)[0].values)


def test_blocks_draw_different_samples():
    settings = make("cmcs", threshold=None)
    state = start(settings)
    means = [run_block(image_game(), settings, state, task).moments.mean for task in next_round(state, settings)]
    assert len({mean.tobytes() for mean in means}) == len(means) == 5


@pytest.mark.parametrize("estimator", ["tmab", "monte_carlo", "cmcs"])
def test_lookahead_changes_the_cost_only(estimator):
    # equal draws: few enough that no budget interferes, and a depth that needs no pilot
    settings = make(estimator, depth=8, budget=10**6, tol=10.0)
    values = [run(image_game(lookahead), settings)[0].values for lookahead in (1, 4, 100)]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


@hypothesis_settings(max_examples=120, deadline=None)
@given(
    estimator=st.sampled_from(["tmab", "monte_carlo", "cmcs"]),
    budget=st.integers(1, 6000),
    lookahead=st.sampled_from([1, 3, 50]),
    truncation=st.sampled_from([(None, None), (0.05, None), (0.05, 5), (None, 4)]),
    players=st.sampled_from([None, (2,), (0, 3, 4, 8)]),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    seed=st.integers(0, 5),
)
def test_the_budget_is_never_exceeded(estimator, budget, lookahead, truncation, players, sizes, seed):
    game = image_game(lookahead)
    settings = make(
        estimator,
        budget=budget,
        threshold=truncation[0],
        depth=truncation[1],
        players=players if estimator != "tmab" else None,
        draws_per_block=sizes[0],
        blocks_per_round=sizes[1],
        seed=seed,
    )
    try:
        estimate, state = run(game, settings)
    except BudgetTooSmall as error:
        estimate, refused = None, error
    if estimate is None:
        assert game.accesses <= budget < refused.least
        return
    assert game.accesses == estimate.evaluations == state.evaluations <= budget
    if estimate.stopped == "budget":  # and nothing that would buy a draw is left over
        assert budget - state.evaluations < draw_cost(state, settings)
    else:
        assert estimate.stopped == "converged"
    assert estimate.samples[settings.candidates()].min() > 0


# coalitions of one draw: n + 1 of a walk; 4 + 1 and V(empty) of one to depth 4; 1 + players of cmcs
LEAST = {
    "walk": (make("monte_carlo", threshold=None), (N + 1) * BATCH),
    "walk of depth 4": (make("monte_carlo", depth=4), 6 * BATCH),
    "walk for one player": (make("monte_carlo", threshold=None, players=(2,)), 2 * BATCH),
    "tmab": (make("tmab", threshold=None), (N + 1) * BATCH),
    "cmcs": (make("cmcs", threshold=None), (1 + N) * BATCH),
    "cmcs of two": (make("cmcs", threshold=None, players=(2, 3)), 3 * BATCH),
    "cmcs with a pilot": (make("cmcs"), (8 * (N + 1) + 1 + N) * BATCH),
}


@pytest.mark.parametrize("name", LEAST)
def test_the_least_budget_is_said_and_suffices(name):
    settings, least = LEAST[name]
    with pytest.raises(BudgetTooSmall, match=f"the least budget is {least}") as caught:
        start(dataclasses.replace(settings, budget=least - 1))
    assert caught.value.least == least
    estimate, _ = run(image_game(), dataclasses.replace(settings, budget=least))
    assert estimate.samples[settings.candidates()].min() >= 1


def test_a_walk_too_dear_after_the_pilot_is_an_error_with_the_least_budget():
    settings = make("monte_carlo", budget=8 * (N + 1) * BATCH + 3 * BATCH, pilot_walks=8)
    game = ImageBatchGame(np.eye(N)[np.arange(60) % N], np.full(60, 0.5), BATCH, lookahead=50)  # dies late
    with pytest.raises(BudgetTooSmall, match="the pilot round and one draw") as caught:
        run(game, settings)
    assert game.accesses <= settings.budget
    estimate, _ = run(game, dataclasses.replace(settings, budget=caught.value.least))
    assert estimate.samples.min() == 1


def test_draws_are_fixed_before_the_round():
    settings = make("monte_carlo", threshold=None, budget=(N + 1) * BATCH * 20)
    state = start(settings)
    assert [task.draws for task in next_round(state, settings)] == [3, 3, 3, 3, 3]
    results = [run_block(image_game(), settings, state, task) for task in next_round(state, settings)]
    state = merge_round(state, settings, results)
    assert [task.draws for task in next_round(state, settings)] == [3, 2]  # what 5 draws' money buys


def test_what_truncation_saves_flows_to_later_rounds():
    cost = (N + 1) * BATCH
    settings = make("monte_carlo", depth=N, budget=cost * 30, draws_per_block=5, blocks_per_round=2)
    estimate, state = run(image_game(), settings)
    assert estimate.samples[0] > 30
    assert settings.budget - state.evaluations < cost


def test_progress_adds_up_and_may_cancel():
    settings, seen = KINDS["tmab"], []
    _, state = run(image_game(), settings, progress=seen.append)
    assert sum(seen) == state.evaluations
    assert max(seen) <= BATCH * N  # between batches, not between rounds

    class Cancelled(Exception):
        pass

    def cancel(spent):
        raise Cancelled

    game = image_game()
    with pytest.raises(Cancelled):
        run(game, settings, progress=cancel)
    assert game.accesses <= BATCH


def test_results_must_be_those_of_the_round():
    settings = KINDS["cmcs"]
    state = start(settings)
    results = [run_block(image_game(), settings, state, task) for task in next_round(state, settings)]
    for wrong in (results[:-1], [*results, results[0]], []):
        with pytest.raises(ValueError, match="round 0 consists of"):
            merge_round(state, settings, wrong)
    later = merge_round(state, settings, results)
    with pytest.raises(ValueError, match="round 1 consists of"):
        merge_round(later, settings, results)
    with pytest.raises(ValueError, match="a block of round 0 cannot run"):
        run_block(image_game(), settings, later, BlockTask(0, 0, 3))


def test_a_finished_run_has_no_next_round():
    settings = KINDS["cmcs"]
    _, state = run(image_game(), settings)
    assert state.stopped == "budget"
    assert next_round(state, settings) == ()
    with pytest.raises(ValueError, match="consists of"):
        merge_round(state, settings, [])


def test_a_state_of_other_settings_is_refused():
    settings = KINDS["cmcs"]
    other = dataclasses.replace(settings, seed=8)
    with pytest.raises(ValueError, match="other settings"):
        next_round(start(settings), other)
    with pytest.raises(ValueError, match="other settings"):
        estimate_of(start(settings), other)


def test_another_game_is_refused():
    settings = make("cmcs", n_players=N + 1, threshold=None)
    state = start(settings)
    with pytest.raises(ValueError, match="n_players is 9, not 10"):
        run_block(image_game(), settings, state, next_round(state, settings)[0])


@pytest.mark.parametrize("record", [State, BlockResult])
@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_bytes_that_are_no_record_are_refused(record, data):
    with pytest.raises(ValueError, match="not a stored record"):
        record.from_bytes(data)


def test_a_record_of_another_kind_is_refused():
    settings = KINDS["cmcs"]
    state = start(settings)
    with pytest.raises(ValueError, match="not a stored block result"):
        BlockResult.from_bytes(state.to_bytes())
    result = run_block(image_game(), settings, state, next_round(state, settings)[0])
    with pytest.raises(ValueError, match="not a stored state"):
        State.from_bytes(result.to_bytes())


def test_the_active_set_changes_between_rounds_only():
    settings = make("tmab", threshold=None, budget=60_000, draws_per_block=16)
    game, state, sizes = image_game(), start(settings), []
    while tasks := next_round(state, settings):
        before = state.moments.count
        active = state.active
        state = merge_round(state, settings, [run_block(game, settings, state, task) for task in tasks])
        draws = sum(task.draws for task in tasks)
        np.testing.assert_array_equal(state.moments.count - before, np.where(active, draws, 0))
        sizes.append(int(active.sum()))
    assert min(sizes) < max(sizes) == N  # it did narrow down, and every player's count is its own


def test_the_learned_depth_is_that_of_the_mean_over_all_pilot_walks():
    settings = make("cmcs", pilot_walks=3, draws_per_block=1, patience=1)
    state = start(settings)
    results = [run_block(image_game(), settings, state, task) for task in next_round(state, settings)]
    assert state.depth is None
    looks = len(results[0].agreement)

    def learned(*lives):
        """Depth learned where the walks die after so many looks."""
        curves = [(np.arange(looks) < life).astype(float) for life in lives]
        replaced = [
            dataclasses.replace(r, agreement=curve, cutoff=0.4) for r, curve in zip(results, curves, strict=True)
        ]
        return merge_round(state, settings, replaced).depth

    assert learned(4, 7, 5) == 5  # two of three are dead from the fifth removal on: mean 1/3
    assert learned(2, 2, looks) == 2
    assert learned(4, looks, looks) == N
    nothing_dies = [dataclasses.replace(r, cutoff=float("nan")) for r in results]
    assert merge_round(state, settings, nothing_dies).depth == N


def test_spread_is_about_the_mean_of_earlier_rounds():
    settings = make("cmcs", depth=5, draws_per_block=1, blocks_per_round=3)  # one sample per block
    game, state, expected = image_game(), start(settings), 0.0
    for guess in ("zero", "the first round's mean"):
        centre = 0.0 if guess == "zero" else state.moments.mean
        results = [run_block(game, settings, state, task) for task in next_round(state, settings)]
        expected = expected + sum((result.moments.mean - centre) ** 2 for result in results)
        state = merge_round(state, settings, results)
    np.testing.assert_allclose(state.spread, expected, atol=1e-12)
    assert (expected > 0).any()


def test_converged_when_every_interval_is_within_tol():
    game = FunctionGame(4, lambda s: s.sum(axis=1) / 4)
    for estimator in ("monte_carlo", "cmcs"):
        settings = Settings(estimator, 4, 10**5, tol=0.05, threshold=None, resolution=0.0)
        estimate, _ = run(game, settings)
        assert estimate.stopped == "converged"
        assert estimate.samples[0] == 32  # the first round's end past the 30 that the CLT asks
