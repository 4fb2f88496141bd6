"""What is asked of the network on each split: the images that count, their targets and weights, and which way is up.

A metric of clean images, the success of an attack, that of a trigger and accuracy under corruptions are asked in the
same words; nobody else needs to know which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NotRequired, TypedDict, TypeVar

import numpy as np
import torch

from repair_engine.data import SPLITS
from repair_engine.data.columns import columns_of
from repair_engine.data.images import Images
from repair_engine.data.pixels import Pixels, Rows
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.attacks.settings import AttackRecord
from repair_engine.question.corrupted import CorruptionRecord
from repair_engine.question.forgetting import ForgetRecord, ForgetSet, forget_record, forget_set
from repair_engine.question.further import FurtherObjective, all_columns, further_objectives, subgroup_names
from repair_engine.question.objectives import Metric, Objective, cell_codes, metric_weights
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.question.request import RunSettings
from repair_engine.question.subgroups import subgroups_of
from repair_engine.question.triggers import TriggerRecord

Known = TypeVar("Known", np.ndarray, torch.Tensor)  # of images: predictions, logits, …


class MetricRecord(TypedDict):
    """The metric in documents: its name and words, which way is better, and the adversary, the trigger, the corruptions
    or what is to be forgotten."""

    name: str
    text: str
    goal: str
    attack: NotRequired[AttackRecord]
    trigger: NotRequired[TriggerRecord]
    corruption: NotRequired[CorruptionRecord]
    forgetting: NotRequired[ForgetRecord]


@dataclass(frozen=True)
class Question(ABC):
    """See the module's text; `attacked` holds the images that somebody changed, by split."""

    smooth: ClassVar[bool] = False  # few of its images tip by one filter: how near they come tells more
    further: ClassVar[tuple[FurtherObjective, ...]] = ()
    subgroups: ClassVar[tuple[str, ...] | None] = None
    adversary: ClassVar[bool] = False  # the changed images are an adversary's, who can make others
    known: ClassVar[AttackedSplit | None] = None  # report images with the trigger that a reconstructed one stands for

    metric: Metric
    images: Images
    attacked: Mapping[str, AttackedSplit] = field(default_factory=dict)

    @abstractmethod
    def objective(self, part: str) -> Objective:
        """The metric on one part."""

    @abstractmethod
    def indices(self, part: str) -> np.ndarray:
        """Dataset indices of the objective's images."""

    @abstractmethod
    def labels(self, part: str) -> np.ndarray:
        """True classes of the objective's images, int64 [N]."""

    @abstractmethod
    def file_names(self, part: str) -> list[str]:
        """Of the objective's images, [N]."""

    @abstractmethod
    def rows(self, part: str) -> np.ndarray | None:
        """Where the objective's images stand among the split's, int64; None: it has images of its own."""

    @abstractmethod
    def picked(self, part: str, everyone: Known, attacked: Mapping[str, Known]) -> Known:
        """The objective's images, of what is known of all images [N, …] and of each split's attacked ones."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The metric in words."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metric and the further objectives, [M]."""
        return (str(self.metric), *(one.name for one in self.further))

    @property
    def lowers(self) -> bool:
        """The metric is to be lowered."""
        return self.metric.goal == "lower"

    def game_objective(self, part: str) -> Objective:
        """What a search values: the metric, with the further objectives where there are any."""
        return self.objective(part)

    def groups(self, part: str) -> list[str] | None:
        """The subgroup of each of a part's images, [n]; None for metrics without subgroups."""
        return None if self.subgroups is None else [self.subgroups[i] for i in self.images.indices(part)]

    def retained(self, part: str) -> np.ndarray:
        """Dataset indices of a part's images on which the limit of clean accuracy holds, and which that is told of."""
        return self.images.indices(part)

    def classed(self, part: str) -> np.ndarray:
        """Dataset indices of a part's images that a table of classes is of."""
        return self.images.indices(part)

    def chance(self, part: str) -> float:
        """Of a metric to be lowered: where it is low enough, and nothing is won by lowering it further."""
        return 0.0

    def rates(self, part: str, attacked: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Attack success and true label under a trigger, of predictions of each split's triggered images; else none."""
        return {}

    def value(self, part: str, everyone: np.ndarray, attacked: Mapping[str, np.ndarray]) -> float | None:
        """The metric of predictions (`picked`); None where it has no images there."""
        return float(self.objective(part).value(self.picked(part, everyone, attacked)))

    def answers(self, part: str, clean: np.ndarray, own: Callable[[Pixels], np.ndarray]) -> np.ndarray:
        """Predictions [..., N] of the objective's images.

        Args:
            clean: of the split's images, [..., n].
            own: what predicts images that are not among them.
        """
        rows = self.rows(part)
        return own(self.objective(part).pixels) if rows is None else clean[..., rows]

    def searched(
        self, part: str, clean: torch.Tensor, own: Callable[[Pixels], torch.Tensor]
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Logits of the split's images and of what images the question has beside them, and where its own stand."""
        rows = self.rows(part)
        if rows is not None:
            return clean, rows
        both = torch.cat([clean, own(self.objective(part).pixels)])
        return both, np.arange(len(clean), len(both))

    def describe(self) -> MetricRecord:
        """For the record, JSON-able."""
        return {"name": str(self.metric), "text": self.text, "goal": self.metric.goal}


@dataclass(frozen=True, kw_only=True)
class CleanQuestion(Question):
    """A metric of the images as they are; `also`: what is valued beside it."""

    also: tuple[str, ...] = ()

    @cached_property
    def subgroups(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Each image's subgroup, [N]; None for metrics without subgroups."""
        return subgroups_of(self.metric, self.images.dataset)

    @cached_property
    def further(self) -> tuple[FurtherObjective, ...]:  # type: ignore[override]
        """Objectives that are valued beside the metric."""
        return further_objectives(self.metric, self.also, self.images.dataset)

    def objective(self, part: str) -> Objective:
        indices, labels, weights = self._weighed(part)
        used = np.flatnonzero(weights > 0)
        cells = cell_codes(labels, self.groups(part))
        pixels, goal = Rows(self.images.pixels, indices[used]), self.metric.goal
        return Objective(pixels, labels[used], weights[used], cells[used], goal)

    def game_objective(self, part: str) -> Objective:
        """The metric and all further objectives, on all images of a split.

        Raises:
            BadInput: a class or subgroup has no image there.
        """
        if not self.further:
            return self.objective(part)
        dataset = self.images.dataset
        indices, labels, weights = self._weighed(part)
        also = np.stack([one.weights(dataset, indices) for one in self.further])
        columns = all_columns(self.metric, self.further, dataset)
        names = subgroup_names(dataset, columns) if columns else None
        cells = cell_codes(labels, None if names is None else [names[i] for i in indices])
        return Objective(self.images.rows(part), labels, weights, cells, self.metric.goal, also=also)

    def _weighed(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices and labels of a part's images, and the metric's weights."""
        indices = self.images.indices(part)
        labels = self.images.labels[indices]
        return indices, labels, metric_weights(self.metric, labels, self.groups(part), self.images.class_names)

    def indices(self, part: str) -> np.ndarray:
        indices = self.images.indices(part)
        if self.metric.kind == "recall":
            target = self.metric.class_index(self.images.class_names)
            return indices[self.images.labels[indices] == target]
        return indices

    def labels(self, part: str) -> np.ndarray:
        return self.images.labels[self.indices(part)]

    def file_names(self, part: str) -> list[str]:
        return [self.images.dataset.file_names[i] for i in self.indices(part)]

    def rows(self, part: str) -> np.ndarray:
        return np.searchsorted(self.images.indices(part), self.indices(part))

    def picked(self, part: str, everyone: Known, attacked: Mapping[str, Known]) -> Known:
        return everyone[self.indices(part)]

    @property
    def text(self) -> str:
        if self.metric.kind == "recall":
            return f"recall of {self.metric.argument}"
        if self.subgroups is None:
            return "accuracy"
        columns = columns_of(self.metric.argument, self.images.dataset.attributes)
        if len(columns) == 1:
            return f"mean recall over the values of {columns[0]}"
        return f"mean recall over the combinations of {', '.join(columns[:-1])} and {columns[-1]}"


@dataclass(frozen=True, kw_only=True)
class ForgetQuestion(CleanQuestion):
    """Accuracy on the images of a class or a group, to be lowered to chance; clean accuracy is that of all others."""

    @cached_property
    def forgotten(self) -> ForgetSet:
        """Which images are to be forgotten."""
        return forget_set(self.metric, self.images.dataset)

    def _weighed(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indices = self.images.indices(part)
        mask = self.forgotten.mask[indices]
        return indices, self.images.labels[indices], mask / max(int(mask.sum()), 1)

    def indices(self, part: str) -> np.ndarray:
        indices = self.images.indices(part)
        return indices[self.forgotten.mask[indices]]

    def retained(self, part: str) -> np.ndarray:
        indices = self.images.indices(part)
        return indices[~self.forgotten.mask[indices]]

    def classed(self, part: str) -> np.ndarray:
        """Where a group is to be forgotten: those of the others, for it has images of several classes."""
        return super().classed(part) if self.forgotten.column is None else self.retained(part)

    def chance(self, part: str) -> float:
        return self._record["chance"][part]

    @cached_property
    def _record(self) -> ForgetRecord:
        parts = {part: self.images.indices(part) for part in (*SPLITS, "all")}
        return forget_record(self.forgotten, self.images.labels, parts)

    @property
    def text(self) -> str:
        return f"accuracy on the forget set ({self.forgotten.text})"

    def describe(self) -> MetricRecord:
        return {**super().describe(), "forgetting": self._record}


@dataclass(frozen=True, kw_only=True)
class ChangedQuestion(Question):
    """What is predicted of images that somebody changed, all alike; fixed per split."""

    smooth = True

    @abstractmethod
    def asked(self, changed: AttackedSplit) -> tuple[np.ndarray, bool]:
        """Targets of the objective, int64 [N], and whether what counts is that they are missed."""

    def objective(self, part: str) -> Objective:
        changed = self.attacked[part]
        weights, cells = accuracy_weights(len(changed.labels)), cell_codes(changed.labels, None)
        targets, complement = self.asked(changed)
        return Objective(changed.pixels, targets, weights, cells, self.metric.goal, complement)

    def indices(self, part: str) -> np.ndarray:
        return self.attacked[part].indices

    def labels(self, part: str) -> np.ndarray:
        return self.attacked[part].labels

    def rows(self, part: str) -> None:
        return None

    def picked(self, part: str, everyone: Known, attacked: Mapping[str, Known]) -> Known:
        return attacked[part]

    def value(self, part: str, everyone: np.ndarray, attacked: Mapping[str, np.ndarray]) -> float | None:
        """None over all images: each split has its own changed ones."""
        return super().value(part, everyone, attacked) if part in attacked else None


@dataclass(frozen=True, kw_only=True)
class AttackQuestion(ChangedQuestion):
    """How often an adversary wins."""

    adversary = True

    attack: AttackSettings

    def asked(self, changed: AttackedSplit) -> tuple[np.ndarray, bool]:
        return (changed.targets, False) if self.attack.targeted else (changed.labels, True)

    def file_names(self, part: str) -> list[str]:
        return [self.images.dataset.file_names[i] for i in self.indices(part)]

    @property
    def text(self) -> str:
        return "success of the attack"

    def describe(self) -> MetricRecord:
        return {**super().describe(), "attack": self.attack.to_json()}


@dataclass(frozen=True, kw_only=True)
class TriggerQuestion(ChangedQuestion):
    """Whether a backdoor's trigger gives its class, on images of the others.

    What is asked is how many keep their true label: that success falls would be had, too, by a network that takes them
    for anything else, or that no longer knows the class.
    """

    trigger: TriggerRecord

    def asked(self, changed: AttackedSplit) -> tuple[np.ndarray, bool]:
        return changed.labels, False

    def rates(self, part: str, attacked: Mapping[str, np.ndarray]) -> dict[str, float]:
        return self.attacked[part].rates(attacked[part]) if part in attacked else {}

    def file_names(self, part: str) -> list[str]:
        of = self.images.triggered.dataset if self.images.triggered is not None else self.images.dataset
        return [of.file_names[i] for i in self.indices(part)]

    @property
    def text(self) -> str:
        return "accuracy under the trigger"

    def describe(self) -> MetricRecord:
        return {**super().describe(), "trigger": self.trigger}


@dataclass(frozen=True, kw_only=True)
class HiddenQuestion(TriggerQuestion):
    """The same of a trigger that was reconstructed; what is valued and chosen by sees nothing of the `known` one."""

    known: AttackedSplit | None = None  # type: ignore[misc]

    def file_names(self, part: str) -> list[str]:
        return [self.images.dataset.file_names[i] for i in self.indices(part)]

    @property
    def text(self) -> str:
        return "accuracy under the reconstructed trigger"


@dataclass(frozen=True, kw_only=True)
class CorruptedQuestion(ChangedQuestion):
    """Accuracy on images that are corrupted, each in one of the kinds."""

    smooth = False  # as many of them tip as of clean ones

    corruption: CorruptionRecord

    def asked(self, changed: AttackedSplit) -> tuple[np.ndarray, bool]:
        return changed.labels, False

    def file_names(self, part: str) -> list[str]:
        return [self.images.dataset.file_names[i] for i in self.indices(part)]

    @property
    def text(self) -> str:
        kinds, severity = self.metric.corruptions, self.corruption["severity"]
        named = f"{len(kinds)} corruptions" if len(kinds) > 1 else kinds[0].replace("_", " ")
        return f"accuracy under {named} at severity {severity}"

    def describe(self) -> MetricRecord:
        return {**super().describe(), "corruption": self.corruption}


def question_of(
    asked: RunSettings,
    images: Images,
    attacked: Mapping[str, AttackedSplit],
    trigger: TriggerRecord | None = None,
    known: AttackedSplit | None = None,
    corruption: CorruptionRecord | None = None,
) -> Question:
    """What is asked of these images.

    Args:
        attacked: of a metric that is about attacks (`attack_splits`), a trigger (`triggered_splits`) or corruptions
            (`corrupted_splits`).
        trigger, corruption: what is said of it.
        known: of a trigger that was reconstructed, report images with the one that it stands for, if they were given.
    """
    if asked.metric.attacked:
        return AttackQuestion(asked.metric, images, attacked, attack=asked.attack)
    if asked.metric.corrupted:
        assert corruption is not None
        return CorruptedQuestion(asked.metric, images, attacked, corruption=corruption)
    if asked.metric.triggered:
        assert trigger is not None
        if asked.metric.hidden:
            return HiddenQuestion(asked.metric, images, attacked, trigger=trigger, known=known)
        return TriggerQuestion(asked.metric, images, attacked, trigger=trigger)
    made = ForgetQuestion if asked.metric.forgets else CleanQuestion
    return made(asked.metric, images, also=asked.also)
