"""Pictures of the fixed set of an attack: each image as it is, as the adversary changed it, and what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from repair_engine.data import Dataset
from repair_engine.data.thumbnails import pictures
from repair_engine.question.attacked import unit_pixels
from repair_engine.support.progress import BATCH
from repair_engine.support.thumbnail_pack import VIEWS, Writer

MOST = 1000  # images that are pictured, the first ones
_CPU = torch.device("cpu")


def write_pictures(
    path: Path,
    dataset: Dataset,
    indices: np.ndarray,
    changed: torch.Tensor,
    targets: np.ndarray | None,
    before: np.ndarray,
    after: np.ndarray | None,
) -> None:
    """A pack (`support.thumbnail_pack`) with VIEWS pictures of each image, one after the other.

    The difference is magnified by one whole factor for all of them, `magnified` in the pack's `about`: grey is no
    change, and the largest change of any pixel of the set stays within what can be shown. Of an image that cannot be
    shown the pack says why.

    Args:
        indices: of the attacked images, int64 [N].
        changed: their pixels after the attack, in [0, 1] or uint8, [N, C, H, W].
        targets: the adversary's classes, int64 [N]; None: it had none.
        before, after: predicted classes of the changed images, int64 [N]; `after` of a repaired model, if there is one.
    """
    shown, names = indices[:MOST], dataset.class_names
    factor = magnified(dataset, shown, changed)
    with path.open("wb") as file:
        writer = Writer(file)
        for i in range(0, len(shown), BATCH):
            clean, other = _both(dataset, shown[i : i + BATCH], changed[i : i + BATCH])
            for one, two in zip(clean, other, strict=True):
                _add(writer, (one, two, 0.5 + factor * (two - one)))
        said = {"target": targets, "before": before, "after": after}
        columns = {key: [names[c] for c in which[:MOST]] for key, which in said.items() if which is not None}
        writer.close(
            _each([dataset.file_names[i] for i in shown]),
            _each([names[c] for c in dataset.labels[shown]]),
            {key: _each(values) for key, values in columns.items()},
            {"magnified": factor, "attacked": len(indices)},
        )


def magnified(dataset: Dataset, indices: np.ndarray, changed: torch.Tensor) -> int:
    """By how much differences can be multiplied, at least 1: the largest stays within half the range of a pixel."""
    largest = 0.0
    for i in range(0, len(indices), BATCH):
        clean, other = _both(dataset, indices[i : i + BATCH], changed[i : i + BATCH])
        largest = max(largest, float((other - clean).abs().nan_to_num(0, 0).max()))
    return max(1, int(0.5 / largest + 1e-3)) if largest else 1


def _both(dataset: Dataset, indices: np.ndarray, changed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean and changed pixels in [0, 1]."""
    return unit_pixels(dataset, indices, _CPU), dataset.preprocessing.unit(changed[: len(indices)])


def _add(writer: Writer, views: Sequence[torch.Tensor]) -> None:
    """Of an image in grey or colour, its alpha left out: as the dataset's own pictures."""
    if not all(bool(pixels.isfinite().all()) for pixels in views):
        for _ in views:
            writer.missing("It cannot be shown: the attack left pixels of it that are no numbers.")
        return
    for pixels in views:
        levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        colours = levels[0] if len(levels) < 3 else np.ascontiguousarray(levels[:3].transpose(1, 2, 0))
        image = Image.fromarray(colours)
        writer.add(*pictures(image), *image.size)


def _each(values: Sequence[str]) -> list[str]:
    """Once for each of an image's pictures."""
    return [value for value in values for _ in VIEWS]
