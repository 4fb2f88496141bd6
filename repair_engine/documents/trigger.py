"""The trigger section of a repair's report: clean accuracy, attack success and accuracy under the trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.edits.records import ControlRow
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.support.statistics import IntervalRecord, paired_bootstrap, wilson


class RateRecord(TypedDict):
    """A share of n images with its 95% interval (Wilson)."""

    value: float
    lower: float
    upper: float
    n: int


class TriggerRow(TypedDict):
    """One model on the report images; of a control with several picks the means.

    `clean` is accuracy on clean images, `success` how often the trigger gives its class, `true_label` how often images
    with the trigger are taken for what they are.
    """

    name: str
    clean: RateRecord
    success: RateRecord
    true_label: RateRecord
    guard: NotRequired[RateRecord]


class KnownRecord(TypedDict):
    """The trigger that a reconstructed one stands for, on report images that nothing else saw.

    `rows`: success and accuracy under it of the intact model and, where it was changed, of the repair; `change`: of
    accuracy under it.
    """

    file: str
    rows: list[TriggerRow]
    change: IntervalRecord | None


class TriggerSection(TypedDict):
    """`without`: of clean images of other classes, how often the class is said: success without any trigger."""

    images: dict[str, int]
    left_out: dict[str, int]
    without: dict[str, RateRecord]
    rows: list[TriggerRow]
    known: NotRequired[KnownRecord]


Sets = Mapping[str, np.ndarray]  # "all", "guard", "attack_report" and "attack_known" -> classes int64 [N]


def trigger_section(case: Case, before: Sets, after: Sets | None, controls: Sequence[ControlRow]) -> TriggerSection:
    """Intact model, repair and controls side by side; `after`: None where nothing was changed."""
    report = case.question.attacked["report"]
    target = case.question.metric.class_index(case.images.class_names)
    rows = case.images.indices("report")
    n, m = len(rows), len(report.labels)
    others = rows[case.images.labels[rows] != target]

    def row(name: str, of: Sets, changed: AttackedSplit = report, under: str = "attack_report") -> TriggerRow:
        rates, shown = changed.rates(of[under]), len(changed.labels)
        made: TriggerRow = {
            "name": name,
            "clean": rate((of["all"] == case.images.labels)[rows].mean(), n),
            "success": rate(rates["success"], shown),
            "true_label": rate(rates["true_label"], shown),
        }
        if (guard := case.images.guard) is not None:
            inside = guard.parts.report
            made["guard"] = rate((of["guard"] == guard.dataset.labels)[inside].mean(), len(inside))
        return made

    models = {"intact model": before} | ({"this repair": after} if after is not None else {})
    listed = [row(name, of) for name, of in models.items()]
    for control in controls:
        made: TriggerRow = {
            "name": control["name"],
            "clean": rate(control["accuracy"], n),
            "success": rate(control["success"], m),
            "true_label": rate(control["true_label"], m),
        }
        if (guard := case.images.guard) is not None:
            made["guard"] = rate(control["guard"], len(guard.parts.report))
        listed.append(made)
    section: TriggerSection = {
        "images": {part: len(one.labels) for part, one in case.question.attacked.items()},
        "left_out": {part: one.excluded for part, one in case.question.attacked.items()},
        "without": {
            key: rate((of["all"][others] == target).mean(), len(others))
            for key, of in (("before", before), ("after", after))
            if of is not None and len(others)
        },
        "rows": listed,
    }
    if (known := case.question.known) is not None:
        section["known"] = {
            "file": case.question.describe()["trigger"]["known"],
            "rows": [row(name, of, known, "attack_known") for name, of in models.items()],
            "change": None if after is None else _change(case, known, before["attack_known"], after["attack_known"]),
        }
    return section


def _change(case: Case, known: AttackedSplit, before: np.ndarray, after: np.ndarray) -> IntervalRecord:
    weights, settings = accuracy_weights(len(known.labels)), case.settings
    found = paired_bootstrap(
        before == known.labels, after == known.labels, weights, known.labels, settings.seed, level=settings.level
    )
    return {"value": found.estimate, "lower": found.lower, "upper": found.upper, "level": found.level}


def rate(share: float, n: int) -> RateRecord:
    """A share of n images with its interval."""
    found = wilson(round(float(share) * n), n)
    return {"value": float(share), "lower": found.lower, "upper": found.upper, "n": n}
