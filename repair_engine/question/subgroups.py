"""What must be said of the subgroups of a set before anyone trusts a mean over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from repair_engine.data import SPLITS, Dataset, Splits
from repair_engine.data.columns import absent_combinations, columns_of, combinations
from repair_engine.question.objectives import Metric
from repair_engine.support.statistics import REFUSE_BELOW, WARN_BELOW
from repair_engine.support.words import first_few

_SHOWN = 6


def subgroups_of(metric: Metric, dataset: Dataset) -> tuple[str, ...] | None:
    """Each image's subgroup, [N]; None for metrics without subgroups.

    Raises:
        BadInput: a column is not there, is named twice, or has one value only.
    """
    if metric.kind != "subgroup-recall":
        return None
    return combinations([dataset.column(name, 2) for name in columns_of(metric.argument, dataset.attributes)])


def absence_warnings(metric: Metric, dataset: Dataset, splits: Splits) -> list[str]:
    """Images without a value, combinations without images, subgroups without a class, cells that a split lacks."""
    subgroups = subgroups_of(metric, dataset)
    if subgroups is None:
        return []
    said = []
    columns = columns_of(metric.argument, dataset.attributes)
    for name in columns:
        blank = sum(not value for value in dataset.attributes[name])
        if blank:
            said.append(
                f"{blank} of {len(dataset)} images have no value of {name}; being empty counts as a value of its own. "
                "Fill the column, or leave these images out."
            )
    absent, named = absent_combinations([dataset.attributes[name] for name in columns])
    if absent:
        many = f"{absent} combinations" if absent > 1 else "One combination"
        verb = ("have", "are no subgroups") if absent > 1 else ("has", "is no subgroup")
        said.append(
            f"{many} of the values of {' and '.join(columns)} {verb[0]} no image and {verb[1]}: "
            f"{first_few(named, _SHOWN, absent)}."
        )
    names, codes = np.unique(np.asarray(subgroups), return_inverse=True)
    shown = sorted(set(dataset.labels.tolist()))
    counts = _counts(codes, dataset.labels, len(names), len(dataset.class_names))
    gaps = [
        f"{name} has no image of {first_few([dataset.class_names[c] for c in lacking], _SHOWN)}"
        for g, name in enumerate(names)
        if (lacking := [c for c in shown if not counts[g, c]])
    ]
    if gaps and (np.count_nonzero(counts, axis=1) > 1).any():  # groups of one class each are the paper's design
        said.append(
            f"Subgroups without a class: {first_few(gaps, _SHOWN, joint='; ')}. The recall of such a subgroup is the "
            "mean over the classes that it has, so it is not about the same classes as the others'."
        )
    for part in SPLITS:
        rows = getattr(splits, part)
        here = _counts(codes[rows], dataset.labels[rows], len(names), len(dataset.class_names))
        lost = [
            f"{names[g]}" if not here[g].any() else f"{dataset.class_names[c]} of {names[g]}"
            for g, c in _firsts(np.argwhere((counts > 0) & (here == 0)), here)
        ]
        if lost:
            said.append(
                f"The {part} split has no image of {first_few(lost, _SHOWN)}: there the metric is the mean over the "
                "others. More images, or fewer columns, would mend it."
            )
    return said


def size_warnings(subgroups: Sequence[str], labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Subgroups and cells (class within subgroup) of the report split that are too small to trust or to gate.

    Args:
        subgroups, labels: of its images, [N].
    """
    names, codes = np.unique(np.asarray(subgroups), return_inverse=True)
    counts = _counts(codes, labels, len(names), len(class_names))
    said = []
    few = [f"{name} ({n})" for name, n in zip(names, counts.sum(axis=1)) if n < WARN_BELOW]
    if few:
        said.append(
            f"Subgroups with fewer than {WARN_BELOW} report images, so wide intervals: {first_few(few, _SHOWN)} "
            f"(below {REFUSE_BELOW} they do not gate)."
        )
    cells = [(int(n), f"{class_names[c]} of {names[g]} ({n})") for (g, c), n in np.ndenumerate(counts) if n]
    small = sorted(cell for cell in cells if cell[0] < REFUSE_BELOW)
    if small:
        said.append(
            f"{len(small)} of {len(cells)} cells (a class within a subgroup) have fewer than {REFUSE_BELOW} report "
            f"images: {first_few([text for _, text in small], _SHOWN)}. Each weighs as much in its subgroup's mean "
            "as a large one."
        )
    return said


def _firsts(cells: np.ndarray, here: np.ndarray) -> Iterable[tuple[int, int]]:
    """Cells [m, 2], of a subgroup that is wholly absent only the first."""
    seen = set()
    for g, c in cells.tolist():
        if here[g].any() or g not in seen:
            yield g, c
        seen.add(g)


def _counts(codes: np.ndarray, labels: np.ndarray, subgroups: int, classes: int) -> np.ndarray:
    """Images per subgroup and class, int64 [subgroups, classes]."""
    return np.bincount(codes * classes + labels, minlength=subgroups * classes).reshape(subgroups, classes)
