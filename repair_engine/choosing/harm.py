"""What a removal does to clean accuracy and to subgroups, on images that may be looked at while filters are ordered."""

from __future__ import annotations

import numpy as np

from repair_engine.case.case import Case
from repair_engine.data.pixels import Rows
from repair_engine.network import predictions
from repair_engine.support.statistics import REFUSE_BELOW

_SLACK = 1e-12  # a drop of exactly the limit is within it, whatever its rounding
LEAST_IMAGES = 100  # fewer tell nothing of a drop of a few points


class LimitCheck:
    """How far the limits of a request hold on *score* images, as `plan.make_plan` later asks of *select*; where
    something is to be forgotten, on all others.

    Not a promise: other images decide. It keeps a filter that breaks a limit from standing before all others, where it
    would spoil every prefix.

    Args:
        most: evaluations of one check; with fewer than `LEAST_IMAGES` nothing is checked.
    """

    def __init__(self, case: Case, most: int, rng: np.random.Generator) -> None:
        self._case = case
        indices = case.question.retained("score")
        if len(indices) > most:
            indices = np.sort(rng.permutation(indices)[:most])
        self.images = len(indices) if len(indices) >= LEAST_IMAGES else 0
        self._pixels = Rows(case.images.pixels, indices)
        self._labels = case.images.labels[indices]
        self._intact = case.intact[indices] == self._labels
        limits = case.settings.limits
        self._kept = [(np.arange(len(indices)), limits.max_clean_drop)]
        if case.question.subgroups is not None:
            groups = np.asarray(case.question.subgroups)[indices]
            inside = [np.flatnonzero(groups == group) for group in np.unique(groups)]
            self._kept += [(rows, limits.max_subgroup_drop) for rows in inside if len(rows) >= REFUSE_BELOW]

    def margin(self, coalition: np.ndarray) -> float:
        """By how many standard errors the nearest limit is kept, below 0 where one is broken.

        The error is that of the paired change on these images; a change on none of them keeps a limit for sure.
        Infinite where nothing is checked; costs `images` evaluations. `coalition` is bool [n], true = present.
        """
        if not self.images:
            return np.inf
        subject = self._case.subject
        inputs = self._case.images.inputs(self._pixels, subject.room.plain, subject.device)
        logits = (subject.network.masked_logits(some, coalition[None])[0] for some in inputs)
        found = [predictions(some).cpu().numpy() for some in logits]
        lost = self._intact.astype(float) - (np.concatenate(found) == self._labels)
        return min(_margin(lost[rows], limit) for rows, limit in self._kept)


def _margin(lost: np.ndarray, limit: float) -> float:
    """Of one limit; `lost` is +1 where an image is no longer right and -1 where it has become so, [n]."""
    room = limit - lost.mean()
    error = lost.std() / np.sqrt(len(lost))
    if abs(room) <= _SLACK:
        return 0.0
    return float(room / error) if error else float(np.copysign(np.inf, room))
