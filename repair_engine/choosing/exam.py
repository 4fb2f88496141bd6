"""The images of one split on which candidates are compared, and what their predictions mean under the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.choosing.outcomes import largest_drops
from repair_engine.choosing.selection import Seen, Sweep, resample
from repair_engine.data.pixels import Pixels
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.goals import Goal, goal_of
from repair_engine.question.objectives import Objective, cell_codes


@dataclass(frozen=True)
class Exam:
    """One split's images.

    Attributes:
        sets: "clean", where the metric is attack success "attacked", and with a guard set "guard" -> pixels.
        objective: the metric on this split.
        retained: where the images stand that the limit of clean accuracy counts, int64; None: all do.
        floor: of a metric to be lowered, see `Question.chance`.
        rows: where its images lie among the clean ones, int64 [n]; None: they are the attacked ones.
        labels, subgroups: of the clean images, [N].
        guard_labels: of the guard set's images of this split, None without one.
        true: labels of the images that an adversary attacked, None without an attack.
        seed: of the resampling.
        triggered: the images with a trigger, None without one.
        goal: what is chosen by in the place of the metric; None: the metric, and on *report*.
    """

    sets: Mapping[str, Pixels]
    objective: Objective
    rows: np.ndarray | None
    labels: np.ndarray
    subgroups: list[str] | None
    guard_labels: np.ndarray | None
    true: np.ndarray | None
    seed: int
    triggered: AttackedSplit | None = None
    goal: Goal | None = None
    retained: np.ndarray | None = None
    floor: float = 0.0

    @classmethod
    def of(cls, case: Case, part: str) -> Exam:
        """The exam of "select" or "report". Raises BadInput: too few subgroups for the goal."""
        images, question = case.images, case.question
        sets: dict[str, Pixels] = {"clean": images.rows(part)}
        objective, rows = question.objective(part), question.rows(part)
        if rows is None:
            sets["attacked"] = objective.pixels
        true = question.labels(part) if question.adversary else None
        guard_labels = None
        if images.guard is not None:
            of_guard = getattr(images.guard.parts, part)
            sets["guard"] = torch.from_numpy(np.array(images.guard.dataset.images[of_guard]))
            guard_labels = images.guard.dataset.labels[of_guard]
        labels, groups = images.labels[images.indices(part)], question.groups(part)
        triggered = question.attacked[part] if question.metric.triggered else None
        goal = None
        if part == "select":
            goal = goal_of(case.settings.limits.goal, groups, labels, images.class_names)
        kept = question.retained(part)
        retained = None if len(kept) == len(labels) else np.searchsorted(images.indices(part), kept)
        return cls(
            sets, objective, rows, labels, groups, guard_labels, true, case.settings.seed, triggered, goal, retained,
            question.chance(part),
        )  # fmt: skip

    @property
    def images(self) -> int:
        """Of all sets together."""
        return sum(len(pixels) for pixels in self.sets.values())

    def accuracy(self, predicted: np.ndarray) -> np.ndarray:
        """Of predictions of the clean images [..., N]: accuracy on those that the limit counts, [...]."""
        right = predicted == self.labels
        return (right if self.retained is None else right[..., self.retained]).mean(axis=-1)

    def asked(self, predicted: Mapping[str, np.ndarray]) -> np.ndarray:
        """The predictions of the objective's images [..., n] among those of all sets [..., N]."""
        return predicted["attacked"] if self.rows is None else predicted["clean"][..., self.rows]

    def sweep(self, predicted: Mapping[str, np.ndarray]) -> Sweep:
        """Figures of m + 1 candidates, of which the first is the intact model.

        Args:
            predicted: set -> classes int64 [m + 1, N].
        """
        clean = predicted["clean"] == self.labels
        return Sweep(
            self.objective.value(self.asked(predicted)),
            self.accuracy(predicted["clean"]),
            None if self.guard_labels is None else (predicted["guard"] == self.guard_labels).mean(axis=1),
            None if self.subgroups is None else largest_drops(clean, self.subgroups),
            self.objective.goal == "lower",
            None if self.goal is None else self.goal.score(self.goal.value(predicted["clean"])),
            self.floor,
        )

    def draws(self, predicted: Mapping[str, np.ndarray]) -> Sweep:
        """`sweep` on bootstrap resamples of the images; the same ones whatever the candidates."""
        guard = None
        if self.guard_labels is not None:
            guard = Seen(predicted["guard"], self.guard_labels, cell_codes(self.guard_labels, None))
        cells = cell_codes(self.labels, self._strata)
        clean = Seen(predicted["clean"], self.labels, cells, self.retained)
        return resample(
            clean, self.objective, self.asked(predicted), self.rows, guard, self.subgroups, self.seed, goal=self.goal,
            floor=self.floor,
        )  # fmt: skip

    def score(self, predicted: Mapping[str, np.ndarray]) -> float:
        """What one candidate is chosen by, the larger the better; predictions int64 [N] of each set."""
        if self.goal is not None:
            return float(self.goal.score(self.goal.value(predicted["clean"][None]))[0])
        value = float(self.objective.value(self.asked(predicted)))
        return -max(value, self.floor) if self.objective.goal == "lower" else value

    @property
    def _strata(self) -> Sequence[str] | None:
        """What the clean images are resampled within beside their class, [N]."""
        if self.retained is None:
            return self.subgroups
        return [str(one) for one in np.isin(np.arange(len(self.labels)), self.retained)]

    def true_label(self, predicted: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Share of the attacked images that are predicted as what they are, [m + 1]; None without an attack."""
        return None if self.true is None else (predicted["attacked"] == self.true).mean(axis=1)

    def success(self, predicted: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Share of the images with a trigger that it gives its class, [m + 1]; None without one."""
        return None if self.triggered is None else (predicted["attacked"] == self.triggered.targets).mean(axis=1)
