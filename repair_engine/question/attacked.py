"""Which images are attacked, and the fixed sets that are made on the intact model, one per split.

The recipe, for whoever wants to make them again (docs/attacks.md has it in words): numpy's default_rng([seed, 0xA77AC])
gives, split after split, the targets of all its images and then the images that are picked; torch's
CPU generator with the seed gives the random starts, split after split, batch after batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.data import Dataset
from repair_engine.errors import BadInput
from repair_engine.question.attacks import AttackSettings, pgd, random_targets, skip_starts
from repair_engine.question.objectives import Metric
from repair_engine.support.progress import BATCH, Progress

ATTACK_IMAGES = 500  # per split, where nothing else is asked
_SEED = 0xA77AC


def check_pixels(metric: Metric, dataset: Dataset) -> None:
    """Raises BadInput where images are to be attacked that are no pixels."""
    if (metric.attacked or metric.hidden or metric.corrupted) and dataset.preprocessing.normalized:
        changes = "Attacks change" if metric.attacked else "Corruptions change"
        what = "A trigger is sought in" if metric.hidden else changes
        raise BadInput(
            f"{what} pixels in [0, 1]; these images are normalized already.",
            "Give pixels (uint8, or floating point in [0, 1]), and mean= and std= as the model needs them.",
        )


@dataclass(frozen=True)
class AttackedSplit:
    """Images of one split that somebody changed: an adversary, who planted a trigger, or a corruption.

    Attributes:
        indices: of the images, int64 [N]: into the dataset, or into that of the triggered images where it is given.
        pixels: changed; uint8, or float in [0, 1]; may be mapped from a file, [N, C, H, W].
        targets: the classes that are wanted of the model, int64 [N]; of corrupted images the true ones.
        labels: the true classes, int64 [N].
        excluded: images left out, for there is nothing to win.
        kinds: of corrupted images, which of `CORRUPTIONS` each is, int64 [N]; None of others.
    """

    indices: np.ndarray
    pixels: torch.Tensor
    targets: np.ndarray
    labels: np.ndarray
    excluded: int
    kinds: np.ndarray | None = None

    def rates(self, predicted: np.ndarray) -> dict[str, float]:
        """How often predictions [N] are the class that is wanted, and how often the true one."""
        return {
            "success": float((predicted == self.targets).mean()),
            "true_label": float((predicted == self.labels).mean()),
        }


@dataclass(frozen=True)
class Chosen:
    """Images of one split to attack, before they are attacked.

    Attributes:
        picked: dataset indices, int64.
        usable: those of them on which there is something to win, int64 [N].
        targets: the adversary's targets of `usable`, or their labels where the attack is untargeted, int64 [N].
    """

    picked: np.ndarray
    usable: np.ndarray
    targets: np.ndarray

    @property
    def excluded(self) -> int:
        return len(self.picked) - len(self.usable)


def choose(
    parts: Mapping[str, np.ndarray],
    labels: np.ndarray,
    intact: np.ndarray,
    settings: AttackSettings,
    classes: int,
    seed: int,
    most: int,
) -> dict[str, Chosen]:
    """Targets and images, split after split from one stream of random numbers.

    Args:
        parts: split -> dataset indices.
        labels, intact: of all images, and the intact model's predictions, int64.
        classes: at least 2.
        most: images per split.

    Raises:
        BadInput: the model is right on none of a split's picked images, or there is nothing to win on any of them.
    """
    rng = np.random.default_rng([seed, _SEED])
    chosen = {}
    for part, indices in parts.items():
        own = labels[indices]
        targets = random_targets(own, classes, rng) if settings.targeted else own
        picked = np.sort(rng.choice(len(indices), min(most, len(indices)), replace=False))
        images, goals = indices[picked], targets[picked]
        usable = intact[images] != goals if settings.targeted else intact[images] == goals
        if not (intact[images] == labels[images]).any():
            raise BadInput(
                f"No image of the {part} split can be attacked: the intact model is right on none of the {len(images)} "
                "that were picked, so there is no true label to take away.",
                "Usual mistakes: normalization (--mean, --std), class order (--classes), input size (--resize, "
                "--crop), channel order.",
            )
        if not usable.any():
            raise BadInput(
                f"No image of the {part} split can be attacked: on all of them the clean prediction already is "
                "what the adversary wants."
            )
        chosen[part] = Chosen(images, images[usable], goals[usable])
    return chosen


def attack_splits(
    module: torch.nn.Module,
    dataset: Dataset,
    parts: Mapping[str, np.ndarray],
    intact: np.ndarray,
    settings: AttackSettings,
    *,
    classes: int,
    seed: int,
    most: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, AttackedSplit]:
    """The fixed set of each split, made on the intact module. See `choose` for what is raised."""
    chosen = choose(parts, dataset.labels, intact, settings, classes, seed, most)
    generator = torch.Generator().manual_seed(seed)
    total, done = sum(len(c.usable) for c in chosen.values()), 0
    standardize, out = dataset.preprocessing.standardize, {}
    for part, which in chosen.items():
        pixels = []
        for i in range(0, len(which.usable), BATCH):
            clean = unit_pixels(dataset, which.usable[i : i + BATCH], device)
            goal = torch.from_numpy(which.targets[i : i + BATCH]).to(device)
            pixels.append(pgd(lambda x: module(standardize(x)), clean, goal, settings, generator).cpu())
            done += len(clean)
            progress("attacking the intact model", done / total)
        own = dataset.labels[which.usable]
        out[part] = AttackedSplit(which.usable, torch.cat(pixels), which.targets, own, which.excluded)
    return out


def generator_after(
    earlier: Mapping[str, Chosen], shape: tuple[int, ...], settings: AttackSettings, seed: int
) -> torch.Generator:
    """The generator of `attack_splits` as it stands when the `earlier` splits of images [C, H, W] are attacked."""
    generator = torch.Generator().manual_seed(seed)
    for which in earlier.values():
        for i in range(0, len(which.usable), BATCH):
            skip_starts((len(which.usable[i : i + BATCH]), *shape), settings, generator)
    return generator


def unit_pixels(dataset: Dataset, indices: np.ndarray, device: torch.device) -> torch.Tensor:
    """Clean pixels of some images in [0, 1], float32 [N, C, H, W]."""
    return dataset.preprocessing.unit(torch.from_numpy(np.array(dataset.images[indices])).to(device))
