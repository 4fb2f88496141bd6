"""What documents hold of edits and of controls."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from repair_engine.support.statistics import IntervalRecord


class EditRow(TypedDict):
    """One edit that was tried, with its figures on *select*; of one that could not be made, the reason alone."""

    edit: str
    evaluations: int
    not_made: NotRequired[str]
    select: NotRequired[float]
    gain: NotRequired[float]
    standard_error: NotRequired[float]
    behind_best: NotRequired[float | None]
    clean: NotRequired[float]
    guard: NotRequired[float | None]
    subgroup_drop: NotRequired[float | None]
    goal: NotRequired[float | None]
    culprits: NotRequired[int]
    units: NotRequired[int]
    parameters: NotRequired[int]
    note: NotRequired[str]
    used: NotRequired[bool]


class EditSection(TypedDict):
    """What a repair did: `used` is None where the model was left as it is.

    `retrained` names units, `tuned` the tensors that are not what ablation alone would write.
    """

    asked: str
    used: str | None
    words: str
    units: int
    parameters: int
    evaluations: int
    rows: list[EditRow]
    retrained: list[str]
    tuned: list[str]


class PairedChange(IntervalRecord):
    """Of a share, on the same images; `p_holm` is adjusted over all controls."""

    method: str
    p: float
    p_holm: NotRequired[float]


class ControlRow(TypedDict):
    """A repair by other means; several picks have ranges. `success` and `true_label`: under a trigger."""

    name: str
    metric: float
    accuracy: float
    picks: int
    metric_range: NotRequired[list[float]]
    accuracy_range: NotRequired[list[float]]
    guard: NotRequired[float]
    success: NotRequired[float]
    true_label: NotRequired[float]
    advantage: PairedChange
    gain: PairedChange
    note: str
