"""An objective is data: images, targets and weights. V(S) = Σ wᵢ·[S predicts targetᵢ], or 1 − that."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from repair_engine.data.pixels import Pixels


@dataclass(frozen=True)
class Objective:
    """What is asked of the network on one set of images.

    Attributes:
        pixels: uint8 [N, C, H, W], or float32 in [0, 1] for attacked images; before normalization.
        targets: int64 [N]; labels, or the adversary's targets.
        weights: float64 [N], summing to 1, equal within a cell; positive, unless there are further objectives.
        cells: int64 [N], class × subgroup codes; a batch takes fixed counts per cell.
        goal: "raise" or "lower" V.
        complement: V is 1 − Σ wᵢ·[S predicts targetᵢ] (untargeted attack success; the targets are the labels).
        also: float64 [M − 1, N], the weights of further objectives that are valued on the same evaluations; each sums
            to 1 and is equal within a cell.
    """

    pixels: Pixels
    targets: np.ndarray
    weights: np.ndarray
    cells: np.ndarray
    goal: str = "raise"
    complement: bool = False
    also: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def rows(self) -> np.ndarray:
        """Weights of all objectives, float64 [M, N]; row 0 is `weights`."""
        return self.weights[None] if not len(self.also) else np.concatenate([self.weights[None], self.also])

    def value(self, predicted: np.ndarray) -> np.ndarray:
        """V of predictions [..., N], for the first objective."""
        return self.weigh(predicted == self.targets, self.weights[None])[0]

    def weigh(self, hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """V [M, ...] where `hits` [..., B] says which targets are predicted, under weights [M, B]."""
        v = np.moveaxis(hits @ weights.T, -1, 0)
        return 1.0 - v if self.complement else v

    def weigh_gain(self, gained: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """By how much V changes, [M, ...], where `gained` [..., B] says by how much the hits do; weights [M, B]."""
        change = np.moveaxis(gained @ weights.T, -1, 0)
        return -change if self.complement else change

    @property
    def culprit_sign(self) -> int:
        """−1 where culprits have negative values (V is to be raised), +1 where they have positive ones."""
        return -1 if self.goal == "raise" else 1


@dataclass(frozen=True)
class BatchPlan:
    """Fixed image counts per stratum, so that every batch has the same shape and V on it is unbiased.

    Strata are the objective's cells. Where there are more cells than images in a batch they are pooled into one,
    from which images are drawn in proportion to the mean of the objectives' weights.

    Attributes:
        strata: indices of each stratum's images.
        counts: images drawn from each.
        shares: float64 [M, H], total weight of each stratum for each objective.
        pooled: the single stratum is drawn by weight.
        weights: the objectives' weights [M, N].
    """

    strata: tuple[np.ndarray, ...]
    counts: tuple[int, ...]
    shares: np.ndarray
    pooled: bool
    weights: np.ndarray

    @property
    def size(self) -> int:
        return sum(self.counts)

    @property
    def resolution(self) -> float:
        """The most one image moves V of any objective on a batch."""
        if self.pooled:
            drawn = self._drawn_by()
            seen = drawn > 0
            return float((self.weights[:, seen] / drawn[seen]).max() / self.size)
        return float((self.shares / np.array(self.counts)).max())

    @property
    def value_range(self) -> float:
        """Width of an interval that V of every objective lies in on any batch: 1 unless images are drawn by weight."""
        if not self.pooled:
            return 1.0
        drawn = self._drawn_by()
        seen = drawn > 0
        return max(1.0, float((self.weights[:, seen] / drawn[seen]).max()))

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image indices int64 [B] and their weights float64 [M, B]; E[Σ w·outcome] = V for each objective."""
        if self.pooled:
            drawn, size = self._drawn_by(), self.counts[0]
            if np.ptp(drawn) == 0:
                picked = np.sort(rng.choice(self.strata[0], size, replace=False))
            else:
                picked = np.sort(rng.choice(self.strata[0], size, p=drawn))
            return picked, self.weights[:, picked] / (drawn[picked] * size)
        indices = [rng.choice(s, c, replace=False) for s, c in zip(self.strata, self.counts)]
        weights = [np.repeat(share[:, None] / c, c, axis=1) for c, share in zip(self.counts, self.shares.T)]
        return np.concatenate(indices), np.concatenate(weights, axis=1)

    def _drawn_by(self) -> np.ndarray:
        """Probabilities [N] of a pooled draw."""
        return self.weights.mean(axis=0)


def plan_batches(objective: Objective, size: int) -> BatchPlan:
    """A plan for batches of about `size` images (at most all images, at least one per cell unless pooled).

    Raises:
        ValueError: an objective's weights differ within a cell.
    """
    codes, weights = np.unique(objective.cells), objective.rows
    strata = [np.flatnonzero(objective.cells == c) for c in codes]
    if any(np.ptp(weights[:, s], axis=1).max() > 1e-9 for s in strata):
        raise ValueError("the weights of an objective must be equal within a cell")
    shares = np.stack([weights[:, s].sum(axis=1) for s in strata], axis=1)
    size = min(size, len(objective))
    if len(strata) > size:
        everyone = np.arange(len(objective))
        return BatchPlan((everyone,), (size,), weights.sum(axis=1, keepdims=True), True, weights)
    limits = np.array([len(s) for s in strata])
    mean = shares.mean(axis=0)
    counts = np.minimum(np.maximum(np.floor(mean * size).astype(int), 1), limits)
    while counts.sum() < size:
        # The next image goes where it lowers the variance bound share²/count most.
        gain = np.where(counts < limits, mean**2 / (counts * (counts + 1)), -1.0)
        counts[int(gain.argmax())] += 1
    return BatchPlan(tuple(strata), tuple(int(c) for c in counts), shares, False, weights)
