"""The sampler of the long-run references: unbiased, stratified by depth, and blind to every method under test.

Draws are those of cmcs (arXiv 2504.02019): r removed filters R, and for every filter i
Δᵢ = V(N∖(R∖i)) − V(N∖(R∪i)) on the same images; φᵢ = Σ_h w_h · E[Δᵢ | r in stratum h] with w_h = |h|/(n + 1), over
strata of r that cover 0..D; beyond D, twice the depth at which a pilot finds the network dead, nothing is drawn.
Draws go to strata in proportion to w_h times the spread seen there.
At first all filters take part; then only those that matter for the ends (`contenders`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.engine import NeuronGame

FIRST_STRATUM = 64  # the first holds r < n / 64; each next doubles
PLACES = (50, 100)
LEAST = 4  # draws of each stratum over all filters before anything is decided
_Z = 2.0  # half-width of an interval in standard errors


def strata(n: int, depth: int) -> list[tuple[int, int]]:
    """[first, last] of r in each stratum; together they are 0..depth."""
    edges = [0]
    width = max(1, n // FIRST_STRATUM)
    while edges[-1] + width <= depth:
        edges.append(edges[-1] + width)
        width = edges[-1]
    edges[-1] = depth + 1
    if len(edges) == 1:
        edges = [0, depth + 1]
    return [(a, b - 1) for a, b in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Pool:
    """Samples so far.

    Attributes:
        count: int64 [H, n]; mean, m2: float64 [H, n] of Δ by stratum, and the sum of squared deviations.
        depth: the most removed filters of a draw, D.
        draws: made so far, which is also the number of the next.
        evaluations, seconds: spent.
    """

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    depth: int
    draws: int = 0
    evaluations: int = 0
    seconds: float = 0.0

    @classmethod
    def empty(cls, n: int, depth: int) -> Pool:
        shape = (len(strata(n, depth)), n)
        return cls(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape), depth)

    @property
    def n(self) -> int:
        return self.mean.shape[1]

    @property
    def weights(self) -> np.ndarray:
        """[H], summing to (depth + 1) / (n + 1)."""
        return np.array([(b - a + 1) / (self.n + 1) for a, b in strata(self.n, self.depth)])

    def variance(self) -> np.ndarray:
        """Of one Δ, [H, n]. A filter's own spread, and for five samples' worth that of its stratum."""
        freedom = np.maximum(self.count - 1, 0)
        total = freedom.sum(1)
        common = self.m2.sum(1) / np.maximum(total, 1)
        return (self.m2 + 5.0 * common[:, None]) / (freedom + 5.0)

    def values(self) -> np.ndarray:
        return self.weights @ self.mean

    def std_errors(self) -> np.ndarray:
        """[n]; inf where a stratum has no sample."""
        with np.errstate(divide="ignore"):
            return np.sqrt((self.weights[:, None] ** 2 * self.variance() / self.count).sum(0))

    def add(self, stratum: int, players: np.ndarray, delta: np.ndarray, evaluations: int) -> Pool:
        """With one more draw: `delta` [m] of `players` [m]."""
        count, mean, m2 = self.count.copy(), self.mean.copy(), self.m2.copy()
        count[stratum, players] += 1
        step = delta - mean[stratum, players]
        mean[stratum, players] += step / count[stratum, players]
        m2[stratum, players] += step * (delta - mean[stratum, players])
        return replace(
            self, count=count, mean=mean, m2=m2, draws=self.draws + 1, evaluations=self.evaluations + evaluations
        )


def contenders(pool: Pool) -> np.ndarray:
    """The filters that take part in the next round, int64 [m]: all at first.

    Then those in the top or bottom 50 or 100, and those whose interval reaches across one of these places.
    """
    everyone = np.arange(pool.n)
    if (pool.count < LEAST).any():
        return everyone
    values, half = pool.values(), _Z * pool.std_errors()
    ordered = np.sort(values)[::-1]
    needed = np.zeros(pool.n, dtype=bool)
    for k in (k for k in PLACES if 2 * k < pool.n):
        top, bottom = (ordered[k - 1] + ordered[k]) / 2, (ordered[-k] + ordered[-k - 1]) / 2
        needed |= (values + half >= top) | (values - half <= bottom)
    return everyone[needed] if needed.any() else everyone


def plan_round(pool: Pool, draws: int) -> list[int]:
    """Strata of the next draws, by Neyman's allocation from what is known; each at least `LEAST` times first."""
    behind = [h for h in range(len(pool.weights)) if (pool.count[h] < LEAST).any()]
    if behind:
        fewest = min(int(pool.count[h].min()) for h in behind)
        return [h for h in behind if int(pool.count[h].min()) == fewest]
    active = contenders(pool)
    share = pool.weights * np.sqrt(pool.variance()[:, active].mean(1))
    share = share / share.sum()
    have = pool.count[:, active].mean(1)
    want = share * (have.sum() + draws)
    planned = np.zeros(len(share), np.int64)
    for _ in range(draws):
        planned[int(np.argmax(want - have - planned))] += 1
    return np.repeat(np.arange(len(share)), planned).tolist()


def draw(game: NeuronGame, rng: np.random.Generator, span: tuple[int, int], players: np.ndarray) -> np.ndarray:
    """Δ [m] of `players` [m] (ascending) on fresh images, each under a random coalition of its own with r in `span`."""
    batch = game.draw_batch(rng)
    rows = np.ones((game.n_parts, game.n_players), dtype=bool)
    for row in rows:
        row[rng.permutation(game.n_players)[: rng.integers(span[0], span[1] + 1)]] = False
    return game.differences(rows, players, batch, lambda _: None)[0]
