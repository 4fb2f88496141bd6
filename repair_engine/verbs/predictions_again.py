"""Predictions that were made anew, against the rows of predictions.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repair_engine.documents.predictions import Predicted
from repair_engine.verbs.checks import Wrong

PREDICTIONS = "predictions.csv"
ROUNDING = 1e-3  # of a confidence: float32 on another processor


def compare(
    rows: Sequence[Mapping[str, str]], when: str, found: Predicted, names: Sequence[str], logits: np.ndarray
) -> str:
    """Which class is predicted of each image, and how sure.

    Args:
        rows: of predictions.csv, [N].
        when: "before" or "after".
        found: of the same images, with their logits float32 [N, classes].
        names: of the classes.

    Raises:
        Wrong: other classes, but for ties within rounding, or another confidence.
    """
    told = np.array([row[f"predicted_{when}"] for row in rows], dtype=object)
    sure = np.array([float(row[f"confidence_{when}"]) for row in rows])
    other = np.array([names[i] for i in found.classes], dtype=object) != told
    far = np.abs(sure - found.confidence)
    close = margin(logits) <= ROUNDING
    if (wrong := other & ~close).any():
        raise Wrong(
            f"{int(wrong.sum()):,} of {len(rows):,} predictions {when} are others than {PREDICTIONS} says, the first "
            f"of {rows[int(np.argmax(wrong))]['file_name']}."
        )
    if not (far <= ROUNDING)[~other].all():
        worst = int(np.argmax(np.where(other, 0, far)))
        raise Wrong(
            f"The confidence {when} of {rows[worst]['file_name']} is {found.confidence[worst]:.6f}; {PREDICTIONS} says "
            f"{sure[worst]:.6f}."
        )
    ties = f", {int(other.sum())} of them a tie within rounding" if other.any() else ""
    return f"{len(rows):,} predictions {when} come again{ties} (largest difference of a confidence {far.max():.1e})"


def margin(logits: np.ndarray) -> np.ndarray:
    """By how much the predicted class leads, of logits [N, classes], [N]."""
    if logits.shape[1] == 1:
        return np.abs(logits[:, 0])
    best = np.sort(logits, axis=1)
    return best[:, -1] - best[:, -2]
