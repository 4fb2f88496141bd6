"""What documents are made of, by key: report.json first, and the parts that other verbs' documents share with it.

The keys are part of the product's interface. Documents of earlier versions may lack some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NotRequired, TypedDict

from repair_engine.case.inspection import OnnxRecord, UnitsRecord
from repair_engine.choosing.orders import OrdersRecord
from repair_engine.choosing.plan import StepRecord
from repair_engine.choosing.selection import SelectionRecord
from repair_engine.documents.by_kind import ByKind
from repair_engine.documents.corruption import CorruptionSection
from repair_engine.documents.forgetting import ForgettingSection
from repair_engine.documents.interactions import InteractionsRecord
from repair_engine.documents.reasons import BrokenLimit
from repair_engine.documents.trigger import TriggerSection
from repair_engine.edits.records import ControlRow, EditSection
from repair_engine.network.sites import NotAPlayerRecord
from repair_engine.network.write_back import EditRecord
from repair_engine.question.attacks.settings import AttackRecord
from repair_engine.question.question import MetricRecord
from repair_engine.search.records import RunRecord
from repair_engine.studies.attack_rows import AttackRow
from repair_engine.studies.calibration import CalibrationRecord
from repair_engine.studies.fairness import FairnessRecord
from repair_engine.studies.masking import CheckRecord
from repair_engine.support.statistics import IntervalRecord, McNemarRecord


def some_of(record: Mapping[str, object], keys: Iterable[str]) -> dict[str, Any]:
    """Those entries that a record has, in the order of the keys."""
    return {key: record[key] for key in keys if key in record}


class VictimRecord(TypedDict):
    """A model that is attacked: what is known of its file."""

    file: str
    sha256: str
    architecture: str
    num_classes: int
    options: dict[str, Any]
    registered: str | None
    logits: int


class ModelRecord(VictimRecord):
    """A model whose filters are valued."""

    weights: str | None
    key: str
    strip_prefix: str
    onnx: OnnxRecord | None
    config_sha256: str | None
    filters: int
    sites: int
    parameter_share: float
    kinds: dict[str, UnitsRecord]
    not_players: list[NotAPlayerRecord]


class GuardData(TypedDict):
    file: str
    sha256: str
    select: int
    report: int
    excluded: int
    split_folder: NotRequired[str]


class DataRecord(TypedDict):
    file: str
    sha256: str
    images: int
    classes: list[dict[str, str | int]]
    splits: dict[str, int]
    group: str | None
    preprocessing: dict[str, Any]
    notes: list[str]
    split_folder: NotRequired[str]
    guard: NotRequired[GuardData]


class FilterRow(TypedDict):
    """One filter as `score --json` gives it; bounds are null where it was never sampled."""

    id: str
    kind: str
    value: float | None
    lower: float | None
    upper: float | None
    std_error: float | None
    samples: int
    constant: float
    constant_from: str
    best: NotRequired[float]


class CulpritRow(FilterRow):
    rank: int
    ablated: bool
    searched_value: float
    edits: list[EditRecord]


class LimitsRecord(TypedDict):
    """See `settings.Limits`."""

    max_filters: int
    max_clean_drop: float
    max_subgroup_drop: float
    choose: str
    goal: str
    order: str


class Change(IntervalRecord):
    """Of a share, on the same images."""

    method: str
    mcnemar: McNemarRecord


class GroupRow(TypedDict):
    name: str
    n: int
    before: float
    before_interval: list[float]
    after: float
    after_interval: list[float]
    change: float
    won: int
    lost: int
    p: float
    size: str
    p_holm: NotRequired[float]


class SplitFigures(TypedDict):
    """`success` and `true_label`: under a trigger."""

    accuracy: float
    metric: NotRequired[float]
    success: NotRequired[float]
    true_label: NotRequired[float]


class GuardFigures(TypedDict):
    n: int
    before: float
    after: float
    change: Change


class Differences(TypedDict):
    """Of two models on the same images."""

    images: int
    different_predictions: int
    largest_logit_difference: float


class Verification(Differences):
    by: str
    how: str


class AttackSection(TypedDict):
    settings: AttackRecord
    images: dict[str, int]
    left_out: dict[str, int]
    rows: list[AttackRow]
    note: str
    self_tests: NotRequired[list[CheckRecord]]


class CompactRecord(TypedDict):
    written: bool
    removed: list[str]
    kept: list[dict[str, str]]
    layers: dict[str, Any]
    biases_added: list[str]
    parameters: dict[str, int]
    note: str
    failed: NotRequired[str]
    report: NotRequired[SplitFigures]
    gain: NotRequired[Change]
    clean_change: NotRequired[Change]
    against_repaired: NotRequired[Differences]


class About(TypedDict):
    """What a document is about."""

    schema: int
    verb: str
    metric: MetricRecord
    model: ModelRecord
    data: DataRecord
    warnings: list[str]
    versions: dict[str, str]


class Valued(About):
    """What every document with values begins with."""

    run: RunRecord


class RepairRecord(Valued):
    """report.json."""

    created: str
    outcome: str
    reasons: list[str]
    k: int
    limits: LimitsRecord
    culprit_sign: int
    culprits: list[CulpritRow]
    curve: list[StepRecord]
    by_hand: bool
    selection: SelectionRecord | None
    controls: list[ControlRow]
    groups: dict[str, list[GroupRow]]
    report_uses: int
    files: dict[str, dict[str, str]]
    attack: NotRequired[AttackSection]
    trigger: NotRequired[TriggerSection]
    corruption: NotRequired[CorruptionSection]
    forgetting: NotRequired[ForgettingSection]
    verification: NotRequired[Verification]
    by_kind: NotRequired[ByKind]
    interactions: NotRequired[InteractionsRecord]
    orders: NotRequired[OrdersRecord | None]
    edit: NotRequired[EditSection]
    before: NotRequired[dict[str, SplitFigures]]
    after: NotRequired[dict[str, SplitFigures]]
    gain: NotRequired[Change]
    clean_change: NotRequired[Change]
    fairness: NotRequired[FairnessRecord]
    calibration: NotRequired[CalibrationRecord]
    images_right: NotRequired[dict[str, int]]
    guard: NotRequired[GuardFigures]
    findings: NotRequired[list[str]]
    beyond_limits: NotRequired[list[BrokenLimit]]
    compact: NotRequired[CompactRecord]
    out: NotRequired[str]


class EvaluateRecord(About):
    """What `evaluate --json` gives; figures by split, and for "all"."""

    figures: dict[str, SplitFigures]
    ablated: NotRequired[list[dict[str, str | float]]]
    figures_ablated: NotRequired[dict[str, SplitFigures]]


class Inputs(TypedDict):
    """By keys of `ModelRecord`, `DataRecord` and `GuardData`."""

    model: dict[str, Any]
    data: dict[str, Any]
    guard: GuardData | None


class PlanRecord(TypedDict):
    """repair.json: what a pipeline needs to trace and repeat the repair; beside these keys, some of report.json's."""

    inputs: Inputs
    filters: list[CulpritRow]
    candidates: list[dict[str, Any]]
    before: dict[str, SplitFigures]
    after: dict[str, SplitFigures]
    gain: Change
    fairness: NotRequired[dict[str, Any]]
