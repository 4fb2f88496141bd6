"""Rounds and blocks: the one loop, cut so that any number of workers gives the same bits.

A round is fixed before it starts: which players are measured, how deep, how many draws, and which
blocks they fall into. A block takes all its randomness from (seed, stream, round, block). What
blocks return is merged in block order, and only merged rounds decide what comes next. So the result
does not depend on who ran what, when, or how often it was interrupted.

The number of draws of a round is bought at the worst-case cost of a draw, so the budget cannot be
exceeded; what truncation leaves unspent goes to later rounds. Deciding by the length that a draw turned
out to have would keep short draws and drop long ones: bias.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from shapley import cmcs, fast, walk
from shapley.base import Batch, BlockTask, Bools, BudgetTooSmall, Estimate, Game, Progress, Settings
from shapley.contenders import contenders
from shapley.estimates import estimate, raw_half_widths, scale
from shapley.metering import Meter
from shapley.moments import Moments
from shapley.paired import PairedMoments
from shapley.state import ENDS, BlockResult, State, fingerprint


def start(settings: Settings) -> State:
    """The state before anything is sampled. Raises BudgetTooSmall if no draw can be afforded.

    Where the depth is to be learned, a walk's cost is known only after the pilot round; then `merge_round`
    of that round may raise it too.
    """
    n, m = settings.n_players, settings.n_objectives
    depth = n if settings.depth is None else min(settings.depth, n)
    pilot = settings.depth is None and settings.threshold is not None
    state = State(
        settings_key=fingerprint(settings),
        round=0,
        depth=None if pilot else depth,
        active=settings.candidates(),
        moments=Moments.empty(m, n),
        spread=np.zeros((m, n)),
        walks=Moments.empty(m, ENDS),
        screened=PairedMoments.empty(settings.guesses, n),
        paired=PairedMoments.empty(_quantities(settings), n),
        evaluations=0,
        stopped=None,
    )
    shallowest = dataclasses.replace(state, depth=state.depth or 1)
    least = _pilot_cost(state, settings) + _screen_cost(settings) + draw_cost(shallowest, settings)
    if settings.budget < least:
        raise BudgetTooSmall(settings.budget, least, _bought(settings, pilot))
    return state


def _bought(settings: Settings, pilot: bool) -> str:
    """What the least budget buys, in words."""
    parts = [name for name, there in (("the pilot round", pilot), ("the screen", settings.guesses)) if there]
    return " and ".join([*parts, "one draw"])


def _quantities(settings: Settings) -> int:
    """Quantities that `fast` samples together."""
    return fast.GUESSES + settings.guesses if settings.guesses else 0


def _screening(state: State, settings: Settings) -> bool:
    """Whether the next round screens: the depth is known, and not all screen draws are made."""
    return state.depth is not None and bool(settings.guesses) and state.screened.count[0] < settings.screen_draws


def _screen_cost(settings: Settings) -> int:
    return settings.screen_draws * settings.guess_cost * settings.batch_size if settings.guesses else 0


def draw_cost(state: State, settings: Settings) -> int:
    """The most evaluations that one draw of the next sampling round takes; the depth must be known."""
    active = int(state.active.sum())
    if settings.guesses and not state.paired.count.any() and settings.keep is not None:
        # Before the screen it is not known who will be sampled; how many is.
        at_ends = settings.keep * (1 + (settings.side == "both"))
        active = active if at_ends >= active else min(active, at_ends + fast.RANDOM_PLAYERS)
    if settings.estimator in ("cmcs", "fast"):
        coalitions = cmcs.draw_cost(active) + (settings.guess_cost if settings.guesses else 0)
    else:
        assert state.depth is not None
        coalitions = walk.walk_cost(settings.n_players, active, state.depth)
    return coalitions * settings.batch_size


def _pilot_cost(state: State, settings: Settings) -> int:
    if state.depth is not None:
        return 0
    return settings.pilot_walks * walk.pilot_cost(settings.n_players) * settings.batch_size


def next_round(state: State, settings: Settings) -> tuple[BlockTask, ...]:
    """The blocks of the next round; none when the run is finished (``state.stopped`` says why)."""
    _check(state, settings)
    if state.stopped is not None:
        return ()
    size = settings.draws_per_block
    if state.depth is None:
        draws = settings.pilot_walks
    elif _screening(state, settings):
        draws = settings.screen_draws
        size = -(-draws // settings.blocks_per_round)
    else:
        affordable = (settings.budget - state.evaluations) // draw_cost(state, settings)
        draws = min(settings.draws_per_block * settings.blocks_per_round, affordable)
    return tuple(
        BlockTask(state.round, block, min(size, draws - first)) for block, first in enumerate(range(0, draws, size))
    )


def run_block(
    game: Game, settings: Settings, state: State, task: BlockTask, progress: Progress | None = None
) -> BlockResult:
    """Sample one block. Pure: the same arguments give the same bits.

    ``progress`` gets the evaluations spent since its last call, between batches, and may raise to cancel.
    Raises ValueError where game, settings, state and task do not belong together.
    """
    _check(state, settings)
    mirrored = ("n_players", "n_objectives", "batch_size") + (("n_guesses", "guess_cost") if settings.guesses else ())
    for name in mirrored:
        if (own := getattr(game, name, None)) != getattr(settings, name):  # None: not a GuessingGame
            raise ValueError(f"the game's {name} is {own}, not {getattr(settings, name)}")
    if task.round != state.round:
        raise ValueError(f"a block of round {task.round} cannot run on the state before round {state.round}")
    seeds = np.random.SeedSequence([settings.seed, settings.stream, task.round, task.block])
    rng = np.random.default_rng(seeds)
    meter = Meter(game, progress)
    moments = Moments.empty(settings.n_objectives, settings.n_players)
    walks = Moments.empty(settings.n_objectives, ENDS)
    screened = PairedMoments.empty(settings.guesses, settings.n_players)
    paired = PairedMoments.empty(_quantities(settings), settings.n_players)
    cutoff = walk.dead_cutoff(game, settings.threshold)
    agreement = np.zeros(0)
    if state.depth is None and cutoff is None:
        return BlockResult(task.round, task.block, task.draws, agreement, math.nan, moments, walks, screened, paired, 0)
    players = np.flatnonzero(state.active)
    guess_draws = getattr(game, "guess_draws", 1)
    waiting: list[tuple[Bools, Batch]] = []
    for draw in range(task.draws):
        batch = game.draw_batch(rng)
        ends = None
        if state.depth is None:
            assert cutoff is not None
            order = rng.permutation(settings.n_players)
            seen, ends = walk.pilot_walk(meter, batch, order, settings.patience, cutoff)
            agreement = agreement + seen if len(agreement) else seen
        elif settings.estimator in ("cmcs", "fast"):
            coalitions = cmcs.draw_removed(rng, settings.n_players, state.depth, game.n_parts)
            if _screening(state, settings):
                waiting.append((coalitions, batch))
                if len(waiting) >= guess_draws or draw == task.draws - 1:
                    for guessed in meter.guesses(waiting):
                        screened = screened.merge(PairedMoments.of(guessed))
                    waiting = []
                continue
            if settings.guesses:
                delta, together = cmcs.paired_differences(meter, batch, coalitions, players)
                paired = paired.merge(PairedMoments.of(together, state.active))
            else:
                delta = cmcs.differences(meter, batch, coalitions, players)
            moments = moments.merge(Moments.of(delta, state.active))
        else:
            order = rng.permutation(settings.n_players)
            result = walk.walk(meter, batch, order, state.active, state.depth, settings.patience, cutoff)
            moments = moments.merge(Moments.of(result.marginals, state.active))
            ends = result.ends
        if ends is not None:
            walks = walks.merge(Moments.of(ends))
    alive = math.nan if cutoff is None else cutoff
    return BlockResult(
        task.round, task.block, task.draws, agreement, alive, moments, walks, screened, paired, meter.evaluations
    )


def merge_round(state: State, settings: Settings, results: Sequence[BlockResult]) -> State:
    """The state after the round whose blocks gave ``results`` (in any order, all of them, once).

    Raises ValueError where they are not just that, and BudgetTooSmall if after the pilot no draw
    can be afforded.
    """
    tasks = next_round(state, settings)
    results = sorted(results, key=lambda result: result.block)
    given = tuple(BlockTask(result.round, result.block, result.draws) for result in results)
    if not tasks or given != tasks:
        raise ValueError(f"round {state.round} consists of {list(tasks)}; got results of {list(given)}")
    sampled = Moments.empty(settings.n_objectives, settings.n_players)
    walks = Moments.empty(settings.n_objectives, ENDS)
    screened, paired = state.screened, state.paired
    for result in results:  # in block order: the same bits however they arrived
        sampled, walks = sampled.merge(result.moments), walks.merge(result.walks)
        screened, paired = screened.merge(result.screened), paired.merge(result.paired)
    pilot, screening = state.depth is None, _screening(state, settings)
    # A walk estimator's certificate comes from its own walks; a pilot's serve only an estimator without any.
    keep_walks = not pilot or settings.estimator in ("cmcs", "fast")
    state = dataclasses.replace(
        state,
        round=state.round + 1,
        depth=_learned_depth(settings, results) if pilot else state.depth,
        moments=state.moments.merge(sampled),
        spread=state.spread + sampled.spread_about(state.moments.mean) * (sampled.count > 0),
        walks=state.walks.merge(walks) if keep_walks else state.walks,
        screened=screened,
        paired=paired,
        evaluations=state.evaluations + sum(result.evaluations for result in results),
    )
    if screening:
        state = dataclasses.replace(state, active=fast.first_active(state, settings))
    return _decide(state, settings, pilot, screening)


def _learned_depth(settings: Settings, results: Sequence[BlockResult]) -> int:
    """From a pilot round's blocks, in block order."""
    if math.isnan(results[0].cutoff):
        return settings.n_players
    total, walks = results[0].agreement, results[0].draws
    for result in results[1:]:
        total, walks = total + result.agreement, walks + result.draws
    return walk.dead_depth(total / walks, settings.n_players, settings.patience, results[0].cutoff)


