"""Masks of coalitions on the device, applied to a site's output in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


class Masks:
    """Coalitions over one network's filters: one for each group of samples, or one for each image.

    An output y becomes fill + y·keep with keep 1 and fill 0 for a present filter, 0 and its constant for an absent
    one: exact for finite y, and several times faster on a CPU than a selection by a mask of bools.

    Args:
        coalitions: bool [R, n], true = present.
        per_image: row b is for image b of every copy of the images, else row k for all images of copy k.
        constants: float32 [n] on the device.
        offsets: first filter of each site, [sites + 1].
    """

    def __init__(
        self,
        coalitions: np.ndarray,
        constants: torch.Tensor,
        offsets: Sequence[int] | np.ndarray,
        per_image: bool = False,
    ) -> None:
        coalitions = np.atleast_2d(coalitions)
        present = torch.from_numpy(np.array(coalitions)).to(constants.device)
        self._keep = present.to(constants.dtype)
        self._fill = torch.where(present, torch.zeros_like(constants), constants)
        self._offsets, self._per_image = offsets, per_image
        # Known on the host, so that a device is not waited for to learn that a site has nothing to mask.
        self._removes = np.add.reduceat(~coalitions.all(axis=0), np.asarray(offsets[:-1]), dtype=np.int64) > 0

    def __len__(self) -> int:
        return len(self._keep)

    def apply(self, output: torch.Tensor, site: int) -> torch.Tensor:
        """`output` [K·B, C, H, W] of a site, copy-major, with the absent filters at their constants."""
        if site < 0 or not self._removes[site]:
            return output
        start, stop = int(self._offsets[site]), int(self._offsets[site + 1])
        keep, fill = self._keep[:, start:stop], self._fill[:, start:stop]
        masked = torch.empty_like(output)
        if len(self) == 1:
            shape: tuple[int, ...] = (1, -1, 1, 1)
            torch.addcmul(fill.view(shape), output, keep.view(shape), out=masked)
        else:
            shape = (1, len(self), -1, 1, 1) if self._per_image else (len(self), 1, -1, 1, 1)
            parts = (-1, len(self)) if self._per_image else (len(self), -1)
            torch.addcmul(
                fill.reshape(shape), output.unflatten(0, parts), keep.reshape(shape), out=masked.unflatten(0, parts)
            )
        return masked
