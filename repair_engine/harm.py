"""What a removal does to clean accuracy and to subgroups, on images that may be looked at while filters are ordered."""

from __future__ import annotations

import numpy as np
import torch

from repair_engine.case import BATCH, Case
from repair_engine.network import predictions
from repair_engine.plan import largest_drops
from repair_engine.selection import Sweep

LEAST_IMAGES = 100  # fewer tell nothing of a drop of a few points


class LimitCheck:
    """Whether the limits of a request hold on *score* images, as `plan.make_plan` later asks of *select*.

    Not a promise: other images decide. It keeps a filter that plainly breaks a limit from standing before all others,
    where it would spoil every prefix.

    Args:
        most: evaluations of one check; with fewer than `LEAST_IMAGES` nothing is checked.
    """

    def __init__(self, case: Case, most: int, rng: np.random.Generator) -> None:
        self._case = case
        indices = case.splits.score
        if len(indices) > most:
            indices = np.sort(rng.permutation(indices)[:most])
        self.images = len(indices) if len(indices) >= LEAST_IMAGES else 0
        self._pixels = case.pixels[torch.from_numpy(indices)]
        self._labels = case.dataset.labels[indices]
        self._intact = case.intact[indices] == self._labels
        self._subgroups = None if case.subgroups is None else [case.subgroups[i] for i in indices]

    def holds(self, coalition: np.ndarray) -> bool:
        """True where nothing is checked; costs `images` evaluations. `coalition` is bool [n], true = present."""
        if not self.images:
            return True
        network, found = self._case.network, []
        for i in range(0, self.images, BATCH):
            images = self._case.normalize(self._pixels[i : i + BATCH].to(network.device))
            found.append(predictions(network.masked_logits(images, coalition[None])[0]).cpu().numpy())
        right = np.stack([self._intact, np.concatenate(found) == self._labels])
        drops = None if self._subgroups is None else largest_drops(right, self._subgroups)
        return bool(Sweep(np.zeros(2), right.mean(axis=1), None, drops, False).feasible(self._case.request.limits)[1])
