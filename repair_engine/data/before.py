"""Which images may be looked at before a run: none of those on which a repair of the same seed would be reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repair_engine.data.splits import split

MOST_VALUES = 12  # of a column whose values are subgroups
MOST_COLUMNS = 4


def small_columns(attributes: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns that have few values, the first ones of these: what figures are shown by."""
    return [name for name, values in attributes.items() if 1 < len(set(values)) <= MOST_VALUES][:MOST_COLUMNS]


def outside_reports(
    labels: np.ndarray, attributes: Mapping[str, Sequence[str]], hashes: Sequence[str], seed: int = 0
) -> np.ndarray:
    """Images that are in no report split, whether a class, all images or one of the small columns is asked about.

    Splits are stratified by what is asked, so each question has other report images; these are in none of them.

    Args:
        labels: class index, int64 [N].
        attributes: column -> value of each image, [N].
        hashes: equal ones stay in one part, [N].

    Returns:
        Indices, int64, in an order of which every beginning is stratified by class and columns.

    Raises:
        BadInput: see `split`.
    """
    columns = small_columns(attributes)
    free = np.ones(len(labels), dtype=bool)
    for subgroups in (None, *(attributes[name] for name in columns)):
        free[split(labels, subgroups, None, hashes, seed).report] = False
    indices = np.flatnonzero(free)
    keys = [labels, *(np.unique(np.asarray(attributes[name]), return_inverse=True)[1] for name in columns)]
    cells = np.unique(np.stack([key[indices] for key in keys]), axis=1, return_inverse=True)[1].ravel()
    return indices[_evenly(cells, seed)]


def looked_at(
    labels: np.ndarray, attributes: Mapping[str, Sequence[str]], hashes: Sequence[str], report: np.ndarray
) -> list[str]:
    """A warning where some of the report images, int64 [R], are among those that may have been looked at; see there."""
    seen = int(np.isin(report, outside_reports(labels, attributes, hashes)).sum())
    if not seen:
        return []
    return [
        f"Of the {len(report):,} report images {seen:,} may have been looked at before the run, when it was shown what "
        "the model recognises. What was chosen to be repaired in that light may look better here than it is; with "
        "seed 0, no column to keep together and subgroups of one column no report image is looked at."
    ]


def _evenly(cells: np.ndarray, seed: int) -> np.ndarray:
    """An order of images, int64 [N], in which those of each cell [N] are spread out evenly."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xBEF0]))
    place = np.empty(len(cells))
    for cell in np.unique(cells):
        inside = np.flatnonzero(cells == cell)
        place[inside] = (rng.permutation(len(inside)) + rng.random()) / len(inside)
    return np.argsort(place, kind="stable")
