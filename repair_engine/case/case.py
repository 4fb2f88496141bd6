"""A case: one request with its model, images, splits and network at hand. `preparing` makes it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from repair_engine.data import Dataset, Holdout, Splits
from repair_engine.data.pixels import Rows
from repair_engine.models.formats import Checkpoint
from repair_engine.network import Network, check_finite, predictions
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.further import FurtherObjective, all_columns, check_size, further_objectives, subgroup_names
from repair_engine.question.objectives import Objective, cell_codes, metric_weights
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.question.request import RepairRequest
from repair_engine.question.subgroups import subgroups_of
from repair_engine.search.game import NeuronGame
from repair_engine.support.memory import Room
from repair_engine.support.progress import Progress, silent

SPLITS = ("score", "select", "report")


@dataclass(frozen=True)
class Case:
    """See the module's text. `intact` holds the intact network's predictions of all images, int64 [N];
    `constants_from` says where the mean constants come from (`mean_constants`)."""

    request: RepairRequest
    checkpoint: Checkpoint
    dataset: Dataset
    splits: Splits
    guard: Dataset | None
    guard_parts: Holdout | None
    network: Network
    biases: torch.Tensor
    intact: np.ndarray
    attacked: dict[str, AttackedSplit]
    warnings: tuple[str, ...]
    constants_from: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def subgroups(self) -> tuple[str, ...] | None:
        return subgroups_of(self.request.metric, self.dataset)

    @cached_property
    def pixels(self) -> torch.Tensor:
        with warnings.catch_warnings():  # torch warns of read-only arrays; nothing here writes to them
            warnings.simplefilter("ignore")
            return torch.from_numpy(np.asarray(self.dataset.images))

    @cached_property
    def room(self) -> Room:
        """How much at once fits into the memory that the run may take. Raises BadInput: too little."""
        image = self.normalize(self.pixels[:1].to(self.network.device))
        weights = sum(t.numel() * t.element_size() for t in self.checkpoint.tensors.values())
        on_cpu = self.network.device.type == "cpu"
        return Room.of(self.request.memory, on_cpu, weights, self.network.state_sizes(image))

    def indices(self, part: str) -> np.ndarray:
        """Dataset indices of a split, or of all images for "all"."""
        return np.arange(len(self.dataset)) if part == "all" else getattr(self.splits, part)

    def objective(self, part: str) -> Objective:
        """The metric as an objective on one split ("all" for every image; not for attacks)."""
        metric = self.request.metric
        if metric.attacked:
            return self._attack_objective(part)
        indices = self.indices(part)
        labels = self.dataset.labels[indices]
        groups = [self.subgroups[i] for i in indices] if self.subgroups else None
        weights = metric_weights(metric, labels, groups, self.dataset.class_names)
        used = np.flatnonzero(weights > 0)
        cells = cell_codes(labels, groups)
        pixels = Rows(self.pixels, indices[used])
        return Objective(pixels, labels[used], weights[used], cells[used])

    @cached_property
    def further(self) -> tuple[FurtherObjective, ...]:
        """Objectives that are valued beside the metric."""
        return further_objectives(self.request.metric, self.request.also, self.dataset)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Of the metric and the further objectives, [M]."""
        return (str(self.request.metric), *(one.name for one in self.further))

    def joint_objective(self, part: str) -> Objective:
        """The metric and all further objectives, on all images of a split.

        Raises:
            BadInput: a class or subgroup has no image there.
        """
        metric, indices = self.request.metric, self.indices(part)
        labels = self.dataset.labels[indices]
        groups = [self.subgroups[i] for i in indices] if self.subgroups else None
        weights = metric_weights(metric, labels, groups, self.dataset.class_names)
        also = np.stack([one.weights(self.dataset, indices) for one in self.further])
        columns = all_columns(metric, self.further, self.dataset)
        names = subgroup_names(self.dataset, columns) if columns else None
        cells = cell_codes(labels, None if names is None else [names[i] for i in indices])
        return Objective(Rows(self.pixels, indices), labels, weights, cells, also=also)

    def objective_indices(self, part: str) -> np.ndarray:
        """Dataset indices of the objective's images."""
        if self.request.metric.attacked:
            return self.attacked[part].indices
        indices = self.indices(part)
        if self.request.metric.kind == "recall":
            target = self.request.metric.class_index(self.dataset.class_names)
            return indices[self.dataset.labels[indices] == target]
        return indices

    def _attack_objective(self, part: str) -> Objective:
        attacked = self.attacked[part]
        labels = self.dataset.labels[attacked.indices]
        weights, cells = accuracy_weights(len(labels)), cell_codes(labels, None)
        targeted = self.request.attack.targeted
        targets = attacked.targets if targeted else labels
        return Objective(attacked.pixels, targets, weights, cells, "lower", complement=not targeted)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 or float pixels in [0, 1] -> network input."""
        return self.dataset.preprocessing.normalize(pixels)

    def game(self, batch_size: int, part: str = "score") -> NeuronGame:
        """The game of the metric, and of the further objectives, on a split."""
        if self.further:
            check_size(1 + len(self.further), self.network.n_filters)
        objective = self.joint_objective(part) if self.further else self.objective(part)
        return NeuronGame(self.network, objective, self.normalize, batch_size, self.room.game, self.room.backward)


def plain_logits(
    module: torch.nn.Module, case: Case, pixels: torch.Tensor, progress: Progress = silent
) -> torch.Tensor:
    """Logits [N, classes] of the plain module, on the CPU. Raises BadInput where they are not finite."""
    out = []
    with torch.inference_mode():
        step = case.room.plain
        for i in range(0, len(pixels), step):
            logits = module(case.normalize(pixels[i : i + step].to(case.network.device)))
            out.append((logits.unsqueeze(1) if logits.dim() == 1 else logits).cpu())
            progress("predicting with the intact model", min(i + step, len(pixels)) / len(pixels))
    found = torch.cat(out)
    check_finite(found)
    return found


def plain_predictions(
    module: torch.nn.Module, case: Case, pixels: torch.Tensor, progress: Progress = silent
) -> np.ndarray:
    """Predicted classes, int64 [N], of the plain module."""
    return predictions(plain_logits(module, case, pixels, progress)).numpy()
