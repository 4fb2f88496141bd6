"""Games with known Shapley values, and a sampled one: the bench on which the estimators are tested.

All count the evaluations they were asked for (``accesses``), so that a budget can be checked from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from shapley.base import Batch, Bools, Floats, Ints, Outcomes, Progress
from shapley.games import flip_differences, toggled


class FunctionGame:
    """A deterministic game from a function of coalitions bool [K, n] to values [K] or [M, K]."""

    batch_size = 1
    n_images = 1
    n_parts = 1

    def __init__(
        self,
        n_players: int,
        function: Callable[[Bools], Floats],
        agreement: Callable[[Bools], Floats] | None = None,
        dead_level: float = -1.0,
        lookahead: int = 1,
    ):
        self.n_players = n_players
        self.dead_level = dead_level
        self.lookahead = lookahead
        self.accesses = 0  # evaluations asked for
        self._function = function
        self._agreement = agreement
        self.n_objectives = len(np.atleast_2d(function(np.ones((1, n_players), dtype=bool))))

    def draw_batch(self, rng: np.random.Generator) -> Batch:
        return None

    def full_batch(self) -> Batch:
        return None

    def evaluate(self, coalitions: Bools, batch: Batch) -> Outcomes:
        self.accesses += len(coalitions)
        agreement = np.ones(len(coalitions)) if self._agreement is None else self._agreement(coalitions)
        return Outcomes(np.atleast_2d(self._function(coalitions)).astype(np.float64), agreement)

    def differences(self, coalitions: Bools, players: Ints, batch: Batch, spent: Progress) -> Floats:
        return flip_differences(self, coalitions[0], players, batch, spent)


class AdditiveGame(FunctionGame):
    """V(S) is the sum of the members' weights; each weight is its player's value."""

    def __init__(self, weights: Sequence[float], lookahead: int = 1):
        w = np.asarray(weights, dtype=np.float64)
        super().__init__(len(w), lambda s: s @ w, lookahead=lookahead)
        self.shapley = w


class VotingGame(FunctionGame):
    """Weighted voting: V(S) is 1 where the members' whole-number weights reach the quota, else 0.

    The values (Shapley & Shubik's index) come from counting coalitions by size and weight (Mann &
    Shapley 1962), not from enumeration. Equal weights and a quota of more than half: the majority game.
    """

    def __init__(self, weights: Sequence[int], quota: int, lookahead: int = 1):
        w = np.asarray(weights, dtype=np.int64)
        super().__init__(len(w), lambda s: (s @ w >= quota).astype(np.float64), lookahead=lookahead)
        self.shapley = np.array([_pivots(np.delete(w, i), int(w[i]), quota) for i in range(len(w))])


def _pivots(others: Ints, weight: int, quota: int) -> float:
    """The share of orders in which a player of ``weight`` makes the losing coalition before it win."""
    n = len(others) + 1
    counts = [[0] * (int(others.sum()) + 1) for _ in range(n)]  # coalitions of the others by [size][weight]
    counts[0][0] = 1
    for seen, w in enumerate(others.tolist()):
        for size in range(seen, -1, -1):
            for total in range(len(counts[size]) - 1 - w, -1, -1):
                counts[size + 1][total + w] += counts[size][total]
    return sum(sum(counts[size][max(quota - weight, 0) : quota]) / (n * math.comb(n - 1, size)) for size in range(n))


class GloveGame(FunctionGame):
    """V(S) is the number of pairs that the members' left (first players) and right gloves make."""

    def __init__(self, left: int, right: int, lookahead: int = 1):
        def pairs(s: Bools) -> Floats:
            return np.minimum(s[:, :left].sum(axis=1), s[:, left:].sum(axis=1)).astype(np.float64)

        super().__init__(left + right, pairs, lookahead=lookahead)
        self.shapley = np.array([_matches(left, right)] * left + [_matches(right, left)] * right)


def _matches(own: int, other: int) -> float:
    """The chance that, of those before a player in a random order, more hold the other kind than its own."""
    n = own + other
    total = 0.0
    for before in range(n):
        orders = math.comb(n - 1, before)
        for same in range(min(own - 1, before) + 1):
            if same < before - same <= other:
                total += math.comb(own - 1, same) * math.comb(other, before - same) / orders
    return total / n


class AirportGame(FunctionGame):
    """V(S) is the largest cost among the members (Littlechild & Owen 1973).

    Each stretch of the runway is shared alike by all who need it.
    """

    def __init__(self, costs: Sequence[float], lookahead: int = 1):
        c = np.asarray(costs, dtype=np.float64)
        super().__init__(len(c), lambda s: (s * c).max(axis=1), lookahead=lookahead)
        order = np.argsort(c, kind="stable")
        stretches = np.diff(c[order], prepend=0.0) / np.arange(len(c), 0, -1)
        self.shapley = np.empty(len(c))
        self.shapley[order] = np.cumsum(stretches)


class ImageBatchGame:
    """A little classifier in place of a network: outcomes are 0/1 per image, V is a mean over sampled images.

    An image is predicted right where its members' votes reach its threshold; the weights say which
    images count for which objective. Ablate all and (for positive thresholds) no image is right.
    """

    def __init__(
        self,
        votes: Floats,  # [N, n] what each player adds to each image's score
        thresholds: Floats,  # [N]
        batch_size: int,
        weights: Floats | None = None,  # [M, N], 1 where an image counts; None: all count, one objective
        lookahead: int = 1,
    ):
        self.n_images, self.n_players = votes.shape
        self.batch_size = self.n_parts = batch_size
        self.lookahead = lookahead
        self.accesses = 0
        self._votes, self._thresholds = votes, thresholds
        self._weights = np.ones((1, self.n_images)) if weights is None else weights
        self.n_objectives = len(self._weights)
        self._intact = self._right(np.ones((1, self.n_players), dtype=bool), self.full_batch())[0]
        empty = self._right(np.zeros((1, self.n_players), dtype=bool), self.full_batch())[0]
        self.dead_level = float((empty == self._intact).mean())

    def draw_batch(self, rng: np.random.Generator) -> Ints:
        return rng.choice(self.n_images, self.batch_size, replace=False)

    def full_batch(self) -> Ints:
        return np.arange(self.n_images)

    def _right(self, coalitions: Bools, batch: Ints) -> Bools:
        return coalitions @ self._votes[batch].T >= self._thresholds[batch] - 1e-9

    def evaluate(self, coalitions: Bools, batch: Batch) -> Outcomes:
        self.accesses += len(coalitions) * len(batch)
        right = self._right(coalitions, batch)  # [K, B]
        values = self._weights[:, batch] @ right.T / len(batch)
        return Outcomes(values, (right == self._intact[batch]).mean(axis=1))

    def differences(self, coalitions: Bools, players: Ints, batch: Batch, spent: Progress) -> Floats:
        right = np.empty((len(players) + 1, len(batch)), dtype=bool)
        signs = np.empty((len(players), len(batch)))
        for part in range(len(batch)):
            rows = np.concatenate([coalitions[part][None], toggled(coalitions[part], players)])
            right[:, part] = self._right(rows, batch[part : part + 1])[:, 0]
            signs[:, part] = np.where(coalitions[part][players], 1.0, -1.0)
        self.accesses += right.size
        spent(right.size)
        gained = signs * (right[0].astype(np.float64) - right[1:])  # [m, B]
        return self._weights[:, batch] @ gained.T / len(batch)
