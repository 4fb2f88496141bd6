"""Gradient descent on a few tensors of a model, held to where it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from repair_engine.choosing.lesson import Lesson
from repair_engine.edits.model import Model, Tensors

BACKWARD = 3  # evaluations that a forward with its backward counts: a backward costs about two forwards
_BETAS = (0.9, 0.99)
_LEAST_SCALE = 0.05  # of a tensor: one that begins at zero is moved, too


@dataclass(frozen=True)
class Pace:
    """How far and how fast.

    Attributes:
        steps: of Adam, each on `batch` images.
        rate: length of a step relative to the tensor's own scale (its root mean square), falling to 0 by a cosine.
        anchor: weight of the squared distance from the start, relative to that scale (L2 to the start).
        looks: how often the way is stopped to look.
    """

    steps: int
    batch: int
    rate: float
    anchor: float
    looks: int


def descend(
    model: Model, start: dict[str, Tensor], parts: Mapping[str, Tensor | None], lesson: Lesson, pace: Pace, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Tunes some tensors from `start`; gives them, float32 on the CPU, at each look.

    The loss is the cross-entropy of images drawn in proportion to their weights, and the anchor.

    Args:
        parts: key -> which of its numbers may change, a mask that broadcasts to the tensor; None = all.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xED17]))
    model.load(start)
    leaves = {key: model.leaf(key) for key in parts}
    begun = {key: leaf.detach().clone() for key, leaf in leaves.items()}
    scales = {key: max(float(tensor.square().mean().sqrt()), _LEAST_SCALE) for key, tensor in begun.items()}
    masks = {key: 1.0 if mask is None else mask.to(leaves[key]) for key, mask in parts.items()}
    moments = {key: (torch.zeros_like(leaf), torch.zeros_like(leaf)) for key, leaf in leaves.items()}
    weights, labels = lesson.weights, torch.from_numpy(lesson.labels)
    stops = set(np.unique(np.linspace(0, pace.steps, pace.looks + 1).round().astype(int))[1:].tolist())
    try:
        for step in range(1, pace.steps + 1):
            rows = np.sort(rng.choice(len(weights), pace.batch, p=weights))
            images = lesson.inputs(rows, model.device)
            with torch.enable_grad():
                loss = cross_entropy(model.forward(images), labels[rows].to(model.device))
                gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            rate = pace.rate * 0.5 * (1 + np.cos(np.pi * (step - 1) / pace.steps))
            with torch.no_grad():
                for (key, leaf), gradient in zip(leaves.items(), gradients, strict=True):
                    if gradient is None:
                        continue
                    scale = scales[key]
                    gradient = (gradient * scale + pace.anchor * (leaf - begun[key]) / scale) * masks[key]
                    first, second = moments[key]
                    first.lerp_(gradient, 1 - _BETAS[0])
                    second.lerp_(gradient.square(), 1 - _BETAS[1])
                    mean, square = first / (1 - _BETAS[0] ** step), second / (1 - _BETAS[1] ** step)
                    leaf -= rate * scale * mean / (square.sqrt() + 1e-8)
            if step in stops:
                reached = {key: leaf.detach().clone() for key, leaf in leaves.items()}
                yield {key: tensor.cpu() for key, tensor in reached.items()}
                model.load(start | reached)  # others may have been tried meanwhile
    finally:
        model.release()


def stored(
    start: Tensors, tuned: Mapping[str, Tensor], share: float, parts: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """`start` moved by a share of the way to `tuned`, in the dtypes of the file; what no mask lets change stays as is.

    Part of the way is often the better model (Wortsman et al., arXiv 2109.01903).
    """
    made = dict(start)
    for key, target in tuned.items():
        begun = start[key]
        moved = (begun.float() + share * (target - begun.float())).to(begun.dtype)
        mask = parts[key]
        made[key] = moved if mask is None else torch.where(mask.to(torch.bool), moved, begun)
    return made
