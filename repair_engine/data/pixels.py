"""Some of many images, taken from where they lie (mapped from disk) when they are asked for; and how they get there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

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


AT_ONCE = 256  # images that are held at a time


def write_pixels(
    path: Path, rows: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, made: Callable[[np.ndarray], np.ndarray]
) -> str:
    """Writes images [N, *shape] to a file for `stored_pixels`, a few at a time: all of them may not fit into memory.

    Args:
        rows: int64 [N].
        made: gives the images of some of the rows, of `dtype`.

    Returns:
        SHA-256 of the pixels' bytes.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(rows), *shape)}
    digest = hashlib.sha256()
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for i in range(0, len(rows), AT_ONCE):
            some = np.ascontiguousarray(made(rows[i : i + AT_ONCE]), dtype).tobytes()
            digest.update(some)
            file.write(some)
    return digest.hexdigest()


def stored_pixels(path: Path) -> torch.Tensor:
    """Pixels of changed images, mapped from a file; copied on write, for torch knows no read-only tensors."""
    return torch.from_numpy(np.load(path, mmap_mode="c"))
