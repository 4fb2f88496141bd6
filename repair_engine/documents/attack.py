"""What attack.json is made of, by key. The keys are part of the product's interface."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from repair_engine.documents.records import VictimRecord
from repair_engine.question.attacks.settings import AttackRecord
from repair_engine.studies.attack_curves import CurvesRecord
from repair_engine.studies.attack_rows import AttackRow
from repair_engine.studies.masking import CheckRecord


class AuditData(TypedDict):
    file: str
    sha256: str
    images: int
    splits: dict[str, int]
    group: str | None
    preprocessing: dict[str, Any]
    notes: list[str]
    split_folder: NotRequired[str]


class Seeded(AttackRecord):
    seed: int


class ImageCounts(TypedDict):
    part: str
    picked: int
    attacked: int
    left_out: int
    subset: int


class ShareRecord(TypedDict):
    """A rate with its interval and the number of images."""

    value: float
    lower: float
    upper: float
    n: int


class BlackBoxRecord(TypedDict):
    queries: int
    queries_used: float
    success: ShareRecord
    true_label: ShareRecord


class AuditRecord(TypedDict):
    """attack.json; `figures` by clean_accuracy, accuracy_under_attack, success and true_label."""

    schema: int
    verb: str
    model: VictimRecord
    data: AuditData
    attack: Seeded
    images: ImageCounts
    figures: dict[str, ShareRecord]
    curves: CurvesRecord
    self_tests: list[CheckRecord]
    rows: list[AttackRow]
    black_box: NotRequired[BlackBoxRecord]
    repaired: NotRequired[VictimRecord]
    clean_after: NotRequired[dict[str, ShareRecord]]
    curves_repaired: NotRequired[CurvesRecord]
    warnings: NotRequired[list[str]]
    run: NotRequired[dict[str, object]]
    versions: NotRequired[dict[str, str]]
    files: NotRequired[dict[str, Any]]
    out: NotRequired[str]
