"""Corrupted images of a repair, checked by whoever got it: its figures by corrupted.csv, and the images made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.data import SPLITS, Dataset
from repair_engine.data.corruptions import jpeg_library
from repair_engine.data.pixels import write_pixels
from repair_engine.question.corrupted import corrupted_as, dealt
from repair_engine.question.objectives import Metric
from repair_engine.verbs.checks import Wrong

Rows = Sequence[Mapping[str, str]]


def metric_of(rows: Rows, when: str, split: str) -> float:
    """Accuracy on the corrupted images of a split, by the rows of corrupted.csv."""
    return float(np.mean([row[f"predicted_{when}"] == row["label"] for row in rows if row["split"] == split]))


def make_again(
    document: Mapping[str, Any],
    rows: Rows,
    parts: Sequence[str],
    dataset: Dataset,
    logits: Mapping[str, Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]],
    folder: Path,
    close: Callable[[np.ndarray], np.ndarray],
) -> str:
    """Each split's corrupted images, from the recipe in the report and the images; and what is predicted of them.

    Args:
        rows: of corrupted.csv.
        parts: the split of each of the dataset's images, [N], by predictions.csv.
        logits: "before" and "after" -> what gives a model's logits of image sets.
        folder: for the pixels.
        close: whether logits [N, classes] are a tie within rounding.

    Raises:
        Wrong: other kinds, other bits, or other predictions.
    """
    recipe, metric = document["metric"]["corruption"], Metric.parse(str(document["metric"]["name"]))
    severity, seed, of = int(recipe["severity"]), int(recipe["seed"]), np.array(parts)
    sets: dict[str, np.ndarray] = {}
    told: dict[str, list[Mapping[str, str]]] = {part: [row for row in rows if row["split"] == part] for part in SPLITS}
    for part in SPLITS:
        indices = np.flatnonzero(of == part)
        kinds = dealt(dataset, indices, metric.corruptions, seed)
        named = [(dataset.file_names[i], str(kind)) for i, kind in zip(indices.tolist(), kinds, strict=True)]
        if named != [(row["file_name"], row["kind"]) for row in told[part]]:
            raise Wrong(f"corrupted.csv lists other images or kinds of the {part} split than the recipe gives.")
        place = dict(zip(indices.tolist(), kinds.tolist(), strict=True))

        def made(some: np.ndarray, place: dict[int, str] = place) -> np.ndarray:
            return corrupted_as(dataset, some, np.array([place[row] for row in some.tolist()]), severity, seed)

        path = folder / f"corrupted_{part}.npy"
        found = write_pixels(path, indices, dataset.images.shape[1:], np.dtype(np.uint8), made)
        if found != recipe["sha256"][part]:
            other = f"; JPEG was by {recipe['jpeg']}, here it is by {jpeg_library()}"
            raise Wrong(
                f"The corrupted {part} images made again have the SHA-256 {found}; the report says "
                f"{recipe['sha256'][part]}{other if recipe['jpeg'] != jpeg_library() else ''}."
            )
        sets[part] = np.load(path, mmap_mode="r")
    compared = 0
    for when, predict in logits.items():
        for part, found_logits in predict(sets).items():
            classes = (
                (found_logits[:, 0] > 0).astype(int) if found_logits.shape[1] == 1 else found_logits.argmax(axis=1)
            )
            said = np.array([row[f"predicted_{when}"] for row in told[part]], dtype=object)
            other_class = np.array([dataset.class_names[i] for i in classes], dtype=object) != said
            wrong = other_class & ~close(found_logits)
            if wrong.any():
                raise Wrong(
                    f"{int(wrong.sum()):,} of {len(said):,} predictions {when} of the corrupted {part} images are "
                    "others than corrupted.csv says."
                )
            compared += len(said)
    return f"{len(rows):,} corrupted images come again bit for bit, and {compared:,} predictions of them"
