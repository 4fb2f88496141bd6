"""Goals that a repair may be chosen by in the place of its metric: what subgroups' predictions say beside one another.

They are no sums over images, so no unit has a Shapley value for them: units are valued by the metric, the mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.support.statistics import REFUSE_BELOW

EQUALIZED_ODDS = "equalized-odds"
TRUE, FALSE = "true positive rate", "false positive rate"


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


def goal_of(name: str, groups: Sequence[str] | None, labels: np.ndarray, class_names: Sequence[str]) -> Goal | None:
    """The goal over the subgroups of the select images; None for "mean".

    Args:
        groups, labels: of the images, [N].
        class_names: by label.

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
            _MEND,
            "goal",
        )
    if name != EQUALIZED_ODDS:
        return GroupGoal.over(name, inside, labels)
    if (found := EqualizedOdds.over(inside, labels, len(class_names))) is None:
        raise BadInput(
            f"The goal {name} compares a class's true and false positive rates between subgroups, each rate over at "
            f"least {REFUSE_BELOW} select images: {_short_of(inside, labels, class_names)}.",
            _MEND,
            "goal",
        )
    return found


_MEND = "Give more images, a column with fewer values, or leave the goal out."


def _short_of(inside: Sequence[np.ndarray], labels: np.ndarray, class_names: Sequence[str]) -> str:
    """Why no class has the images that equalized odds need."""
    present = np.unique(np.concatenate([labels[rows] for rows in inside]))
    if len(present) == 1:
        return f"all of them are of class {class_names[present[0]]}, so nothing can be a false positive of it"
    fewest = {int(of): _second(inside, labels, of) for of in present}
    best = max(fewest, key=lambda of: fewest[of])
    return (
        "no class has so many images, and so many of other classes, in two subgroups "
        f"({class_names[best]} comes nearest, with {fewest[best]} in the second)"
    )


def _second(inside: Sequence[np.ndarray], labels: np.ndarray, of: int) -> int:
    """How many images two subgroups have both of a class and of other classes."""
    own = [int((labels[rows] == of).sum()) for rows in inside]
    return sorted(min(n, len(rows) - n) for n, rows in zip(own, inside, strict=True))[-2]


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


@dataclass(frozen=True)
class Rate:
    """A rate of one class against the rest.

    Attributes:
        kind: TRUE, the share of the class's images that are predicted as it; FALSE, of the other classes' images.
        of: the class.
    """

    kind: str
    of: int

    def images(self, labels: np.ndarray) -> np.ndarray:
        """Which images it is a share of, bool [N]."""
        return (labels == self.of) == (self.kind == TRUE)

    def value(self, predicted: np.ndarray, labels: np.ndarray, drawn: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The rate on each resample, [R, m]; 0 where it has no image.

        Args:
            predicted, labels: of the images, int64 [m, N] and [N].
            drawn: how often each is drawn, [R, N].
            n: how many of these images are drawn, [R].
        """
        hits = (predicted == self.of) & self.images(labels)
        some = np.flatnonzero(hits.any(axis=0))  # few are ever false positives of one class
        return drawn[:, some] @ hits[:, some].T / np.maximum(n, 1e-12)[:, None]


class _Drawn:
    """One subgroup's images on each resample (arguments as for `Rate.value`); they are counted once for all rates."""

    def __init__(self, predicted: np.ndarray, labels: np.ndarray, drawn: np.ndarray) -> None:
        self._images = predicted, labels, drawn
        self._all = drawn.sum(axis=1)
        self._of = {int(of): drawn[:, labels == of].sum(axis=1) for of in np.unique(labels)}
        self._none = np.zeros(len(drawn))

    def value(self, rate: Rate) -> np.ndarray:
        own = self._of.get(rate.of, self._none)
        return rate.value(*self._images, own if rate.kind == TRUE else self._all - own)


@dataclass(frozen=True)
class EqualizedOdds(Goal):
    """The equalized odds difference (Hardt, Price & Srebro 2016, arXiv 1610.02413): over all classes, each against the
    rest, the largest difference between subgroups in a true positive rate or in a false positive rate. Less is better.

    A subgroup's rate of fewer than 30 images does not count. With two classes it is the figure of that name in
    fairlearn.

    Attributes:
        inside: images of each subgroup, int64.
        compared: the rates that count in two subgroups or more, each with these (as places in `inside`).
    """

    inside: tuple[np.ndarray, ...]
    compared: tuple[tuple[Rate, tuple[int, ...]], ...]

    @classmethod
    def over(cls, inside: Sequence[np.ndarray], labels: np.ndarray, classes: int) -> EqualizedOdds | None:
        """Over the images of each subgroup (`subgroup_rows`); None unless some class has both rates in two of them.

        Without that there may be rates to compare, such as how often each class is predicted where all images are of
        one: they are not the odds that are to be equal.
        """
        if not any(len(inside) > 1 and _second(inside, labels, of) >= REFUSE_BELOW for of in range(classes)):
            return None
        compared = []
        for rate in (Rate(kind, of) for of in range(classes) for kind in (TRUE, FALSE)):
            sizes = [int(rate.images(labels[rows]).sum()) for rows in inside]
            enough = tuple(g for g, n in enumerate(sizes) if n >= REFUSE_BELOW)
            if len(enough) > 1:
                compared.append((rate, enough))
        return cls(EQUALIZED_ODDS, labels, tuple(inside), tuple(compared))

    @property
    def lower(self) -> bool:
        return True

    def rates(
        self, predicted: np.ndarray, counts: np.ndarray | None = None
    ) -> Iterator[tuple[Rate, tuple[int, ...], np.ndarray]]:
        """Each rate that is compared, the subgroups that it counts in, and its values in these [G, R, m] (R = 1 where
        nothing is drawn; arguments as for `value`)."""
        drawn = np.ones((1, len(self.labels))) if counts is None else counts
        of_group = [_Drawn(predicted[:, rows], self.labels[rows], drawn[:, rows]) for rows in self.inside]
        for rate, groups in self.compared:
            yield rate, groups, np.stack([of_group[g].value(rate) for g in groups])

    def value(self, predicted: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        found = np.zeros((1 if counts is None else len(counts), len(predicted)))
        for _, _, values in self.rates(predicted, counts):
            found = np.maximum(found, np.ptp(values, axis=0))
        return found[0] if counts is None else found
