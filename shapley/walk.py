"""The walk sampler: remove players in random order and record what each removal costs.

With all players active this is Castro's permutation sampling (`monte_carlo`), truncated or not; with
the bandit's active set it is Algorithm 1 of Ghorbani & Zou 2020 (arXiv 2002.09815), `tmab`. Inactive
players stay in the permutation and are removed like the others, only their marginals are not measured:
deleting them would change the sizes of the coalitions and bias everybody else.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from shapley.base import Batch, Bools, Floats, Game, Ints
from shapley.metering import Meter

PILOT_STEPS = 64  # a pilot walk looks at no more than this many depths


@dataclasses.dataclass(frozen=True)
class WalkResult:
    """One permutation on one batch."""

    marginals: Floats  # [M, n] V before minus V after the removal; 0 past the stop and for inactive players
    stop: int  # removals made when the walk ended
    ends: Floats | None  # [M, 4] V(N), V(at stop), V(empty), V(at stop) - V(empty); full walks only


def dead_cutoff(game: Game, threshold: float | None) -> float | None:
    """Agreement at or below which a coalition is dead; None: nothing ever is.

    A threshold that would call the intact network dead (agreement 1) tells nothing and is ignored.
    """
    if threshold is None or game.dead_level < 0.0:
        return None
    cutoff = game.dead_level + threshold
    return cutoff if cutoff < 1.0 else None


def prefix_coalitions(order: Ints, removed: Ints) -> Bools:
    """Coalitions bool [K, n] left after the first ``removed`` [K] players of ``order`` [n] are gone."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank >= np.asarray(removed)[:, None]


def walk(
    meter: Meter, batch: Batch, order: Ints, active: Bools, depth: int, patience: int, cutoff: float | None
) -> WalkResult:
    """Walk down ``order`` [n] to ``depth`` removals or to ``patience`` consecutive dead evaluated steps.

    A step is the removal of an active player: V before it minus V after it is its marginal. V before is
    evaluated anew where inactive players were removed since (V(N) too, if the walk starts with one).
    Coalitions are known beforehand, so ``lookahead`` of them are evaluated at once; those past the stop
    are paid for and not looked at, so the result does not depend on it.
    """
    full = bool(active.all())
    steps = np.flatnonzero(active[order[:depth]])  # positions in the order, ascending
    removed = np.unique(np.concatenate([steps, steps + 1]))  # prefix lengths to evaluate
    values = np.zeros((meter.game.n_objectives, len(removed)))
    agreement = np.ones(len(removed))
    marginals = np.zeros((meter.game.n_objectives, len(order)))
    after = np.searchsorted(removed, steps + 1)
    known, streak, stop = 0, 0, depth
    for step, position in enumerate(steps):
        while after[step] >= known:
            chunk = slice(known, known + max(meter.game.lookahead, 1))
            outcomes = meter.evaluate(prefix_coalitions(order, removed[chunk]), batch)
            values[:, chunk], agreement[chunk] = outcomes.values, outcomes.agreement
            known = min(chunk.stop, len(removed))
        marginals[:, order[position]] = values[:, after[step] - 1] - values[:, after[step]]
        streak = streak + 1 if cutoff is not None and agreement[after[step]] <= cutoff else 0
        if streak == patience:
            stop = int(position) + 1
            break
    if not full:
        return WalkResult(marginals, stop, None)
    reached_empty = known == len(order) + 1
    return WalkResult(marginals, stop, _ends(meter, batch, values, stop, reached_empty))


def _ends(meter: Meter, batch: Batch, values: Floats, stop: int, reached_empty: bool) -> Floats:
    """[M, 4]: V(N), V(at stop), V(empty), V(at stop) - V(empty), from the full walk's ``values`` [M, .]."""
    if reached_empty:
        empty = values[:, -1]
    else:
        empty = meter.evaluate(np.zeros((1, meter.game.n_players), dtype=bool), batch).values[:, 0]
    return np.stack([values[:, 0], values[:, stop], empty, values[:, stop] - empty], axis=1)


def walk_cost(n: int, active: int, depth: int) -> int:
    """The most coalitions that `walk` evaluates."""
    if active == n:
        return depth + 1 + (depth < n)  # every prefix, and the empty coalition
    return min(2 * active, depth + 1)


def pilot_stride(n: int) -> int:
    return -(-n // PILOT_STEPS)


def pilot_depths(n: int) -> Ints:
    """The numbers of removals [G] that a pilot walk looks at: all for up to 64 players, else 64 evenly spaced."""
    return np.append(np.arange(0, n, pilot_stride(n)), n)


def pilot_walk(meter: Meter, batch: Batch, order: Ints, patience: int, cutoff: float) -> tuple[Floats, Floats]:
    """The agreement [G] at `pilot_depths` and the walk's ends [M, 4] as in `WalkResult`.

    Ends after ``patience`` consecutive dead looks; what lies behind is taken to be as dead as those were.
    """
    removed = pilot_depths(len(order))
    values = np.zeros((meter.game.n_objectives, len(removed)))
    agreement = np.ones(len(removed))
    known, streak, last = 0, 0, len(removed) - 1
    for index in range(len(removed)):
        if index >= known:
            chunk = slice(known, known + max(meter.game.lookahead, 1))
            outcomes = meter.evaluate(prefix_coalitions(order, removed[chunk]), batch)
            values[:, chunk] = outcomes.values
            agreement[chunk] = outcomes.agreement
            known = min(chunk.stop, len(removed))
        streak = streak + 1 if index > 0 and agreement[index] <= cutoff else 0
        if streak == patience:
            last = index
            break
    agreement[last + 1 :] = agreement[max(last + 1 - patience, 0) : last + 1].mean()
    return agreement, _ends(meter, batch, values, last, known == len(removed))


def dead_depth(agreement: Floats, n: int, patience: int, cutoff: float) -> int:
    """Removals after which walks are dead on average: the depth M that later draws go to.

    Args:
        agreement: mean over the pilot walks at `pilot_depths`, [G].

    The first depth that is at or below the cutoff, and so is the mean over the ``patience`` looks from there on, plus
    what ``patience`` single steps take; n where there is none. A mean over walks, not the deepest of them: on small
    batches some walk agrees by chance at any depth, and a depth past death wastes every draw that lands there.
    """
    removed = pilot_depths(n)
    for index in range(1, len(removed)):
        if agreement[index] <= cutoff and agreement[index : index + patience].mean() <= cutoff:
            return min(n, int(removed[index]) + patience - 1)
    return n


def pilot_cost(n: int) -> int:
    """The most coalitions that `pilot_walk` evaluates."""
    return -(-n // pilot_stride(n)) + 1
