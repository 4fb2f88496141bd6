"""Corrupted images: of each split one set, made once, in which the kinds take turns; and what documents say of it.

The recipe (docs/corruptions.md has it in words): each image has a digest, of the seed and its pixels; the images of a
split are sorted by class and digest, and the kinds are dealt to them in turn. `corrupted_as` makes any one of them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypedDict

import numpy as np

from repair_engine.data import SPLITS, Dataset
from repair_engine.data.corruptions import (
    PARAMETERS,
    check_corruptible,
    corrupted,
    digest_of,
    grey_levels,
    jpeg_library,
    published_set,
)
from repair_engine.data.images import Images
from repair_engine.data.pixels import stored_pixels, write_pixels
from repair_engine.errors import BadInput
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.objectives import Metric


class CorruptionRecord(TypedDict):
    """In documents: what was made, so that it can be made again.

    `parameters`: kind -> the parameter at severities 1 to 5, of the published set `published`; `images`: split -> kind
    -> how many; `sha256`: split -> of the pixels of its corrupted images, uint8 [N, C, H, W], in the split's order.
    """

    severity: int
    seed: int
    published: str
    parameters: dict[str, list[float]]
    images: dict[str, dict[str, int]]
    sha256: dict[str, str]
    jpeg: str


def corrupted_as(dataset: Dataset, rows: np.ndarray, kinds: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """Images `rows` int64 [N] of a set, each in its kind [N], uint8 [N, C, H, W]."""
    levels = grey_levels(np.asarray(dataset.images[rows]))
    made = [
        corrupted(image, str(kind), severity, digest_of(dataset.pixel_hashes[row], seed))
        for image, row, kind in zip(levels, rows.tolist(), kinds, strict=True)
    ]
    return np.stack(made) if made else levels


def dealt(dataset: Dataset, rows: np.ndarray, kinds: tuple[str, ...], seed: int) -> np.ndarray:
    """The kind of each of a split's images, [N]: as many of each as can be, and so within each class.

    Args:
        rows: the split's dataset indices, int64 [N].
    """
    digests = np.array([digest_of(dataset.pixel_hashes[row], seed) for row in rows.tolist()])
    order = np.lexsort((digests, dataset.labels[rows]))
    found = np.empty(len(rows), dtype=f"U{max(map(len, kinds))}")
    found[order] = [kinds[i % len(kinds)] for i in range(len(rows))]
    return found


def corrupted_splits(
    metric: Metric, images: Images, severity: int, seed: int, folder: Path
) -> tuple[dict[str, AttackedSplit], CorruptionRecord]:
    """The corrupted images of each split, their pixels left in `folder`, and the record.

    Raises:
        BadInput: the images have other channels or are too small; a split has fewer images than there are kinds.
    """
    dataset, kinds = images.dataset, metric.corruptions
    check_corruptible(kinds, images.shape)
    published = published_set(images.shape)
    out: dict[str, AttackedSplit] = {}
    record: CorruptionRecord = {
        "severity": severity, "seed": seed, "published": published,
        "parameters": {kind: list(PARAMETERS[published][kind]) for kind in kinds},
        "images": {}, "sha256": {}, "jpeg": jpeg_library(),
    }  # fmt: skip
    for part in SPLITS:
        rows = images.indices(part)
        if len(rows) < len(kinds):
            raise BadInput(
                f"The {part} split has {len(rows)} images for {len(kinds)} kinds of corruption.",
                f"Give more images, or name fewer kinds: {metric.kind}:{kinds[0]}.",
                "metric",
            )
        of = dealt(dataset, rows, kinds, seed)
        place = dict(zip(rows.tolist(), of.tolist(), strict=True))

        def made(some: np.ndarray, place: dict[int, str] = place) -> np.ndarray:
            return corrupted_as(dataset, some, np.array([place[row] for row in some.tolist()]), severity, seed)

        path = folder / f"attack_{part}.npy"
        record["sha256"][part] = write_pixels(path, rows, images.shape, np.dtype(np.uint8), made)
        record["images"][part] = {kind: Counter(of.tolist())[kind] for kind in kinds}
        labels = dataset.labels[rows]
        out[part] = AttackedSplit(rows, stored_pixels(path), labels, labels, 0, of)
    return out, record
