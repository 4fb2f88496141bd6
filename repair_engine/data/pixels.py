"""Some of many images, taken from where they lie (mapped from disk) when they are asked for."""

from __future__ import annotations

import numpy as np
import torch


class Rows:
    """Images `rows` [N] of pixels [M, C, H, W], indexed as a tensor is; nothing is copied before.

    Each access gives a tensor of its own.
    """

    def __init__(self, pixels: torch.Tensor, rows: np.ndarray) -> None:
        self._pixels, self._rows = pixels, torch.from_numpy(np.asarray(rows, np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: torch.Tensor | slice) -> torch.Tensor:
        return self._pixels[self._rows[at]]

    def take(self, at: np.ndarray) -> Rows:
        """Some of these, int64 [m], again uncopied."""
        return Rows(self._pixels, self._rows[torch.from_numpy(at)].numpy())

    def clone(self) -> torch.Tensor:
        """All of them in memory."""
        return self[:]


Pixels = torch.Tensor | Rows


def taken(pixels: Pixels, at: np.ndarray) -> Pixels:
    """Images `at` int64 [m] of either kind."""
    return pixels.take(at) if isinstance(pixels, Rows) else pixels[torch.from_numpy(at)]
