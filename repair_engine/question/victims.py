"""Models under attack, the images that are attacked, and the attacks run over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from repair_engine.models.preprocessing import Preprocessing, unit
from repair_engine.network import check_finite
from repair_engine.question.attacks import AttackSettings, pgd, predicted_classes, square
from repair_engine.support.progress import BATCH, Progress

Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Victim:
    """A plain module under attack.

    Attributes:
        name: "the intact model" or "the repaired model", for sentences.
        module: in eval mode.
        preprocessing: how pixels in [0, 1] become its input.
    """

    name: str
    module: torch.nn.Module
    preprocessing: Preprocessing
    device: torch.device

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of pixels in [0, 1], differentiable."""
        out: torch.Tensor = self.module(self.preprocessing.standardize(pixels))
        return out

    def predict(self, pixels: torch.Tensor) -> np.ndarray:
        """Classes int64 [N] of pixels [N, C, H, W], uint8 or float in [0, 1]. Raises BadInput, see `check_finite`."""
        out = []
        with torch.inference_mode():
            for i in range(0, len(pixels), BATCH):
                logits = self.logits(self.preprocessing.unit(pixels[i : i + BATCH].to(self.device)))
                check_finite(logits if logits.dim() > 1 else logits[:, None])
                out.append(predicted_classes(logits).cpu())
        return torch.cat(out).numpy()


@dataclass(frozen=True)
class AttackImages:
    """Images to attack, all of them such that there is something to win on the intact model.

    Attributes:
        indices: into the dataset, int64 [N].
        pixels: clean, uint8 or float in [0, 1], [N, C, H, W].
        labels: int64 [N].
        goals: the adversary's targets, or the labels where the attack is untargeted, int64 [N].
        targeted: which of the two.
    """

    indices: np.ndarray
    pixels: torch.Tensor
    labels: np.ndarray
    goals: np.ndarray
    targeted: bool

    def __len__(self) -> int:
        return len(self.indices)

    def success(self, predicted: np.ndarray) -> np.ndarray:
        """Where the adversary has what it wants, bool [..., N]."""
        hit: np.ndarray = predicted == self.goals
        return hit if self.targeted else ~hit

    def subset(self, rows: np.ndarray) -> AttackImages:
        return AttackImages(
            self.indices[rows], self.pixels[torch.from_numpy(rows)], self.labels[rows], self.goals[rows], self.targeted
        )

    def spread(self, most: int) -> np.ndarray:
        """Rows of at most `most` images, evenly spaced: they are sorted by class, so each has its share."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(np.int64))


def white_box(
    logits: Logits,
    images: AttackImages,
    settings: AttackSettings,
    generator: torch.Generator,
    device: torch.device,
    tick: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """PGD over all images in batches of 64; float32 [N, C, H, W] on the CPU."""
    out = []
    for i in range(0, len(images), BATCH):
        clean = unit(images.pixels[i : i + BATCH].to(device))
        goals = torch.from_numpy(images.goals[i : i + BATCH]).to(device)
        out.append(pgd(logits, clean, goals, settings, generator).cpu())
        if tick:
            tick(len(clean))
    return torch.cat(out)


@dataclass(frozen=True)
class BlackBox:
    """Predictions on the best images that queries found, and how many queries each took, int64 [N]."""

    predicted: np.ndarray
    queries: np.ndarray


def black_box(
    victim: Victim,
    images: AttackImages,
    settings: AttackSettings,
    queries: int,
    seed: int,
    tick: Callable[[int], None] | None = None,
) -> BlackBox:
    """Square over all images; the random numbers of an image come from the seed and its dataset index."""
    predicted, used = [], []
    for i in range(0, len(images), BATCH):
        clean = unit(images.pixels[i : i + BATCH].to(victim.device))
        goals = torch.from_numpy(images.goals[i : i + BATCH])
        streams = [(seed, int(index)) for index in images.indices[i : i + BATCH]]
        found = square(victim.logits, clean, goals, settings, queries, streams)
        predicted.append(victim.predict(found.pixels))
        used.append(found.queries)
        if tick:
            tick(len(clean))
    return BlackBox(np.concatenate(predicted), np.concatenate(used))


def counting(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    """A tick that reports the share of `total` done."""
    done = [0]

    def tick(count: int) -> None:
        done[0] += count
        progress(stage, done[0] / max(total, 1))

    return partial(tick)
