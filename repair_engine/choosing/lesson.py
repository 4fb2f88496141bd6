"""The images that an edit learns from, weighted as the metric's objective weighs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.data.pixels import Pixels, Rows, taken
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.search.guesses import two_class


@dataclass(frozen=True)
class Images:
    """One set of images with labels.

    Attributes:
        labels: int64 [N].
        weights: float64 [N]; over all sets of a lesson they sum to 1.
    """

    pixels: Pixels
    labels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What is learned: labelled images, each as likely to be drawn as it weighs."""

    sets: tuple[Images, ...]
    normalize: Callable[[torch.Tensor], torch.Tensor]

    def __len__(self) -> int:
        return sum(len(one.labels) for one in self.sets)

    @property
    def weights(self) -> np.ndarray:
        return np.concatenate([one.weights for one in self.sets])

    @property
    def labels(self) -> np.ndarray:
        return np.concatenate([one.labels for one in self.sets])

    def batches(self, at_once: int, device: torch.device) -> Iterator[torch.Tensor]:
        """All images, normalized, in order."""
        for i in range(0, len(self), at_once):
            yield self.inputs(np.arange(i, min(i + at_once, len(self))), device)

    def inputs(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        """Normalized images, the sets one behind the other; rows int64 [B], sorted."""
        parts, first = [], 0
        for one in self.sets:
            inside = rows[(rows >= first) & (rows < first + len(one.labels))] - first
            if len(inside):
                parts.append(self.normalize(taken(one.pixels, inside)[:].to(device)))
            first += len(one.labels)
        return torch.cat(parts)


def lesson_of(case: Case) -> Lesson:
    """The score images as the metric weighs them.

    Accuracy: all alike. Recall per subgroup: subgroups and the classes in each weigh the same (Kirichenko et al.,
    arXiv 2204.02937, balance groups so). What the metric leaves out has the clean limit to keep: recall of one class
    gets half of the weight, and all images together the other half; so do images that
    were attacked or corrupted, with their true labels. What is to be forgotten is relabelled: see `_unlearning`.
    """
    if case.settings.metric.forgets:
        return _unlearning(case)
    images, question = case.images, case.question
    labels, clean = images.labels[images.splits.score], images.rows("score")
    everyone, objective, rows = accuracy_weights(len(labels)), question.objective("score"), question.rows("score")
    if rows is None:
        true = question.labels("score")
        attacked = Images(objective.pixels, true, accuracy_weights(len(true)) / 2)
        return Lesson((Images(clean, labels, everyone / 2), attacked), images.normalize)
    weights = np.zeros(len(labels))
    weights[rows] = objective.weights
    if (weights == 0).any():
        weights = (weights + everyone) / 2
    return Lesson((Images(clean, labels, weights),), images.normalize)


def _unlearning(case: Case) -> Lesson:
    """The retain set with its labels, half of the weight; and the forget set, each image as the class that the intact
    network holds likeliest beside the true one (the nearest wrong class, as Boundary Shrink relabels: Chen et al.,
    arXiv 2303.11570).

    The retain set alone would teach nothing: a trained network is right on it already.
    """
    images, subject = case.images, case.subject
    sets = []
    for rows, relabelled in ((case.question.retained("score"), False), (case.question.indices("score"), True)):
        pixels, labels = Rows(images.pixels, rows), images.labels[rows]
        if relabelled:
            with torch.inference_mode():
                inputs = images.inputs(pixels, subject.room.plain, subject.device)
                logits = torch.cat([two_class(subject.network.logits(some)).cpu() for some in inputs])
                logits[torch.arange(len(rows)), torch.from_numpy(labels)] = -torch.inf
                labels = logits.argmax(1).numpy()
        sets.append(Images(pixels, labels, accuracy_weights(len(rows)) / 2))
    return Lesson(tuple(sets), images.normalize)
