"""Joint moments of several quantities per player: what control variates and regressions need."""

from __future__ import annotations

import dataclasses

import numpy as np

from shapley.base import Bools, Floats, Ints


@dataclasses.dataclass(frozen=True)
class PairedMoments:
    """Moments of D quantities sampled together, for each of n players; merging as in `Moments`."""

    count: Ints  # [n] samples
    mean: Floats  # [D, n]; 0 where count is 0
    products: Floats  # [D, D, n] sums of products of deviations from the means

    @classmethod
    def empty(cls, d: int, n: int) -> PairedMoments:
        return cls(np.zeros(n, dtype=np.int64), np.zeros((d, n)), np.zeros((d, d, n)))

    @classmethod
    def of(cls, sample: Floats, where: Bools | None = None) -> PairedMoments:
        """Moments of one sample [D, n] of each player, or of those in ``where`` [n] only."""
        d, n = sample.shape
        seen = np.ones(n, dtype=bool) if where is None else where
        return cls(seen.astype(np.int64), np.where(seen, sample, 0.0), np.zeros((d, d, n)))

    def merge(self, other: PairedMoments) -> PairedMoments:
        """Moments of both sets of samples together. Merging an empty set changes no bit."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"moments of shapes {self.mean.shape} and {other.mean.shape} do not merge")
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)  # [n]
        delta = other.mean - self.mean
        cross = delta[:, None] * delta[None] * (self.count * share)
        return PairedMoments(count, self.mean + delta * share, self.products + other.products + cross)

    def pooled_covariance(self) -> Floats:
        """[D, D] within players, averaged over them by their degrees of freedom; zeros where there are none."""
        freedom = int(np.maximum(self.count - 1, 0).sum())
        return self.products.sum(axis=2) / max(freedom, 1)

    def variance_of(self, weights: Floats) -> Floats:
        """Unbiased sample variance [n] of the combinations ``weights`` [D, n or 1]; NaN where count < 2."""
        each = np.broadcast_to(weights, self.mean.shape)
        squares = np.einsum("in,ijn,jn->n", each, self.products, each)
        return np.where(self.count > 1, np.maximum(squares, 0.0) / np.maximum(self.count - 1, 1), np.nan)
