"""A backdoor's trigger: the images of each split that carry it, and what documents say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.data import SPLITS
from repair_engine.data.images import Images
from repair_engine.data.patches import Paste
from repair_engine.data.pixels import stored_pixels, write_pixels
from repair_engine.errors import BadInput
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.objectives import Metric
from repair_engine.question.reconstruction import ReconstructedRecord


class TriggerRecord(TypedDict("TriggerRecord", {"class": str})):
    """In documents: the class that it gives, its file, and of a patch how it is pasted, else which images carry it.

    `reconstructed`: of one that nobody knows, from what; `known`: the file of the trigger that the report is judged by.
    """

    file: str
    sha256: str
    size: list[int] | None
    at: list[int] | None
    opacity: float | None
    images: int | None
    copies: int | None
    reconstructed: NotRequired[ReconstructedRecord]
    known: NotRequired[str]


def trigger_record(metric: Metric, images: Images, paste: Paste | None, file: str) -> TriggerRecord:
    """What documents say of a trigger; `paste`: None where images carry it already."""
    if paste is not None:
        return {
            "class": metric.argument, "file": file, "sha256": paste.patch.sha256, "size": list(paste.patch.size),
            "at": [paste.x, paste.y], "opacity": paste.opacity, "images": None, "copies": None,
        }  # fmt: skip
    triggered = images.triggered
    assert triggered is not None
    return {
        "class": metric.argument, "file": file, "sha256": triggered.dataset.sha256, "size": None, "at": None,
        "opacity": None, "images": len(triggered.dataset), "copies": triggered.copies,
    }  # fmt: skip


def triggered_splits(
    metric: Metric, images: Images, paste: Paste | None, folder: Path, parts: Sequence[str] = SPLITS
) -> dict[str, AttackedSplit]:
    """The images with the trigger whose true class is another one, by split; their pixels are left in `folder`.

    Args:
        paste: what is pasted on the images; None: `images.triggered` carry it already.

    Raises:
        BadInput: there is no such class, or a split has no image of another one.
    """
    target = metric.class_index(images.class_names)
    if paste is None:
        assert images.triggered is not None
        dataset, splits = images.triggered.dataset, images.triggered.splits
    else:
        dataset, splits = images.dataset, images.splits
    folder.mkdir(exist_ok=True)
    inside = {part: getattr(splits, part) for part in parts}
    counted = {part: rows[dataset.labels[rows] != target] for part, rows in inside.items()}
    if lacking := [part for part, rows in counted.items() if not len(rows)]:
        which = "images" if paste is not None else "triggered images"
        raise BadInput(
            f"--metric {metric}: the {' and the '.join(lacking)} split has no {which} outside of the class "
            f"{metric.argument!r}, on which the trigger could do anything.",
            f"Give {which} of other classes, with their true labels: four or more in all.",
        )
    out = {}
    for part, rows in counted.items():
        path = folder / f"attack_{part}.npy"

        def made(some: np.ndarray) -> np.ndarray:
            images = np.asarray(dataset.images[some])
            return images if paste is None else paste.on(images)

        write_pixels(path, rows, dataset.images.shape[1:], dataset.images.dtype, made)
        labels = dataset.labels[rows]
        pixels = stored_pixels(path)
        out[part] = AttackedSplit(rows, pixels, np.full_like(labels, target), labels, len(inside[part]) - len(rows))
    return out


def does_nothing(name: str, predicted: np.ndarray, clean: np.ndarray, target: int) -> str:
    """A sentence where the trigger is not shown to do anything to the intact network; else "".

    Args:
        name: of the class.
        predicted: of the triggered images, int64 [N].
        clean: of the clean images of other classes, int64 [M].
    """
    with_it, without = predicted == target, clean == target
    if not len(without):
        return ""
    rate, floor = float(with_it.mean()), float(without.mean())
    error = np.sqrt(rate * (1 - rate) / len(with_it) + floor * (1 - floor) / len(without))
    if rate - floor > 2 * error:
        return ""
    return (
        f"The trigger does nothing that can be told from chance: the intact model says {name!r} of "
        f"{rate:.1%} of the {len(with_it):,} images with it, and of {floor:.1%} of the {len(without):,} clean images "
        "of other classes. Usual mistakes: the class, the patch's place or opacity, and its size: it is pasted after "
        "resizing and cropping, in pixels of the network's input."
    )
