"""The values of the filters that a repair ablates, on samples drawn after they were chosen.

The search's samples pick the candidates, those of the phase *confirm* help to order them, the stepwise order picks
filters that neither of the two need have sampled, and *select* says how many go. Only what is drawn after all that had
no part in the choice: means are then unbiased whatever was chosen by, and intervals keep their level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from repair_engine.case.case import Case
from repair_engine.choosing.plan import Plan
from repair_engine.search.game import NeuronGame
from repair_engine.search.phases import BATCH_SIZES, DELTA, Ranking
from repair_engine.search.records import Afresh, RunRecord, interval_words
from repair_engine.support.progress import Progress
from shapley import Estimate, Settings, estimate, merge_round, next_round, run_block, start

SHARE = 0.1  # of the budget, spent in addition
STREAM = 2  # of random numbers: the search has 0, the phase confirm 1
_ENOUGH = 40  # draws: with fewer, they are made of fewer images each
_LEAST = 2  # draws, whatever they cost
_ROUND = 8  # blocks


def afresh(case: Case, ranking: Ranking, plan: Plan, run: RunRecord, progress: Progress) -> tuple[Ranking, RunRecord]:
    """Values what the plan ablates on fresh samples; exact values, and those of filters chosen by hand, stand.

    Args:
        run: of `documents.describe_run`: its budget and its images per draw.

    Returns:
        The ranking with these values in the place of what was known of the filters before, and `run` with their cost,
        samples and interval as its `afresh`.
    """
    if not plan.k or case.settings.by_hand or ranking.fresh is ranking.found:
        return ranking, run
    assert ranking.found.depth is not None, "a search that has ended knows how deep its draws go"
    found, images = value(
        case.game(run["images_per_draw"]), plan.chosen, int(SHARE * run["budget"]), case.settings.seed,
        ranking.found.depth, lambda share: progress("valuing the ablated filters on fresh samples", share),
    )  # fmt: skip
    interval = interval_words(found.interval)
    cost: Afresh = {
        "evaluations": found.evaluations,
        "samples": int(found.samples[plan.chosen].min()),
        "images_per_draw": images,
        "interval": interval,
    }
    if ranking.fresh is None:  # no others have fresh samples
        run = run | {"interval": interval, "reported_values": "fresh samples of the ablated filters"}
    return replace(ranking, fresh=in_place(ranking.fresh, found, plan.chosen)), run | {"afresh": cost}


def in_place(of: Estimate | None, found: Estimate, players: np.ndarray) -> Estimate:
    """`of` with what `found` says of players [m]; `found` itself where there is none.

    The interval that is named stays the one of `of`: that of `found` is said beside it.
    """
    if of is None:
        return found
    arrays = {name: getattr(of, name).copy() for name in ("values", "std_errors", "lower", "upper", "samples")}
    for name, array in arrays.items():
        array[..., players] = getattr(found, name)[..., players]
    return replace(of, **arrays)


def value(
    game: NeuronGame, players: np.ndarray, budget: int, seed: int, depth: int, tick: Callable[[float], None]
) -> tuple[Estimate, int]:
    """Values of players [m] on samples of their own, with intervals that hold together for objective 0 of all m.

    At least `_LEAST` draws are made; with fewer than 30 samples the intervals are those of a bounded range.

    Args:
        budget: evaluations, at most, beside those `_LEAST` draws.
        depth: most filters removed in a draw, the search's.
        tick: gets the share of the work that is done.

    Returns:
        The estimate, and the images of a draw.
    """
    settings, game = _affordable(game, players, budget, seed, depth)
    state, done = start(settings), 0

    def count(evaluations: int) -> None:
        nonlocal done
        done += evaluations
        tick(min(done / settings.budget, 1.0))

    while tasks := next_round(state, settings):
        state = merge_round(state, settings, [run_block(game, settings, state, task, count) for task in tasks])
    return estimate(state, settings, interval="clt", delta=DELTA, claims=len(players)), settings.batch_size


def _affordable(
    game: NeuronGame, players: np.ndarray, budget: int, seed: int, depth: int
) -> tuple[Settings, NeuronGame]:
    """The most images per draw that still buy enough draws, else the fewest; and the game with them."""
    for size in (s for s in (game.batch_size, *BATCH_SIZES) if s <= game.batch_size):
        game = game.resized(size)
        cost = (1 + len(players)) * game.batch_size
        if budget // cost >= _ENOUGH:
            break
    settings = Settings(
        estimator="cmcs",
        n_players=game.n_players,
        batch_size=game.batch_size,
        budget=max(budget, _LEAST * cost),
        seed=seed,
        stream=STREAM,
        tol=0.0,
        delta=DELTA,
        depth=depth,
        resolution=game.plan.resolution,
        value_range=game.plan.value_range,
        n_objectives=game.n_objectives,
        players=tuple(int(p) for p in players),
        blocks_per_round=_ROUND,
    )
    return settings, game
