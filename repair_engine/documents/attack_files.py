"""Files that let an outsider recompute every rate: predictions under attack, and the adversarial images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from repair_engine.data import Dataset
from repair_engine.question.victims import AttackImages
from repair_engine.studies.attack_rows import Row
from repair_engine.support import tables

HEADER = ("attack", "kind", "file_name", "label", "target", "predicted_before", "predicted_after")


def write_attacks(rows: Sequence[Row], dataset: Dataset, path: Path, repaired: bool) -> None:
    """attacks.csv of a repair, attack.csv of the verb: one line per row of the report and image.

    `target` is empty where the attack is untargeted, `predicted_after` where there is no repaired model.
    """
    names = dataset.class_names
    with tables.writing(path, HEADER) as lines:
        for row in rows:
            images = row.images
            for i, index in enumerate(images.indices):
                target = names[images.goals[i]] if images.targeted else ""
                said = names[row.before[i]], names[row.after[i]] if repaired else ""
                lines.writerow((row.name, row.kind, dataset.file_names[index], names[images.labels[i]], target, *said))


def write_attacked(images: AttackImages, fixed: torch.Tensor, dataset: Dataset, path: Path) -> None:
    """attack.npz: the fixed set. file_names [N], labels and targets int64 [N], pixels float32 [N, C, H, W] in [0, 1].

    Read it with numpy.load(path); the names are plain strings, nothing is pickled.
    """
    names = np.array([dataset.file_names[i] for i in images.indices])
    np.savez_compressed(
        path, file_names=names, labels=images.labels, targets=images.goals, pixels=fixed.numpy().astype(np.float32)
    )
