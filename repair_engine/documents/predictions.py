"""predictions.csv: what the model said of every image, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repair_engine.case.case import SPLITS, Case
from repair_engine.data import Dataset
from repair_engine.support import tables

HEADER = ("file_name", "split", "label", "subgroup", "predicted_before", "predicted_after")


def write_predictions(case: Case, before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """One row per image of the main set, in the order of the zip's sorted names."""
    part = np.empty(len(case.dataset), dtype=object)
    for name in SPLITS:
        part[case.indices(name)] = name
    _write(case.dataset, part.tolist(), case.subgroups, before, after, path)


def write_guard_predictions(case: Case, before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """The same for the guard set; images that are also in the main set are marked `excluded`."""
    assert case.guard is not None
    assert case.guard_parts is not None
    part = np.full(len(case.guard), "excluded", dtype=object)
    part[case.guard_parts.select], part[case.guard_parts.report] = "select", "report"
    _write(case.guard, part.tolist(), None, before, after, path)


def _write(
    dataset: Dataset,
    parts: Sequence[str],
    subgroups: Sequence[str] | None,
    before: np.ndarray,
    after: np.ndarray,
    path: Path,
) -> None:
    names = dataset.class_names
    with tables.writing(path, HEADER) as rows:
        for i, file_name in enumerate(dataset.file_names):
            rows.writerow(
                (
                    file_name,
                    parts[i],
                    names[dataset.labels[i]],
                    subgroups[i] if subgroups else "",
                    names[before[i]],
                    names[after[i]],
                )
            )
