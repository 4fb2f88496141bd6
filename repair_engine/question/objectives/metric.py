"""Metrics by name: the behaviour that is asked about, and what it weighs.

Every metric is linear in per-image outcomes: V = Σ wᵢ·[predictionᵢ = targetᵢ].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.settings import apart, attacks, check_metric, corruptions_of, corrupts, forgets, hidden, triggers
from repair_engine.support.nfc import normal


@dataclass(frozen=True)
class Metric:
    """`accuracy`, `recall:CLASS`, `subgroup-recall:COLUMN[,COLUMN…]`, `attack-success`, `trigger-success:CLASS`,
    `hidden-trigger:CLASS` (of which the class is found where it is not named), `corrupted-accuracy[:KIND[,KIND…]]`,
    `forget:CLASS` or `forget:COLUMN=VALUE` (see `question.forgetting`).

    The subgroups of several columns are the combinations of their values that occur (see `repair_engine.data.columns`).
    """

    kind: str
    argument: str = ""

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Reads a metric's name.

        Raises:
            BadInput: unknown metric, or an argument that is missing or not wanted.
        """
        kind, argument = check_metric("metric", normal(text))  # as the names of classes and columns are
        return cls(kind, argument)

    @property
    def attacked(self) -> bool:
        """It is judged on images that an adversary changed, and is to be lowered."""
        return attacks(self.kind)

    @property
    def triggered(self) -> bool:
        """It is judged on images that carry a backdoor's trigger, by how many keep their true label."""
        return triggers(self.kind)

    @property
    def hidden(self) -> bool:
        """Its trigger is not known, and reconstructed from clean images."""
        return hidden(self.kind)

    @property
    def corrupted(self) -> bool:
        """It is accuracy on images that are corrupted."""
        return corrupts(self.kind)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Their kinds."""
        return corruptions_of(self.argument) if self.corrupted else ()

    @property
    def forgets(self) -> bool:
        """It is accuracy on images that are to be forgotten, and is to be lowered."""
        return forgets(self.kind)

    @property
    def apart(self) -> bool:
        """It is judged on images of its own, that somebody changed."""
        return apart(self.kind)

    @property
    def goal(self) -> str:
        """Which way is better: "raise" or "lower"."""
        return "lower" if self.attacked or self.forgets else "raise"

    @property
    def culprit_sign(self) -> int:
        """−1 where culprits have negative values (the metric is to be raised), +1 where they have positive ones."""
        return 1 if self.goal == "lower" else -1

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    def class_index(self, class_names: Sequence[str]) -> int:
        """Index of the class in `recall:CLASS`, `trigger-success:CLASS`, `hidden-trigger:CLASS` or `forget:CLASS`.

        Raises:
            BadInput: no such class, naming the nearest and listing what there is.
        """
        if self.argument in class_names:
            return list(class_names).index(self.argument)
        shown = ", ".join(class_names[:20]) + (", …" if len(class_names) > 20 else "")
        near = get_close_matches(self.argument, class_names, n=3)
        meant = f"Is {' or '.join(near)} meant? " if near else ""
        raise BadInput(f"--metric {self}: there is no class {self.argument!r}.", f"{meant}The classes are: {shown}")


def cell_codes(labels: np.ndarray, subgroups: Sequence[str] | None) -> np.ndarray:
    """One code per class × subgroup, int64 [N]."""
    if subgroups is None:
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    _, groups = np.unique(np.asarray(subgroups), return_inverse=True)
    return np.unique(labels * (groups.max(initial=0) + 1) + groups, return_inverse=True)[1].astype(np.int64)


def accuracy_weights(n: int) -> np.ndarray:
    """w = 1/N, float64 [N]."""
    return np.full(n, 1.0 / max(n, 1))


def recall_weights(labels: np.ndarray, target: int) -> np.ndarray:
    """w = 1/N_c on the images of one class, else 0."""
    hit = labels == target
    return np.where(hit, 1.0 / max(int(hit.sum()), 1), 0.0)


def subgroup_weights(labels: np.ndarray, subgroups: Sequence[str]) -> np.ndarray:
    """w = 1/(G·C_g·N_gc): the mean over subgroups of the mean over the classes present in each of recall."""
    groups, codes = np.unique(np.asarray(subgroups), return_inverse=True)
    weights = np.zeros(len(labels))
    for g in range(len(groups)):
        present = np.unique(labels[codes == g])
        for c in present:
            cell = (codes == g) & (labels == c)
            weights[cell] = 1.0 / (len(groups) * len(present) * cell.sum())
    return weights


def metric_weights(
    metric: Metric, labels: np.ndarray, subgroups: Sequence[str] | None, class_names: Sequence[str]
) -> np.ndarray:
    """Weights of the metric over labelled images, float64 [N], summing to 1.

    Raises:
        BadInput: the class of `recall:CLASS` has no image here.
    """
    if metric.kind == "recall":
        target = metric.class_index(class_names)
        if not (labels == target).any():
            raise BadInput(f"--metric {metric}: the data has no image of class {metric.argument!r}.")
        return recall_weights(labels, target)
    if metric.kind == "subgroup-recall":
        assert subgroups is not None
        return subgroup_weights(labels, subgroups)
    return accuracy_weights(len(labels))
