"""The cheapest rival of a removal: a shift of the logits, which touches no filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.choosing import controls
from repair_engine.data.pixels import Pixels, Rows
from repair_engine.studies.explain_curves import CurveImages

_ANYTHING = 1e-12


def logit_shift(case: Case, images: CurveImages) -> dict[str, Any]:
    """Per-class offsets found on *select* within the limit on clean accuracy, measured on the curves' images.

    See `controls.logit_shift`; the metric is moved towards its goal. `moved` is false where no offsets helped.
    """
    rows = case.splits.select
    labels, objective = case.dataset.labels[rows], case.objective("select")
    clean = _logits(case, Rows(case.pixels, rows))
    if case.request.metric.attacked:
        searched = torch.cat([clean, _logits(case, objective.pixels)])
        where = np.arange(len(clean), len(searched))
    else:
        position = {int(index): i for i, index in enumerate(rows)}
        searched, where = clean, np.array([position[int(i)] for i in case.objective_indices("select")])
    most = case.request.limits.max_clean_drop
    before = controls.shifted_predictions(clean, np.zeros(1)) == labels

    def acceptable(predicted: np.ndarray, _: np.ndarray) -> bool:
        return bool(before.mean() - (predicted[: len(clean)] == labels).mean() <= most + _ANYTHING)

    sign = 1.0 if objective.goal == "raise" else -1.0
    offsets, how = controls.logit_shift(
        searched, acceptable, lambda predicted: sign * float(objective.value(predicted[where]))
    )
    asked = controls.shifted_predictions(_logits(case, images.asked.pixels), offsets)
    overall = controls.shifted_predictions(_logits(case, images.clean.pixels), offsets)
    return {
        "metric": float(images.asked.value(asked)),
        "accuracy": float(images.clean.value(overall)),
        "how": how,
        "moved": bool(offsets.any()),
        "max_clean_drop": most,
    }


def _logits(case: Case, pixels: Pixels) -> torch.Tensor:
    """Logits [N, classes] of the intact network, on the CPU."""
    step = case.room.plain
    parts = (pixels[i : i + step].to(case.network.device) for i in range(0, len(pixels), step))
    return torch.cat([case.network.logits(case.normalize(part)).cpu() for part in parts])
