"""Subgroups as the metric sees them: the mean recall over each one's classes, the worst one, the gap between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.studies.odds import OddsRecord, RateRow
from repair_engine.support.extremes import change_of_the_largest, change_of_the_range
from repair_engine.support.statistics import (
    REFUSE_BELOW,
    IntervalRecord,
    cell_flag,
    paired_draws,
    percentiles,
    resampling_cells,
)

_RESAMPLES = 4_000


class SubgroupRow(TypedDict):
    name: str
    n: int
    classes: int
    before: float
    after: float
    change: IntervalRecord
    size: str


class WorstOf(TypedDict):
    name: str
    recall: float


class Worst(TypedDict):
    before: WorstOf
    after: WorstOf
    change: IntervalRecord


class Gap(TypedDict):
    before: float
    after: float
    change: IntervalRecord


class FairnessRecord(TypedDict):
    """See `describe`; `left_out` and `worse` name subgroups. Where the goal is equalized odds, `odds.describe`, too."""

    rows: list[SubgroupRow]
    left_out: list[str]
    worse: list[str]
    worst: Worst | None
    gap: Gap | None
    equalized_odds: NotRequired[OddsRecord | None]
    rates: NotRequired[list[RateRow]]


def describe(
    names: Sequence[str],
    codes: np.ndarray,
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    seed: int,
    level: float = 0.95,
) -> FairnessRecord:
    """Per subgroup the mean over its classes of recall, before and after; the worst subgroup and the gap.

    The worst and the gap are taken over subgroups of at least 30 images. They are no sums over images, and the least
    of several noisy shares lies below the least true one on average: that is said beside them, and the intervals of
    their changes hold all the same (`support.extremes`). Intervals are of the paired changes, by a bootstrap within the
    cells (class × subgroup), of which a subgroup's small ones are pooled. Of a subgroup of one image nothing is known
    of the spread: it may be any.

    Args:
        names: name of each subgroup code.
        codes, labels: of each report image, int64 [N].
        before, after: whether each image is classified rightly, bool [N].
        seed: of the resampling.
    """
    cells, cell_of = np.unique(np.stack([codes, labels]), axis=1, return_inverse=True)
    cell_of = cell_of.ravel()
    present = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    n_in, kinds = np.bincount(cell_of), np.bincount(cells[0], minlength=len(names))
    share = 1.0 / (n_in[cell_of] * kinds[codes])  # how a subgroup's figure is made of its images' outcomes
    of = np.where(codes == present[:, None], share, 0.0)  # [G, N]
    sizes = np.bincount(codes, minlength=len(names))[present]
    right = np.stack([np.asarray(before, float), np.asarray(after, float)])
    parts = (right[:, None] * of).reshape(2 * len(present), -1)
    seen = parts.sum(axis=1).reshape(2, -1)  # [2, G]
    drawn = paired_draws(parts, resampling_cells(cell_of, codes), [seed, 0xCE11], _RESAMPLES)
    drawn = drawn.reshape(2, len(present), -1).swapaxes(1, 2)  # [2, R, G]
    rows: list[SubgroupRow] = [
        {
            "name": names[int(g)],
            "n": int(sizes[i]),
            "classes": int(kinds[g]),
            "before": float(seen[0, i]),
            "after": float(seen[1, i]),
            "change": _interval(seen[1, i] - seen[0, i], drawn[1, :, i] - drawn[0, :, i], level, sizes[i] > 1),
            "size": cell_flag(int(sizes[i])),
        }
        for i, g in enumerate(present)
    ]
    judged = np.flatnonzero(sizes >= REFUSE_BELOW)
    document: FairnessRecord = {
        "rows": rows,
        "left_out": [rows[i]["name"] for i in range(len(rows)) if i not in judged],
        "worse": [row["name"] for row, was, now in zip(rows, seen[0], seen[1]) if now < was],
        "worst": None,
        "gap": None,
    }
    if len(judged) < 2:
        return document
    low, high = seen[:, judged].min(axis=1), seen[:, judged].max(axis=1)
    figures, draws = seen[:, judged], drawn[:, :, judged]
    down = change_of_the_largest(-figures, -draws, level)
    worst = [rows[judged[int(seen[when, judged].argmin())]]["name"] for when in (0, 1)]
    document["worst"] = {
        "before": {"name": worst[0], "recall": float(low[0])},
        "after": {"name": worst[1], "recall": float(low[1])},
        "change": _between(low[1] - low[0], (-down[1], -down[0]), level),
    }
    gap = high - low
    document["gap"] = {
        "before": float(gap[0]),
        "after": float(gap[1]),
        "change": _between(gap[1] - gap[0], change_of_the_range(figures, draws, level), level),
    }
    return document


def _interval(value: float, drawn: np.ndarray, level: float, known: bool = True) -> IntervalRecord:
    return _between(value, percentiles(drawn, level) if known else (-1.0, 1.0), level)


def _between(value: float, ends: tuple[float, float], level: float) -> IntervalRecord:
    return {"value": float(value), "lower": ends[0], "upper": ends[1], "level": level}
