"""Who is still in question: the bandit's active set U."""

from __future__ import annotations

import numpy as np

from shapley.base import Bools, Floats, Side


def contenders(values: Floats, half: Floats, candidates: Bools, top_k: int, side: Side, tol: float) -> Bools:
    """Players [n] of which it is not settled whether they belong to the top (bottom) ``top_k``.

    Those whose interval ``values`` [n] +- ``half`` [n], narrowed by ``tol`` at each end, contains the
    midpoint of the k-th and (k+1)-th values among the ``candidates``: the pseudo-code's threshold
    phi_(k) lies inside the k-th player's own interval for ever. An interval no wider than 2 tol
    contains nothing once narrowed, so ties end. Ghorbani & Zou 2020, Algorithm 1, last line.
    """
    lower, upper = values - half + tol, values + half - tol
    active = np.zeros(len(values), dtype=bool)
    ordered = np.sort(values[candidates])[::-1]  # descending
    ranks = {"top": (top_k,), "bottom": (len(ordered) - top_k,), "both": (top_k, len(ordered) - top_k)}[side]
    for k in ranks:
        midpoint = (ordered[k - 1] + ordered[k]) / 2.0
        active |= candidates & (lower < midpoint) & (midpoint < upper)
    return active
