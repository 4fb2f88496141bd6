"""The images of a run: the main set with its splits, and the guard set with its parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from repair_engine.data.pixels import Pixels, Rows
from repair_engine.data.reading import Dataset
from repair_engine.data.splits import Holdout, Splits


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, in the order in which they were read."""

    dataset: Dataset

    @property
    def labels(self) -> np.ndarray:
        """Class indices, int64 [N]."""
        return self.dataset.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: [C, H, W]."""
        return tuple(self.dataset.images.shape[1:])

    def __len__(self) -> int:
        return len(self.dataset)


@dataclass(frozen=True)
class Guard(ImageSet):
    """A second set, on which the limit of clean accuracy must hold, too."""

    parts: Holdout


@dataclass(frozen=True)
class Triggered(ImageSet):
    """Images that carry a backdoor's trigger.

    Attributes:
        copies: how many of them are known to be copies of images of the main set.
    """

    splits: Splits
    copies: int


@dataclass(frozen=True)
class Images(ImageSet):
    """See the module's text. Parts are "score", "select" and "report", and "all" for every image."""

    splits: Splits
    guard: Guard | None = None
    triggered: Triggered | None = None

    @cached_property
    def pixels(self) -> torch.Tensor:
        """uint8, or floating point of a set in memory, [N, C, H, W]; may be mapped from a file."""
        with warnings.catch_warnings():  # torch warns of read-only arrays; nothing here writes to them
            warnings.simplefilter("ignore")
            return torch.from_numpy(np.asarray(self.dataset.images))

    def indices(self, part: str) -> np.ndarray:
        """Of a part's images, int64."""
        return np.arange(len(self)) if part == "all" else getattr(self.splits, part)

    def rows(self, part: str) -> Rows:
        """A part's pixels."""
        return Rows(self.pixels, self.indices(part))

    def inputs(self, pixels: Pixels, at_once: int, device: torch.device) -> Iterator[torch.Tensor]:
        """The network's input of some pixels, in order, so many images at once."""
        for i in range(0, len(pixels), at_once):
            yield self.normalize(pixels[i : i + at_once].to(device))

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 or float pixels in [0, 1] -> network input."""
        return self.dataset.preprocessing.normalize(pixels)
