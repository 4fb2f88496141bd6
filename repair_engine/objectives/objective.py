"""An objective is data: images, targets and weights. V(S) = Σ wᵢ·[S predicts targetᵢ], or 1 − that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Objective:
    """What is asked of the network on one set of images.

    Attributes:
        pixels: uint8 [N, C, H, W], or float32 in [0, 1] for attacked images; before normalization.
        targets: int64 [N]; labels, or the adversary's targets.
        weights: float64 [N], positive, summing to 1, equal within a cell.
        cells: int64 [N], class × subgroup codes; a batch takes fixed counts per cell.
        goal: "raise" or "lower" V.
        complement: V is 1 − Σ wᵢ·[S predicts targetᵢ] (untargeted attack success; the targets are the labels).
    """

    pixels: torch.Tensor
    targets: np.ndarray
    weights: np.ndarray
    cells: np.ndarray
    goal: str = "raise"
    complement: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def value(self, predicted: np.ndarray) -> np.ndarray:
        """V of predictions [..., N]."""
        return self.weigh(predicted == self.targets, self.weights)

    def weigh(self, hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """V where `hits` [..., B] says which targets are predicted, under weights [B] that sum to 1."""
        v = hits @ weights
        return 1.0 - v if self.complement else v

    def weigh_gain(self, gained: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """By how much V changes where `gained` [..., B] says by how much the hits do."""
        change = gained @ weights
        return -change if self.complement else change

    @property
    def culprit_sign(self) -> int:
        """−1 where culprits have negative values (V is to be raised), +1 where they have positive ones."""
        return -1 if self.goal == "raise" else 1


@dataclass(frozen=True)
class BatchPlan:
    """Fixed image counts per stratum, so that every batch has the same shape and V on it is unbiased.

    Strata are the objective's cells. Where there are more cells than images in a batch they are pooled into one,
    from which images are drawn in proportion to their weights.

    Attributes:
        strata: indices of each stratum's images.
        counts: images drawn from each.
        shares: total weight of each.
        pooled: the single stratum is drawn with replacement, by weight.
        weights: the objective's weights [N].
    """

    strata: tuple[np.ndarray, ...]
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    pooled: bool
    weights: np.ndarray

    @property
    def size(self) -> int:
        return sum(self.counts)

    @property
    def resolution(self) -> float:
        """The most one image moves V on a batch."""
        return max(s / c for s, c in zip(self.shares, self.counts))

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image indices int64 [B] and their weights float64 [B]; E[Σ w·outcome] = V."""
        if self.pooled:
            everyone = self.strata[0]
            if np.ptp(self.weights[everyone]) == 0:
                picked = rng.choice(everyone, self.counts[0], replace=False)
            else:
                picked = rng.choice(everyone, self.counts[0], p=self.weights[everyone])
            return np.sort(picked), np.full(self.counts[0], self.shares[0] / self.counts[0])
        drawn = [rng.choice(s, c, replace=False) for s, c in zip(self.strata, self.counts)]
        weights = [np.full(c, share / c) for c, share in zip(self.counts, self.shares)]
        return np.concatenate(drawn), np.concatenate(weights)


def plan_batches(objective: Objective, size: int) -> BatchPlan:
    """A plan for batches of about `size` images (at most all images, at least one per cell unless pooled)."""
    codes = np.unique(objective.cells)
    strata = [np.flatnonzero(objective.cells == c) for c in codes]
    shares = np.array([objective.weights[s].sum() for s in strata])
    size = min(size, len(objective))
    if len(strata) > size:
        everyone = np.arange(len(objective))
        return BatchPlan((everyone,), (size,), (1.0,), True, objective.weights)
    limits = np.array([len(s) for s in strata])
    counts = np.minimum(np.maximum(np.floor(shares * size).astype(int), 1), limits)
    while counts.sum() < size:
        # The next image goes where it lowers the variance bound share²/count most.
        gain = np.where(counts < limits, shares**2 / (counts * (counts + 1)), -1.0)
        counts[int(gain.argmax())] += 1
    return BatchPlan(
        tuple(strata),
        tuple(int(c) for c in counts),
        tuple(float(s) for s in shares),
        False,
        objective.weights,
    )
