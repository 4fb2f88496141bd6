"""Comparable Marginal Contributions Sampling: every player's marginal to the same coalition.

arXiv 2504.02019, written by removals. Draw r ~ U{0..M} and a removed set R of size r; every player i, in
R or not, contributes Delta_i = V(N - (R - i)) - V(N - (R + i)), on the same images. Then

    phi_i = (M + 1) / (n + 1) * E[Delta_i]

exactly for M = n. With D_s the mean marginal of i after s others are removed, a depth M < n leaves out
(1/n) sum_{s > M} D_s + (M + 1)/(n (n + 1)) D_M, which vanishes where the network is dead from M on.
One draw costs 1 + |U| coalitions for |U| positively correlated samples, which is what tells neighbours
apart. Skipping the removed players, or drawing r < n in place of r <= n, is biased.
"""

from __future__ import annotations

import numpy as np

from shapley.base import Batch, Bools, Floats, Ints
from shapley.metering import Meter

LEAST_CHUNK = 64  # toggles asked for at once where the game's lookahead is smaller


def draw_removed(rng: np.random.Generator, n: int, depth: int) -> Bools:
    """The coalition N - R, bool [n], with |R| uniform on 0..depth and R uniform given its size."""
    order = rng.permutation(n)
    coalition = np.ones(n, dtype=bool)
    coalition[order[: rng.integers(depth + 1)]] = False
    return coalition


def differences(meter: Meter, batch: Batch, coalition: Bools, players: Ints) -> Floats:
    """Delta [M, n] of ``players`` [m] (ascending) at ``coalition`` [n], 0 for the others."""
    base = meter.evaluate(coalition[None], batch).values  # [M, 1]
    delta = np.zeros((base.shape[0], len(coalition)))
    size = max(meter.game.lookahead, LEAST_CHUNK)
    for start in range(0, len(players), size):
        chunk = players[start : start + size]
        flipped = meter.toggle(coalition, chunk, batch).values  # [M, m]
        sign = np.where(coalition[chunk], 1.0, -1.0)  # a removed player's flip adds it
        delta[:, chunk] = sign * (base - flipped)
    return delta


def scale(n: int, depth: int) -> float:
    """What E[Delta] is multiplied by to be the Shapley value."""
    return (depth + 1) / (n + 1)


def draw_cost(active: int) -> int:
    """Coalitions that one draw evaluates."""
    return 1 + active
