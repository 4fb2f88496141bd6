"""Shapley values by enumeration of all coalitions: the yardstick of the samplers."""

from __future__ import annotations

import math

import numpy as np

from shapley.base import EnumerableGame, Estimate, Floats, Interval, Ints, Progress

MOST_PLAYERS = 20


def coalition_values(game: EnumerableGame, progress: Progress | None = None) -> Floats:
    """V of every coalition on the full batch, [M, 2^n]; bit i of the column says whether player i is present.

    Raises ValueError for more than 20 players.
    """
    n = game.n_players
    if n > MOST_PLAYERS:
        raise ValueError(f"enumeration takes at most {MOST_PLAYERS} players; this game has {n}")
    batch = game.full_batch()
    codes = np.arange(2**n, dtype=np.int64)
    table = np.empty((game.n_objectives, len(codes)))
    size = max(game.lookahead, 1)
    for start in range(0, len(codes), size):
        chunk = codes[start : start + size]
        table[:, chunk] = game.evaluate(_members(chunk, n), batch).values
        if progress is not None:
            progress(len(chunk) * game.n_images)
    return table


def shapley_values(table: Floats) -> Floats:
    """Shapley values [M, n] of V given as in `coalition_values`; Ghorbani & Zou 2020, equation 1."""
    n = table.shape[1].bit_length() - 1
    codes = np.arange(2**n, dtype=np.int64)
    values = np.empty((table.shape[0], n))
    for i in range(n):
        without = codes[codes >> i & 1 == 0]
        size = _members(without, n).sum(axis=1)
        weight = np.array([1.0 / (n * math.comb(n - 1, s)) for s in range(n)])
        values[:, i] = (table[:, without | 1 << i] - table[:, without]) @ weight[size]
    return values


def exact(game: EnumerableGame, progress: Progress | None = None) -> Estimate:
    """Exact values on the full batch, at 2^n * n_images evaluations. Raises ValueError for n > 20."""
    values = shapley_values(coalition_values(game, progress))
    n = game.n_players
    return Estimate(
        values=values,
        std_errors=np.zeros_like(values),
        lower=values.copy(),
        upper=values.copy(),
        samples=np.full(n, 2 ** (n - 1), dtype=np.int64),
        evaluations=2**n * game.n_images,
        rounds=1,
        stopped="exact",
        estimator="exact",
        interval=Interval("exact", 0.0, n * game.n_objectives, "exact: every coalition was evaluated"),
        certificate=None,
        depth=n,
    )


def _members(codes: Ints, n: int) -> np.ndarray:
    return (codes[:, None] >> np.arange(n) & 1).astype(bool)
