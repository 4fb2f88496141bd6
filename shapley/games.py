"""What a game of one part needs for its differences."""

from __future__ import annotations

import numpy as np

from shapley.base import Batch, Bools, Floats, Game, Ints, Progress


def toggled(coalition: Bools, players: Ints) -> Bools:
    """Coalitions [m, n]: ``coalition`` [n] with each one of ``players`` [m] flipped, alone."""
    coalitions = np.repeat(coalition[None], len(players), axis=0)
    rows = np.arange(len(players))
    coalitions[rows, players] = ~coalitions[rows, players]
    return coalitions


def flip_differences(game: Game, coalition: Bools, players: Ints, batch: Batch, spent: Progress) -> Floats:
    """`Game.differences` [M, m] at one ``coalition`` [n] by ``game.evaluate``, for games of one part."""
    base = game.evaluate(coalition[None], batch).values  # [M, 1]
    flipped = game.evaluate(toggled(coalition, players), batch).values  # [M, m]
    spent((1 + len(players)) * game.batch_size)
    return np.where(coalition[players], 1.0, -1.0) * (base - flipped)
