"""How far `fast` still has to sample, and what it then expects to know: its own posterior, played forward.

As samples come in, a posterior mean moves like a random walk whose steps have the variance by which the posterior
narrows (preposterior analysis; Raiffa & Schlaifer 1961). So from the state after a round or more, futures are drawn:
which players stay open, what each draw of them costs, and what overlap is expected after how many evaluations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from shapley import cmcs, fast
from shapley.base import Ints, Settings
from shapley.estimates import scale
from shapley.state import State

_FUTURES = 24
_GROWTH = 0.15  # a step makes so many times the draws made so far, but at least so many
_STEPS = 80


class _Stage(NamedTuple):
    """A moment of a future: evaluations in addition, the overlap expected then, and whether nothing follows."""

    spent: float
    overlap: float
    last: bool


def forecast(state: State, settings: Settings) -> float | None:
    """Evaluations until `fast` stops at ``settings.overlap``: the median over futures, at most what the budget leaves.

    None where nothing has been sampled yet or no overlap is asked. 0.0 where it has stopped.
    """
    if settings.overlap is None or not settings.guesses or not state.paired.count.any():
        return None
    if state.stopped is not None:
        return 0.0
    wanted = settings.overlap
    left = float(settings.budget - state.evaluations)
    costs = [
        next(stage.spent for stage in future if stage.last or stage.overlap >= wanted)
        for future in _futures(state, settings, left, settings.blocks_per_round * settings.draws_per_block)
    ]
    return float(np.median(costs))


def foresee(state: State, settings: Settings, budgets: Sequence[int]) -> list[tuple[float, float]] | None:
    """The overlaps between which `fast` can expect to be when it ends at each of the budgets of its search.

    The higher one takes the doubt in the guesses for noise as far as it may be noise, which falls as samples come
    in; the lower one takes it for an error that stays. Few samples do not tell the two apart. Medians over futures.

    None where nothing has been sampled yet. A budget that is spent already gives what is expected now.
    """
    if not settings.guesses or not state.paired.count.any():
        return None
    left = [float(budget - state.evaluations) for budget in budgets]
    low, high = (
        np.median([_reached(future, left) for future in _futures(state, settings, max(left), 1, stays)], axis=0)
        for stays in (True, False)
    )
    return [(float(min(ends)), float(max(ends))) for ends in zip(low, high, strict=True)]


def _reached(future: Iterator[_Stage], left: Sequence[float]) -> list[float]:
    """The overlap that a future has where so much is spent."""
    stages = list(future)
    reached = [[stage.overlap for stage in stages if stage.spent <= one] for one in left]
    return [overlaps[-1] if overlaps else stages[0].overlap for overlaps in reached]


def _futures(state: State, settings: Settings, left: float, least: int, stays: bool = False) -> list[Iterator[_Stage]]:
    now, factor = fast.combine(state), scale(state, settings)
    if stays:
        now = dataclasses.replace(now, melts=np.zeros_like(now.melts))
    return [_future(now, state.paired.count, settings, factor, left, least, seed) for seed in range(_FUTURES)]


def _future(
    now: fast.Combined, count: Ints, settings: Settings, factor: float, left: float, least: int, seed: int
) -> Iterator[_Stage]:
    """One possible future, until `left` evaluations are spent or nobody's place is open.

    Args:
        count: draws made of each player, [n].
        least: draws of a step.
    """
    rng, spent = np.random.default_rng(seed), 0.0
    made = first = count.astype(np.float64)
    # Variance of one draw of each player; of those not sampled yet, the mean of the others'.
    known = np.isfinite(now.std_errors)
    one = np.where(known, np.nan_to_num(now.std_errors) ** 2 * count, 0.0)
    one = np.where(known, one, one[known].mean() if known.any() else 0.0)
    best, spread = now.best, now.spread
    overlap = math.nan
    for _ in range(_STEPS):
        combined = dataclasses.replace(now, best=best, spread=spread)
        active = settings.candidates() if settings.keep is None else fast.open_under(combined, settings, factor)
        overlap = fast.expected_overlap(combined, settings)
        yield _Stage(spent, overlap, not active.any())
        if not active.any():
            return
        price = (cmcs.draw_cost(int(active.sum())) + settings.guess_cost) * settings.batch_size
        draws = max(least, round(float(made.max()) * _GROWTH))
        if spent + draws * price >= left:
            yield _Stage(left, overlap, True)
            return
        spent += draws * price
        made = made + draws * active
        more = np.maximum(made, 1.0) / np.maximum(first, 1.0)
        noise = now.melts / (now.anchored + (1.0 - now.anchored) * more)
        prior = now.prior**2 * (1.0 - now.melts + noise)
        narrower = 1.0 / np.sqrt(1.0 / prior + made / np.maximum(one, 1e-300))
        narrower = np.where(active, np.minimum(narrower, spread), spread)
        moved = np.where(np.isfinite(spread), np.sqrt(np.maximum(spread**2 - narrower**2, 0.0)), 0.0)
        best = best + rng.normal(size=len(best)) * moved
        spread = narrower
    yield _Stage(spent, overlap, True)
