"""How long `fast` still has to sample until its stopping rule is met: its own posterior, played forward.

As samples come in, a posterior mean moves like a random walk whose steps have the variance by which the posterior
narrows (preposterior analysis; Raiffa & Schlaifer 1961). So from the state after a round or more, futures are drawn:
which players stay open, what each draw of them costs, and when the expected overlap reaches what is asked.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from shapley import cmcs, fast
from shapley.base import Ints, Settings
from shapley.estimates import scale
from shapley.state import State

_FUTURES = 24
_GROWTH = 0.15  # a step makes so many times the draws made so far, but at least a round's: rounds are when it stops
_STEPS = 80


def forecast(state: State, settings: Settings) -> float | None:
    """Evaluations until `fast` stops at ``settings.overlap``: the median over futures, at most what the budget leaves.

    None where nothing has been sampled yet or no overlap is asked. 0.0 where it has stopped.
    """
    if settings.overlap is None or not settings.guesses or not state.paired.count.any():
        return None
    if state.stopped is not None:
        return 0.0
    now, factor = fast.combine(state), scale(state, settings)
    left = float(settings.budget - state.evaluations)
    costs = [_future(now, state.paired.count, settings, factor, left, seed) for seed in range(_FUTURES)]
    return float(np.median(costs))


def _future(now: fast.Combined, count: Ints, settings: Settings, factor: float, left: float, seed: int) -> float:
    """Evaluations until one possible future stops, at most `left`.

    Args:
        count: draws made of each player, [n].
    """
    rng, spent = np.random.default_rng(seed), 0.0
    made = first = count.astype(np.float64)
    # Variance of one draw of each player; of those not sampled yet, the mean of the others'.
    known = np.isfinite(now.std_errors)
    one = np.where(known, np.nan_to_num(now.std_errors) ** 2 * count, 0.0)
    one = np.where(known, one, one[known].mean() if known.any() else 0.0)
    best, spread = now.best, now.spread
    for _ in range(_STEPS):
        combined = dataclasses.replace(now, best=best, spread=spread)
        active = settings.candidates() if settings.keep is None else fast.open_under(combined, settings, factor)
        if not active.any() or fast.expected_overlap(combined, settings) >= (settings.overlap or 1.0):
            break
        price = (cmcs.draw_cost(int(active.sum())) + settings.guess_cost) * settings.batch_size
        draws = max(settings.blocks_per_round * settings.draws_per_block, round(float(made.max()) * _GROWTH))
        if spent + draws * price >= left:
            return left
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
    return spent
