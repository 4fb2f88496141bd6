"""The cheapest rival of a removal: a shift of the logits, which touches no filter."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.choosing import controls
from repair_engine.data.images import Images
from repair_engine.data.pixels import Pixels
from repair_engine.network.subject import Subject
from repair_engine.studies.explain_curves import CurveImages

_ANYTHING = 1e-12


class ShiftRecord(TypedDict):
    """See `logit_shift`."""

    metric: float
    accuracy: float
    how: str
    moved: bool
    max_clean_drop: float


def logit_shift(case: Case, images: CurveImages) -> ShiftRecord:
    """Per-class offsets found on *select* within the limit on clean accuracy, measured on the curves' images.

    See `controls.logit_shift`; the metric is moved towards its goal. `moved` is false where no offsets helped.
    """
    select, objective = case.images.indices("select"), case.question.objective("select")
    kept = np.searchsorted(select, case.question.retained("select"))
    labels = case.images.labels[select][kept]

    def logits(pixels: Pixels) -> torch.Tensor:
        return _logits(case.subject, case.images, pixels)

    clean = logits(case.images.rows("select"))
    searched, where = case.question.searched("select", clean, logits)
    most = case.settings.limits.max_clean_drop
    before = controls.shifted_predictions(clean, np.zeros(1))[kept] == labels

    def acceptable(predicted: np.ndarray, _: np.ndarray) -> bool:
        return bool(before.mean() - (predicted[: len(clean)][kept] == labels).mean() <= most + _ANYTHING)

    sign = 1.0 if objective.goal == "raise" else -1.0
    floor = case.question.chance("select")
    offsets, how = controls.logit_shift(
        searched, acceptable, lambda predicted: sign * max(float(objective.value(predicted[where])), floor)
    )
    asked = controls.shifted_predictions(logits(images.asked.pixels), offsets)
    overall = controls.shifted_predictions(logits(images.clean.pixels), offsets)
    return {
        "metric": float(images.asked.value(asked)),
        "accuracy": float(images.clean.value(overall)),
        "how": how,
        "moved": bool(offsets.any()),
        "max_clean_drop": most,
    }


def _logits(subject: Subject, images: Images, pixels: Pixels) -> torch.Tensor:
    """Logits [N, classes] of the intact network, on the CPU."""
    inputs = images.inputs(pixels, subject.room.plain, subject.device)
    return torch.cat([subject.network.logits(some).cpu() for some in inputs])
