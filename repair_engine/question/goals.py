"""Goals that a repair may be chosen by in the place of its metric: the worst subgroup, and the gap between subgroups.

They are no sums over images, so no unit has a Shapley value for them: units are valued by the metric, the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.support.statistics import REFUSE_BELOW


@dataclass(frozen=True)
class GroupGoal:
    """A goal over the subgroups of some images.

    Attributes:
        name: "worst-group" or "gap".
        cells: of each subgroup that counts, the images of each of its classes, int64.
    """

    name: str
    cells: tuple[tuple[np.ndarray, ...], ...]

    @classmethod
    def of(cls, name: str, groups: Sequence[str] | None, labels: np.ndarray, part: str = "select") -> GroupGoal | None:
        """The goal over subgroups of at least 30 images; None for "mean".

        Args:
            groups, labels: of the images, [N].

        Raises:
            BadInput: fewer than two subgroups have so many.
        """
        if name == "mean":
            return None
        named = np.asarray(groups if groups is not None else [], dtype=str)
        inside = [np.flatnonzero(named == group) for group in np.unique(named)]
        inside = [rows for rows in inside if len(rows) >= REFUSE_BELOW]
        if len(inside) < 2:
            raise BadInput(
                f"The goal {name} compares subgroups of at least {REFUSE_BELOW} {part} images; there "
                f"{'is one' if inside else 'is none'}.",
                "Give more images, a column with fewer values, or leave the goal out.",
                "goal",
            )
        return cls(name, tuple(tuple(rows[labels[rows] == c] for c in np.unique(labels[rows])) for rows in inside))

    def value(self, right: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """The recall of the worst subgroup, or the gap between the best and the worst, [m] or [R, m].

        A subgroup's recall is the mean over its classes, as in the metric.

        Args:
            right: whether each image is right, bool [m, N].
            counts: how often each image is drawn in each resample, [R, N]; None: each once, and no resamples.
        """
        drawn = np.ones((1, right.shape[1])) if counts is None else counts
        of_groups = []
        for classes in self.cells:
            total, seen = np.zeros((len(drawn), len(right))), np.zeros((len(drawn), 1))
            for rows in classes:
                here = drawn[:, rows]
                n = here.sum(axis=1, keepdims=True)
                total += here @ right[:, rows].T / np.maximum(n, 1e-12)
                seen += n > 0
            of_groups.append(total / np.maximum(seen, 1))
        low, high = np.min(of_groups, axis=0), np.max(of_groups, axis=0)
        found = high - low if self.name == "gap" else low
        return found[0] if counts is None else found

    def score(self, value: np.ndarray) -> np.ndarray:
        """`value`, the larger the better."""
        return -value if self.name == "gap" else value
