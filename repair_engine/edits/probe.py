"""A linear probe: a classifier of the labels learned anew on a network's features, to see what is still in them.

The features are what the last layer reads. The probe is multinomial logistic regression (Alain & Bengio 2016,
arXiv 1610.01644) of all classes on the score images, held to zero by a ridge that is picked on the select images; it
knows nothing of the last layer that the network has. Each class weighs the same, so that a rare one is not passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from repair_engine.data.pixels import Pixels, Rows
from repair_engine.edits.head import RIDGES, Reading, solved
from repair_engine.edits.model import Tensors
from repair_engine.question.objectives.metric import subgroup_weights

MOST = 5_000  # score images that a probe learns from: more change little and cost much
GRID = 16  # of the pixels that stand beside the features, a side
_STREAM = 0x9B0E


class Opened(Protocol):
    """What a network's features are read from: `edits.model.Model`."""

    module: torch.nn.Module

    def load(self, tensors: Tensors) -> None:
        """Puts tensors into the module."""

    def own(self, key: str) -> Tensor:
        """The tensor that the module computes with."""

    def batches(self, pixels: Pixels) -> Iterable[Tensor]:
        """Normalized images."""


@dataclass(frozen=True)
class Probed:
    """What a probe says of the report images.

    Attributes:
        predicted: classes, int64 [N].
        ridge: its strength, picked on the select images.
    """

    predicted: np.ndarray
    ridge: float


@dataclass(frozen=True)
class Probing:
    """The images that probes learn from, are picked on and are judged by.

    Attributes:
        pixels: of all images, [N, C, H, W].
        labels: of all images, int64 [N].
        score, select, report: dataset indices, int64.
        classes: how many there are.
    """

    pixels: Tensor
    labels: np.ndarray
    score: np.ndarray
    select: np.ndarray
    report: np.ndarray
    classes: int

    @classmethod
    def of(cls, pixels: Tensor, labels: np.ndarray, parts: dict[str, np.ndarray], classes: int, seed: int) -> Probing:
        """At most `MOST` of the score images, by the seed.

        Args:
            parts: "score", "select" and "report" -> dataset indices, int64, sorted.
        """
        score = parts["score"]
        if len(score) > MOST:
            score = np.sort(np.random.default_rng([seed, _STREAM]).choice(score, MOST, replace=False))
        return cls(pixels, labels, score, parts["select"], parts["report"], classes)

    def features(self, model: Opened, tensors: Tensors, weight: str) -> list[Tensor] | None:
        """What the layer with this weight reads of each part's images, float64 [n, features].

        Positions and tokens are averaged. None where no linear layer and no convolution is called with it.
        """
        model.load(tensors)
        found = []
        for rows in (self.score, self.select, self.report):
            parts = []
            with torch.inference_mode():
                for images in model.batches(Rows(self.pixels, rows)):
                    with Reading(model.own(weight)) as reading:
                        model.module(images)
                    if reading.read is None or len(reading.read) != len(images):
                        return None
                    parts.append(_pooled(reading.read).double().cpu())
            found.append(torch.cat(parts).clone())
        return found

    def plain(self, model: Opened) -> list[Tensor]:
        """The pixels themselves, normalized, averaged to at most `GRID` × `GRID`: what needs no network."""
        found = []
        for rows in (self.score, self.select, self.report):
            parts = []
            for images in model.batches(Rows(self.pixels, rows)):
                size = (min(GRID, images.shape[2]), min(GRID, images.shape[3]))
                parts.append(torch.nn.functional.adaptive_avg_pool2d(images, size).flatten(1).double().cpu())
            found.append(torch.cat(parts))
        return found

    def probe(self, features: list[Tensor]) -> Probed:
        """Learns the probe on the score images, picks its ridge on the select images, and asks it of the report's.

        Args:
            features: of each part, [n, features].
        """
        weights = self._weights(self.score)
        shares = torch.from_numpy(weights)[:, None]
        mean = (features[0] * shares).sum(0)
        scale = ((features[0] - mean).square() * shares).sum(0).sqrt()
        seen = [torch.where(scale > 0, (part - mean) / scale.clamp_min(1e-300), 0.0) for part in features]
        start = torch.zeros(self.classes, seen[0].shape[1], dtype=torch.float64)
        bias = torch.zeros(self.classes, dtype=torch.float64)
        judged, labels = self._weights(self.select), self.labels[self.select]
        best, best_value = None, -1.0
        for ridge, (weight, shift) in zip(
            RIDGES, solved(start, bias, seen[0], self.labels[self.score], weights), strict=True
        ):
            said = (seen[1] @ weight.T + shift).argmax(1).numpy()
            value = float(((said == labels) * judged).sum())
            if value > best_value:
                best, best_value = Probed((seen[2] @ weight.T + shift).argmax(1).numpy(), ridge), value
        assert best is not None
        return best

    def _weights(self, rows: np.ndarray) -> np.ndarray:
        return subgroup_weights(self.labels[rows], ["all"] * len(rows))


def _pooled(read: Tensor) -> Tensor:
    """Of maps [N, F, H, W] or tokens [N, T, F] the mean; [N, F] as they are."""
    if read.dim() == 4:
        return read.mean((2, 3))
    return read.flatten(1, -2).mean(1) if read.dim() > 2 else read
