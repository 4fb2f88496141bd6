"""Goals that a repair may be chosen by in the place of its metric: what subgroups' predictions say beside one another.

They are no sums over images, so no unit has a Shapley value for them: units are valued by the metric, the mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.support.statistics import REFUSE_BELOW


@dataclass(frozen=True)
class Goal(ABC):
    """A goal over the subgroups of some images.

    Attributes:
        name: as `settings.Limits.goal`.
        labels: of the images, int64 [N].
    """

    name: str
    labels: np.ndarray

    @property
    @abstractmethod
    def lower(self) -> bool:
        """Less is better."""

    @abstractmethod
    def value(self, predicted: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """The goal's figure, [m] or [R, m].

        Args:
            predicted: classes, int64 [m, N].
            counts: how often each image is drawn in each resample, [R, N]; None: each once, and no resamples.
        """

    def score(self, value: np.ndarray) -> np.ndarray:
        """`value`, the larger the better."""
        return -value if self.lower else value


def goal_of(name: str, groups: Sequence[str] | None, labels: np.ndarray) -> Goal | None:
    """The goal over the subgroups of the select images; None for "mean".

    Args:
        groups, labels: of the images, [N].

    Raises:
        BadInput: too few subgroups have enough images.
    """
    if name == "mean":
        return None
    inside = subgroup_rows(groups)
    if len(inside) < 2:
        raise BadInput(
            f"The goal {name} compares subgroups of at least {REFUSE_BELOW} select images; there "
            f"{'is one' if inside else 'is none'}.",
            "Give more images, a column with fewer values, or leave the goal out.",
            "goal",
        )
    return GroupGoal.over(name, inside, labels)


def subgroup_rows(groups: Sequence[str] | None) -> list[np.ndarray]:
    """The images of each subgroup of at least 30, int64, by the subgroups' names."""
    named = np.asarray(groups if groups is not None else [], dtype=str)
    inside = [np.flatnonzero(named == group) for group in np.unique(named)]
    return [rows for rows in inside if len(rows) >= REFUSE_BELOW]


@dataclass(frozen=True)
class GroupGoal(Goal):
    """The recall of the worst subgroup ("worst-group"), or the gap between the best and the worst ("gap").

    A subgroup's recall is the mean over its classes, as in the metric.

    Attributes:
        cells: of each subgroup that counts, the images of each of its classes, int64.
    """

    cells: tuple[tuple[np.ndarray, ...], ...]

    @classmethod
    def over(cls, name: str, inside: Sequence[np.ndarray], labels: np.ndarray) -> GroupGoal:
        """Over the images of each subgroup (`subgroup_rows`)."""
        cells = (tuple(rows[labels[rows] == c] for c in np.unique(labels[rows])) for rows in inside)
        return cls(name, labels, tuple(cells))

    @property
    def lower(self) -> bool:
        return self.name == "gap"

    def value(self, predicted: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        right = predicted == self.labels
        drawn = np.ones((1, len(self.labels))) if counts is None else counts
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
        found = high - low if self.lower else low
        return found[0] if counts is None else found
