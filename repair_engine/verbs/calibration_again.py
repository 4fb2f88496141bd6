"""What a report says of calibration, derived a second time from predictions.csv and from logits that were made anew.

By plain counts; nothing is shared with what wrote the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_TENTHS = 10  # bins of confidence, as docs/report.md says
_WRITTEN = 1e-6  # predictions.csv has six digits of a confidence
Told = tuple[str, float, float, float]  # what, as the report says it, as it comes again, what rounding allows


def confidence_again(
    document: Mapping[str, Any],
    right: Mapping[str, np.ndarray],
    confidence: Mapping[str, np.ndarray],
    groups: np.ndarray,
) -> Iterator[Told]:
    """Every figure of `calibration` that confidence alone decides; none of a report without it.

    Args:
        document: report.json.
        right, confidence: "before" and "after" -> of the report images, bool and float64 [N].
        groups: subgroups of the report images, words [N].
    """
    if (told := document.get("calibration")) is None:
        return
    for when, sure in confidence.items():
        excess = sure - right[when]
        yield f"confidence minus accuracy {when}", told["overconfidence"][when], float(excess.mean()), _WRITTEN
        low_ends = np.ceil(sure * _TENTHS) / _TENTHS
        error = sum(abs(excess[low_ends == end].sum()) for end in np.unique(low_ends)) / len(sure)
        near = np.abs(sure * _TENTHS - np.round(sure * _TENTHS)) <= _TENTHS * _WRITTEN  # may be of the next bin
        allowed = _WRITTEN + 2 * int(near.sum()) / len(sure)
        yield f"expected calibration error {when}", told[when]["ece"], float(error), allowed
        for row in told["subgroups"]:
            mean = float(excess[groups == row["name"]].mean())
            yield f"confidence minus accuracy of {row['name']} {when}", row[when], mean, _WRITTEN


def scores_again(
    document: Mapping[str, Any], when: str, logits: np.ndarray, labels: np.ndarray, rounding: float
) -> Iterator[Told]:
    """The proper scores, from logits float32 [N, classes] and labels int64 [N] of the report images.

    Args:
        rounding: what may lie between the scores of two processors.
    """
    if (told := document.get("calibration")) is None:
        return
    wide = logits.astype(float)
    wide = np.hstack([np.zeros_like(wide), wide]) if wide.shape[1] == 1 else wide
    log_p = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)
    truth = np.eye(wide.shape[1])[labels]
    nll = float(-(log_p * truth).sum(axis=1).mean())
    yield f"negative log-likelihood {when}", told["nll"][when], nll, rounding * max(1.0, nll)
    brier = ((np.exp(log_p) - truth) ** 2).sum(axis=1)
    yield f"Brier score {when}", told["brier"][when], float(brier.mean()), rounding
