"""Equalized odds on images that nothing was chosen on: each subgroup's true and false positive rates, by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from repair_engine.question.goals import FALSE, TRUE, EqualizedOdds, Rate, subgroup_rows
from repair_engine.question.objectives import cell_codes
from repair_engine.support.extremes import (
    PAIRED,
    change_of_the_largest,
    change_of_the_largest_of_many,
    ordered_pairs,
)
from repair_engine.support.statistics import (
    REFUSE_BELOW,
    IntervalRecord,
    image_counts,
    resampling_cells,
)

_RESAMPLES = 4_000
_CELLS_AT_ONCE = 10_000_000  # of a chunk of resamples × images


class LargestDifference(TypedDict):
    """The difference, of which rate of which class it is, and the subgroups in which that is least and largest."""

    difference: float
    rate: str
    of: str
    least: str
    largest: str


class OddsRecord(TypedDict):
    """The equalized odds difference; `left_out` names rates that do not count, with their images."""

    before: LargestDifference
    after: LargestDifference
    change: IntervalRecord
    left_out: list[str]


class RateCell(TypedDict):
    """A rate in one subgroup: of n images; None where it has none; whether n is enough to count."""

    n: int
    before: float | None
    after: float | None
    counts: bool


class RateRow(TypedDict):
    """A class in a subgroup."""

    of: str
    subgroup: str
    true: RateCell
    false: RateCell


def describe(
    groups: Sequence[str],
    class_names: Sequence[str],
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    seed: int,
    level: float = 0.95,
) -> tuple[OddsRecord | None, list[RateRow]]:
    """The equalized odds difference (`question.goals.EqualizedOdds`) before and after, and the rates of every class.

    It is the largest of several noisy differences, so it lies above the largest true one on average: that is said
    beside it, and the interval of its paired change holds all the same (`support.extremes`), by a bootstrap within the
    cells (class × subgroup), of which a subgroup's small ones are pooled, as those of `studies.fairness` are.

    Args:
        groups, labels: of each image, [N].
        before, after: predicted classes, int64 [N].
        seed: of the resampling.

    Returns:
        None where no class has enough images in two subgroups; and a row for each class that is labelled or predicted,
        in each subgroup.
    """
    predicted = np.stack([before, after])
    rows = _rows(groups, class_names, labels, predicted)
    inside = subgroup_rows(groups)
    goal = EqualizedOdds.over(inside, labels, len(class_names))
    if goal is None:
        return None, rows
    named = [str(groups[int(some[0])]) for some in inside]
    largest = [_largest(goal, one[None], named, class_names) for one in predicted]
    change = largest[1]["difference"] - largest[0]["difference"]
    lower, upper = _interval(goal, predicted, cell_codes(labels, groups), groups, seed, level)
    return {
        "before": largest[0],
        "after": largest[1],
        "change": {"value": change, "lower": lower, "upper": upper, "level": level},
        "left_out": [
            f"the {kind} of {row['of']} in {row['subgroup']} (n = {cell['n']})"
            for row in rows
            for kind, cell in ((TRUE, row["true"]), (FALSE, row["false"]))
            if not cell["counts"]
        ],
    }, rows


def _interval(
    goal: EqualizedOdds, predicted: np.ndarray, cells: np.ndarray, groups: Sequence[str], seed: int, level: float
) -> tuple[float, float]:
    """Of the change of the difference, from resamples of the images."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x0DD5]))
    pooled, step = resampling_cells(cells, np.asarray(groups)), max(1, _CELLS_AT_ONCE // len(cells))
    pairs = [ordered_pairs(len(inside)) for _, inside in goal.compared]
    figures = [values[:, 0].T for _, _, values in goal.rates(predicted)]  # of each rate [2, G]
    seen = np.concatenate([of[:, i] - of[:, j] for of, (i, j) in zip(figures, pairs, strict=True)], axis=1)
    few = seen.shape[1] <= PAIRED
    drawn: list[np.ndarray] = []
    sums = [np.zeros((2, *of.shape)) for of in figures]  # of values around the figures, and of their squares
    for first in range(0, _RESAMPLES, step):
        counts = image_counts(pooled, min(step, _RESAMPLES - first), rng)
        part = []
        for (_, _, values), of, (i, j), total in zip(goal.rates(predicted, counts), figures, pairs, sums, strict=True):
            if few:
                part.append((values[i] - values[j]).transpose(2, 1, 0))  # [2, R, pairs]
            else:
                around = values.transpose(2, 1, 0) - of[:, None]
                total += around.sum(axis=1), (around**2).sum(axis=1)
        if few:
            drawn.append(np.concatenate(part, axis=2))
    if few:
        return change_of_the_largest(seen, np.concatenate(drawn, axis=1), level)
    variances = [of[1] / _RESAMPLES - (of[0] / _RESAMPLES) ** 2 for of in sums]  # [2, G]; subgroups are independent
    errors = [np.sqrt(np.maximum(of[:, i] + of[:, j], 0)) for of, (i, j) in zip(variances, pairs, strict=True)]
    return change_of_the_largest_of_many(seen, np.concatenate(errors, axis=1), level)


def _largest(
    goal: EqualizedOdds, predicted: np.ndarray, named: Sequence[str], class_names: Sequence[str]
) -> LargestDifference:
    """Of predictions [1, N]."""
    rate, groups, values = max(goal.rates(predicted), key=lambda one: float(np.ptp(one[2])))
    of_groups = values[:, 0, 0]
    return {
        "difference": float(np.ptp(of_groups)),
        "rate": rate.kind,
        "of": str(class_names[rate.of]),
        "least": named[groups[int(of_groups.argmin())]],
        "largest": named[groups[int(of_groups.argmax())]],
    }


def _rows(
    groups: Sequence[str], class_names: Sequence[str], labels: np.ndarray, predicted: np.ndarray
) -> list[RateRow]:
    of_group = {str(name): np.flatnonzero(np.asarray(groups) == name) for name in np.unique(np.asarray(groups))}
    shown = np.unique(np.concatenate([labels, *predicted]))
    return [
        {
            "of": str(class_names[of]),
            "subgroup": name,
            "true": _cell(Rate(TRUE, int(of)), labels[inside], predicted[:, inside]),
            "false": _cell(Rate(FALSE, int(of)), labels[inside], predicted[:, inside]),
        }
        for of in shown
        for name, inside in of_group.items()
    ]


def _cell(rate: Rate, labels: np.ndarray, predicted: np.ndarray) -> RateCell:
    n = int(rate.images(labels).sum())
    before, after = rate.value(predicted, labels, np.ones((1, len(labels))), np.array([n]))[0].tolist()
    return {
        "n": n,
        "before": before if n else None,
        "after": after if n else None,
        "counts": n >= REFUSE_BELOW,
    }
