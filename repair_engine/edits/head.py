"""The last layer refitted: a convex problem on the features that it reads, computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

from repair_engine.choosing.lesson import Lesson
from repair_engine.edits.model import Model, Tensors
from repair_engine.network import predictions
from repair_engine.network.tunable import Head

_LAYERS = (torch.nn.functional.linear, torch.nn.functional.conv2d)
RIDGES = (10.0, 1.0, 0.1, 0.01, 0.001)  # from the gentlest edit to the boldest
_STEPS = 100


class Reading(TorchFunctionMode):
    """Keeps what the linear layer (or the convolution) with this weight reads, and what it puts out."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._weight = weight.untyped_storage().data_ptr()
        self.read: Tensor | None = None
        self.put_out: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _LAYERS and args[1].untyped_storage().data_ptr() == self._weight:
            self.read, self.put_out = args[0], found
        return found


def features(model: Model, tensors: Tensors, head: Head, batches: Iterable[Tensor]) -> Tensor | None:
    """What the last layer reads of each image, float32 [N, features] on the CPU.

    None where the layer is not called as a plain linear one whose outputs are the logits.

    Args:
        batches: of normalized images.
    """
    model.load(tensors)
    weight = model.own(head.weight)
    parts = []
    with torch.inference_mode():
        for images in batches:
            with Reading(weight) as reading:
                logits = model.module(images)
            read, made = reading.read, reading.put_out
            if read is None or made is None or read.dim() != 2 or made.numel() != logits.numel():
                return None
            if read.shape[1] != weight.shape[-1] or not torch.equal(made.reshape(logits.shape), logits):
                return None
            parts.append(read.cpu())
    return torch.cat(parts).clone()


def predicted(tensors: Tensors, head: Head, read: Tensor) -> np.ndarray:
    """Predicted classes int64 [N] of images whose features are known."""
    bias = tensors[head.bias].float() if head.bias else None
    return predictions(torch.nn.functional.linear(read, tensors[head.weight].float(), bias)).numpy()


def refits(tensors: Tensors, head: Head, read: Tensor, lesson: Lesson) -> Iterator[dict[str, Tensor]]:
    """The last layer's tensors, float32, for each ridge strength, by L-BFGS from where it is.

    The ridge holds to the original weights, each by the mean square of its feature: what is dear is a change of the
    logits, and the scale of features does not matter.
    """
    weight = tensors[head.weight].float()
    bias = tensors[head.bias].float() if head.bias else torch.zeros(len(weight))
    for found in solved(weight, bias, read, lesson.labels, lesson.weights, bool(head.bias)):
        yield {head.weight: found[0]} | ({head.bias: found[1]} if head.bias else {})


def solved(
    weight: Tensor, bias: Tensor, read: Tensor, labels: np.ndarray, weights: np.ndarray, moves_bias: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of a linear layer for each of `RIDGES`, from those that are given, which the ridge holds to.

    Args:
        weight, bias: [classes, features] and [classes].
        read: features of the images, [N, features], in the dtype of both.
        labels, weights: of the images, int64 and float64 [N].
        moves_bias: else it stays as it is.
    """
    said, shares = torch.from_numpy(labels), torch.from_numpy(weights).to(read.dtype)
    price = read.square().mul(shares[:, None]).sum(0)
    at = [torch.zeros_like(weight, requires_grad=True), torch.zeros_like(bias, requires_grad=moves_bias)]
    for ridge in RIDGES:
        free = [one for one in at if one.requires_grad]
        solver = torch.optim.LBFGS(free, max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-7)

        def loss(ridge: float = ridge) -> Tensor:
            logits = read @ (weight + at[0]).T + (bias + at[1])
            logits = logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], 1)
            far = (at[0].square() * price).sum() + at[1].square().sum()
            return (cross_entropy(logits, said, reduction="none") * shares).sum() + ridge * far / len(weight)

        def closure() -> Tensor:
            solver.zero_grad()  # noqa: B023  # called before the next one is made
            found = loss()
            found.backward()
            return found

        with torch.enable_grad():
            solver.step(closure)
        yield (weight + at[0]).detach().clone(), (bias + at[1]).detach().clone()
