"""Count, mean and sum of squared deviations that merge: what is kept of the samples.

Merging follows Chan, Golub & LeVeque 1979 ("Updating formulae and a pairwise algorithm for computing
sample variances"). The result depends on the order of merging only in its last bits; who needs equal
bits merges in a fixed order.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from shapley.base import Bools, Floats, Ints


@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments of n variables for M objectives; each variable has its own count."""

    count: Ints  # [n] samples
    mean: Floats  # [M, n]; 0 where count is 0
    m2: Floats  # [M, n] sum of squared deviations from the mean

    @classmethod
    def empty(cls, n_objectives: int, n: int) -> Moments:
        zeros = np.zeros((n_objectives, n))
        return cls(np.zeros(n, dtype=np.int64), zeros, zeros.copy())

    @classmethod
    def of(cls, samples: Floats, where: Bools | None = None) -> Moments:
        """Moments of one sample [M, n] of each variable, or of those in ``where`` [n] only."""
        seen = np.ones(samples.shape[1], dtype=bool) if where is None else where
        return cls(seen.astype(np.int64), np.where(seen, samples, 0.0), np.zeros(samples.shape))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of samples together. Merging an empty set changes no bit."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"moments of shapes {self.mean.shape} and {other.mean.shape} do not merge")
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)  # [n]
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * share,
            self.m2 + other.m2 + delta * delta * (self.count * share),
        )

    @property
    def variance(self) -> Floats:
        """Unbiased sample variance [M, n]; NaN where count < 2."""
        return np.where(self.count > 1, self.m2 / np.maximum(self.count - 1, 1), np.nan)

    @property
    def std_error(self) -> Floats:
        """Standard error of the mean [M, n]; NaN where count < 2."""
        return np.sqrt(self.variance / np.maximum(self.count, 1))

    def spread_about(self, centre: Floats) -> Floats:
        """Sum of squared deviations [M, n] from ``centre`` [M, n] instead of from the mean."""
        return self.m2 + self.count * (self.mean - centre) ** 2
