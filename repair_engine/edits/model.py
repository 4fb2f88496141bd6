"""The plain module with other tensors in it: what an edit is tuned on and judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from repair_engine.data.pixels import Pixels
from repair_engine.models.formats import Checkpoint
from repair_engine.network import predictions
from repair_engine.network.network import two_dimensional

Tensors = Mapping[str, Tensor]


class Model:
    """A checkpoint's plain module, in eval mode (norm statistics stay as they are), with tensors that come and go.

    Args:
        at_once: images of a plain forward.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, normalize: Callable[[Tensor], Tensor], at_once: int
    ) -> None:
        self.device, self.normalize, self.at_once = device, normalize, at_once
        self.module = checkpoint.module().to(device)
        self._own = self.module.state_dict(keep_vars=True)

    def load(self, tensors: Tensors) -> None:
        """Puts tensors into the module, as the file stores them, computed with in float32."""
        with torch.no_grad():
            for key, tensor in tensors.items():
                if key in self._own:
                    self._own[key].copy_(tensor)

    def own(self, key: str) -> Tensor:
        """The tensor that the module computes with, float32 on the device."""
        return self._own[key]

    def leaf(self, key: str) -> Tensor:
        """`own`, with a gradient."""
        return self._own[key].requires_grad_(True)

    def release(self) -> None:
        """No tensor asks for a gradient any more."""
        for tensor in self._own.values():
            tensor.requires_grad_(False)
            tensor.grad = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes], two where the network has a single one, of normalized images."""
        logits = two_dimensional(self.module(images))
        return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], 1)

    def batches(self, pixels: Pixels) -> Iterator[Tensor]:
        """Normalized images, as many at once as a forward takes."""
        for i in range(0, len(pixels), self.at_once):
            yield self.normalize(pixels[i : i + self.at_once].to(self.device))

    def predict(self, tensors: Tensors, sets: Mapping[str, Pixels]) -> dict[str, np.ndarray]:
        """Predicted classes int64 [N] of each set of pixels with these tensors."""
        self.load(tensors)
        with torch.inference_mode():
            return {
                name: torch.cat(
                    [predictions(two_dimensional(self.module(x))).cpu() for x in self.batches(pixels)]
                ).numpy()
                for name, pixels in sets.items()
            }


def changed(before: Tensors, after: Tensors) -> dict[str, Tensor]:
    """The tensors of `after` that are not those of `before`, bit for bit."""
    return {key: tensor for key, tensor in after.items()
            if tensor is not before[key] and not torch.equal(tensor, before[key])}  # fmt: skip
