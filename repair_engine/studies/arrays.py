"""What rankings and histograms are made of, from values alone: no network is needed."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

_BINS = 31


def descending(scores: np.ndarray) -> np.ndarray:
    """Indices of the scores [n] from large to small; NaN counts as 0 (not sampled), ties keep their order."""
    return np.argsort(-np.nan_to_num(scores, nan=0.0), kind="stable")


class HistogramRecord(TypedDict):
    """See `histogram`."""

    edges: list[float]
    counts: list[int]
    filters: int


def histogram(values: np.ndarray) -> HistogramRecord:
    """Counts of values [n] in equal bins of which one is centred on 0; NaN values are left out."""
    known = values[np.isfinite(values)]
    reach = float(np.abs(known).max(initial=0.0)) or 1e-6
    low, high = min(float(known.min(initial=0.0)), 0.0), max(float(known.max(initial=0.0)), 0.0)
    width = max(high - low, reach * 1e-3) / (_BINS - 1)
    first, last = int(np.floor(low / width + 0.5)), int(np.ceil(high / width - 0.5))
    edges = (np.arange(first, last + 2) - 0.5) * width
    counts, _ = np.histogram(known, edges)
    return {"edges": [float(e) for e in edges], "counts": [int(c) for c in counts], "filters": len(known)}
