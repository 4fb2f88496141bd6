"""A choice of filters as rows: the figures of *select* for every prefix that a run tried, or for one set of filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.choosing.outcomes import Choice, Figures, figures
from repair_engine.documents.reasons import broken_limits
from repair_engine.settings import Limits

Row = dict[str, Any]


def choice_document(path: Path) -> Row:
    """All that a run's choice.npz says, JSON-able: images, limits, classes, subgroups, orders with their steps.

    Raises:
        BadInput: it is no such file, or damaged.
    """
    choice = Choice.read(path)
    judges = choice.judges
    return {
        "images": {
            "select": len(judges.labels),
            "metric": len(judges.targets),
            "guard": None if judges.guard is None else len(judges.guard),
        },
        "limits": asdict(choice.limits),
        "classes": _named(judges.classes, judges.labels),
        "subgroups": _named(judges.subgroups, judges.groups),
        "orders": [
            {
                "order": walk.order,
                "units": list(units),
                "steps": steps(figures(judges, walk), choice.limits, judges.retained is not None),
            }
            for walk, units in zip(choice.walks, choice.units, strict=True)
        ],
    }


def _named(names: Sequence[str], codes: np.ndarray) -> list[Row]:
    return [{"name": name, "n": int((codes == i).sum())} for i, name in enumerate(names)]


def steps(found: Figures, limits: Limits, forgets: bool = False) -> list[Row]:
    """A walk's prefixes as rows, k = 0, 1, …: shares, numbers of images that are right, and the limits that are broken.

    `classes` and `subgroups` are numbers of right images, in the order of their names.

    Args:
        forgets: clean accuracy is that of the retain set.
    """
    clean = "accuracy on the retain set" if forgets else "clean accuracy"
    rows: list[Row] = []
    for k in range(len(found.metric)):
        row: Row = {
            "k": k,
            "objective": float(found.metric[k]),
            "clean": float(found.clean[k]),
            "guard": None if found.guard is None else float(found.guard[k]),
            "subgroup_drop": None if found.drop is None else float(found.drop[k]),
            "true_label": None if found.true_label is None else float(found.true_label[k]),
            "success": None if found.success is None else float(found.success[k]),
            "won": int(found.won[k]),
            "lost": int(found.lost[k]),
            "classes": found.classes[k].tolist(),
            "subgroups": found.subgroups[k].tolist(),
        }
        row["broken"] = broken_limits(asdict(limits), rows[0] if rows else row, row, clean)
        row["feasible"] = not row["broken"]
        rows.append(row)
    return rows
