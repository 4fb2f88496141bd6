"""Comparable Marginal Contributions Sampling: every player's marginal to the same coalition.

arXiv 2504.02019, written by removals. Draw r ~ U{0..M} and a removed set R of size r; every player i, in
R or not, contributes Delta_i = V(N - (R - i)) - V(N - (R + i)), on the same images. Then

    phi_i = (M + 1) / (n + 1) * E[Delta_i]

exactly for M = n. With D_s the mean marginal of i after s others are removed, a depth M < n leaves out
(1/n) sum_{s > M} D_s + (M + 1)/(n (n + 1)) D_M, which vanishes where the network is dead from M on.
One draw costs 1 + |U| coalitions for |U| positively correlated samples, which is what tells neighbours
apart. Skipping the removed players, or drawing r < n in place of r <= n, is biased.

Where a batch has parts (images), each part has its own R: a sample then averages over as many coalitions as
it has images, at no further cost, where a common R would tie all of its images to one accident.
"""

from __future__ import annotations

import numpy as np

from shapley.base import Batch, Bools, Floats, Ints
from shapley.metering import Meter


def draw_removed(rng: np.random.Generator, n: int, depth: int, parts: int = 1) -> Bools:
    """Coalitions N - R, bool [parts, n], each with |R| uniform on 0..depth and R uniform given its size.

    The sizes of the parts are stratified: one in each of ``parts`` equal stretches of 0..depth.
    """
    sizes = np.floor((rng.permutation(parts) + rng.random(parts)) / parts * (depth + 1)).astype(np.int64)
    order = rng.random((parts, n)).argsort(axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(n)[None], axis=1)
    return rank >= np.minimum(sizes, depth)[:, None]


def differences(meter: Meter, batch: Batch, coalitions: Bools, players: Ints) -> Floats:
    """Delta [M, n] of ``players`` [m] (ascending) at ``coalitions`` [parts, n], 0 for the others."""
    delta = np.zeros((meter.game.n_objectives, coalitions.shape[1]))
    delta[:, players] = meter.differences(coalitions, players, batch)
    return delta


def paired_differences(meter: Meter, batch: Batch, coalitions: Bools, players: Ints) -> tuple[Floats, Floats]:
    """`differences` [M, n], and together for objective 0: they, their smooth version and the guesses [2 + S, n]."""
    hard, smooth = meter.smooth_differences(coalitions, players, batch)
    delta = np.zeros((len(hard), coalitions.shape[1]))
    delta[:, players] = hard
    smoothed = np.zeros(coalitions.shape[1])
    smoothed[players] = smooth
    return delta, np.concatenate([delta[:1], smoothed[None], meter.guesses([(coalitions, batch)])[0]])


def scale(n: int, depth: int) -> float:
    """What E[Delta] is multiplied by to be the Shapley value."""
    return (depth + 1) / (n + 1)


def draw_cost(active: int) -> int:
    """Coalitions that one draw evaluates."""
    return 1 + active
