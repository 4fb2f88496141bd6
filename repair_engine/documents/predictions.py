"""predictions.csv: what the model said of every image, before and after, and how sure it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.data import SPLITS, Dataset
from repair_engine.data.images import Guard
from repair_engine.network import predictions
from repair_engine.question.question import ForgetQuestion
from repair_engine.support import tables
from repair_engine.support.tables import Figure

HEADER = (
    "file_name",
    "split",
    "label",
    "subgroup",
    "predicted_before",
    "predicted_after",
    "confidence_before",
    "confidence_after",
)


@dataclass(frozen=True)
class Predicted:
    """What a model says of a set of images.

    Attributes:
        classes: index of the predicted class, int64 [N].
        confidence: softmax probability of that class, float64 [N].
    """

    classes: np.ndarray
    confidence: np.ndarray


def predicted(logits: np.ndarray) -> Predicted:
    """Of logits float [N, classes]; a single logit is a binary classifier at 0, its probability the sigmoid."""
    found = torch.from_numpy(logits)
    classes = predictions(found)
    wide = found.double()
    if wide.shape[-1] == 1:
        confidence = torch.sigmoid(wide[:, 0].abs())
    else:
        confidence = torch.softmax(wide, -1).gather(-1, classes[:, None])[:, 0]
    return Predicted(classes.numpy(), confidence.numpy())


def write_predictions(case: Case, before: Predicted, after: Predicted, path: Path) -> None:
    """One row per image of the main set, in the order of the zip's sorted names."""
    part = np.empty(len(case.images), dtype=object)
    for name in SPLITS:
        part[case.images.indices(name)] = name
    _write(case.images.dataset, part.tolist(), _groups(case), before, after, path)


def _groups(case: Case) -> Sequence[str] | None:
    """Each image's subgroup; where a group is to be forgotten, its value of that column, [N]."""
    if isinstance(case.question, ForgetQuestion) and (column := case.question.forgotten.column) is not None:
        return case.images.dataset.column(column)
    return case.question.subgroups


def write_guard_predictions(guard: Guard, before: Predicted, after: Predicted, path: Path) -> None:
    """The same for the guard set; images that are also in the main set, or to be forgotten, are marked `excluded`."""
    part = np.full(len(guard.dataset), "excluded", dtype=object)
    part[guard.parts.select], part[guard.parts.report] = "select", "report"
    _write(guard.dataset, part.tolist(), None, before, after, path)


def _write(
    dataset: Dataset,
    parts: Sequence[str],
    subgroups: Sequence[str] | None,
    before: Predicted,
    after: Predicted,
    path: Path,
) -> None:
    names = dataset.class_names
    with tables.writing(path, HEADER) as rows:
        for i, file_name in enumerate(dataset.file_names):
            rows.writerow(
                (
                    file_name,
                    parts[i],
                    names[dataset.labels[i]],
                    subgroups[i] if subgroups else "",
                    names[before.classes[i]],
                    names[after.classes[i]],
                    Figure(f"{before.confidence[i]:.6f}"),
                    Figure(f"{after.confidence[i]:.6f}"),
                )
            )
