"""The trigger section of a repair's report: clean accuracy, attack success and accuracy under the trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.edits.records import ControlRow
from repair_engine.support.statistics import wilson


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


class TriggerSection(TypedDict):
    """`without`: of clean images of other classes, how often the class is said: success without any trigger."""

    images: dict[str, int]
    left_out: dict[str, int]
    without: dict[str, RateRecord]
    rows: list[TriggerRow]


Sets = Mapping[str, np.ndarray]  # "all", "guard" and "attack_report" -> classes int64 [N]


def trigger_section(case: Case, before: Sets, after: Sets | None, controls: Sequence[ControlRow]) -> TriggerSection:
    """Intact model, repair and controls side by side; `after`: None where nothing was changed."""
    report = case.question.attacked["report"]
    target = case.question.metric.class_index(case.images.class_names)
    rows = case.images.indices("report")
    n, m = len(rows), len(report.labels)
    others = rows[case.images.labels[rows] != target]

    def row(name: str, of: Sets) -> TriggerRow:
        rates = report.rates(of["attack_report"])
        made: TriggerRow = {
            "name": name,
            "clean": _rate((of["all"] == case.images.labels)[rows].mean(), n),
            "success": _rate(rates["success"], m),
            "true_label": _rate(rates["true_label"], m),
        }
        if (guard := case.images.guard) is not None:
            inside = guard.parts.report
            made["guard"] = _rate((of["guard"] == guard.dataset.labels)[inside].mean(), len(inside))
        return made

    models = {"intact model": before} | ({"this repair": after} if after is not None else {})
    listed = [row(name, of) for name, of in models.items()]
    for control in controls:
        made: TriggerRow = {
            "name": control["name"],
            "clean": _rate(control["accuracy"], n),
            "success": _rate(control["success"], m),
            "true_label": _rate(control["true_label"], m),
        }
        if (guard := case.images.guard) is not None:
            made["guard"] = _rate(control["guard"], len(guard.parts.report))
        listed.append(made)
    return {
        "images": {part: len(one.labels) for part, one in case.question.attacked.items()},
        "left_out": {part: one.excluded for part, one in case.question.attacked.items()},
        "without": {
            key: _rate((of["all"][others] == target).mean(), len(others))
            for key, of in (("before", before), ("after", after))
            if of is not None and len(others)
        },
        "rows": listed,
    }


def _rate(share: float, n: int) -> RateRecord:
    found = wilson(round(float(share) * n), n)
    return {"value": float(share), "lower": found.lower, "upper": found.upper, "n": n}