def _decide(state: State, settings: Settings, pilot: bool, screening: bool) -> State:
    """Active set and stopping, from merged rounds only."""
    if settings.guesses and not pilot and not screening:
        factor = scale(state, settings)
        everyone = settings.keep is None
        active = settings.candidates() if everyone else fast.open_players(state, settings, factor)
        found = settings.overlap is not None and (
            fast.expected_overlap(fast.combine(state), settings) >= settings.overlap
        )
        if found or not active.any():
            return dataclasses.replace(state, stopped="converged")
        state = dataclasses.replace(state, active=active)
    elif not pilot and not screening:
        half = raw_half_widths(state, settings, settings.bound, settings.delta)[0] * scale(state, settings)
        values = state.moments.mean[0] * scale(state, settings)
        candidates = settings.candidates()
        if settings.estimator == "tmab":
            active = contenders(values, half, candidates, settings.top_k, settings.side, settings.tol)
            state = dataclasses.replace(state, active=active)
            converged = not active.any()
        else:
            converged = settings.tol > 0.0 and bool((half[candidates] <= settings.tol).all())
        if converged:
            return dataclasses.replace(state, stopped="converged")
    cost = draw_cost(state, settings) + (_screen_cost(settings) if pilot else 0)
    if state.evaluations + cost <= settings.budget:
        return state
    if pilot:
        raise BudgetTooSmall(settings.budget, state.evaluations + cost, _bought(settings, pilot))
    return dataclasses.replace(state, stopped="budget")


def run(
    game: Game, settings: Settings, state: State | None = None, progress: Progress | None = None
) -> tuple[Estimate, State]:
    """All rounds that are left, in this process, from ``state`` or from the start."""
    if state is None:
        state = start(settings)
    while tasks := next_round(state, settings):
        results = [run_block(game, settings, state, task, progress) for task in tasks]
        state = merge_round(state, settings, results)
    return estimate(state, settings), state


def _check(state: State, settings: Settings) -> None:
    if state.settings_key != fingerprint(settings):
        raise ValueError("this state belongs to other settings")
