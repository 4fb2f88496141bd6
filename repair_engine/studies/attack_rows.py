"""The four honest rows: what the same adversary, and three others, achieve before and after a repair.

Replay of the fixed set; transfer from surrogates; a new white-box attack on the repaired model, which the paper
says stays vulnerable (Ghorbani & Zou 2020, §4); a black-box attack by queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Required, TypedDict

import numpy as np
import torch

from repair_engine.question.attacks import AttackSettings
from repair_engine.question.objectives import cell_codes
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.question.surrogates import Opened
from repair_engine.question.victims import AttackImages, BlackBox, Victim, black_box, counting, white_box
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import IntervalRecord, mcnemar, paired_bootstrap, wilson

REPLAY = "replay of the fixed set"
WHITE_BOX = "new white-box attack on the repaired model"
TRANSFER = "transfer from other models"
BLACK_BOX = "black-box attack by queries (Square)"
NO_SURROGATE = "not measured: no surrogate given"
NO_QUERIES = "not measured: no queries allowed"


class Rates(TypedDict):
    """Success and recovered true labels, with their 95% intervals."""

    success: float
    success_interval: list[float]
    true_label: float
    true_label_interval: list[float]


class RowChange(IntervalRecord):
    p: float


class SurrogateRecord(TypedDict):
    file: str
    sha256: str
    architecture: str
    accuracy: float
    success_on_itself: float


class How(TypedDict, total=False):
    """How a row's attack was made."""

    seed: int
    norm: str
    epsilon: float
    step: float
    steps: int
    targeted: bool
    random_start: bool
    restarts: int
    surrogate: SurrogateRecord
    queries: int
    queries_used: dict[str, float]


class AttackRow(How, total=False):
    """One row of the report; `success` and what follows it are after the repair, None where nothing was measured."""

    name: Required[str]
    kind: Required[str]
    n: Required[int]
    success: Required[float | None]
    success_interval: list[float]
    true_label: Required[float | None]
    true_label_interval: list[float]
    before: Rates
    change: RowChange
    made_on: str
    not_measured: str


@dataclass(frozen=True)
class Row:
    """One row: predictions on the attacked images before and after the repair.

    Attributes:
        kind: "replay", "transfer", "white-box" or "black-box".
        before, after: predicted classes of the intact and the repaired model, int64 [N].
        made_on: what the adversarial images were made on.
        how: further entries of the row, such as seed and queries.
    """

    kind: str
    name: str
    images: AttackImages
    before: np.ndarray
    after: np.ndarray
    made_on: str
    how: How = field(default_factory=lambda: How())

    def to_json(self, seed: int, level: float) -> AttackRow:
        """The row of the report. `success` and `true_label` are after the repair."""
        success = [self.images.success(p) for p in (self.before, self.after)]
        cells = cell_codes(self.images.labels, None)  # by class, as the report's gain
        interval = paired_bootstrap(success[0], success[1], accuracy_weights(len(cells)), cells, seed, level=level)
        test = mcnemar(success[0], success[1])
        return {
            "name": self.name,
            "kind": self.kind,
            "n": len(self.images),
            **rates(self.images, self.after),
            "before": rates(self.images, self.before),
            "change": {
                "value": interval.estimate,
                "lower": interval.lower,
                "upper": interval.upper,
                "level": interval.level,
                "p": test.p_value,
            },
            "made_on": self.made_on,
            **self.how,
        }


def rates(images: AttackImages, predicted: np.ndarray) -> Rates:
    """Success and recovered-true-label rate with 95% Wilson intervals."""
    won, kept = (wilson(int(h.sum()), len(h)) for h in (images.success(predicted), predicted == images.labels))
    return {
        "success": won.estimate,
        "success_interval": [won.lower, won.upper],
        "true_label": kept.estimate,
        "true_label_interval": [kept.lower, kept.upper],
    }


def missing_row(kind: str, name: str, why: str) -> AttackRow:
    """A row that could not be measured, saying why."""
    return {"name": name, "kind": kind, "n": 0, "success": None, "true_label": None, "not_measured": why}


@dataclass(frozen=True)
class Fixed:
    """The fixed set, made once on the intact model: its pixels, and what both models predict on it."""

    pixels: torch.Tensor
    before: np.ndarray
    after: np.ndarray


def measure_rows(
    intact: Victim,
    repaired: Victim,
    images: AttackImages,
    fixed: Fixed,
    settings: AttackSettings,
    surrogates: Sequence[Opened],
    subset: np.ndarray,
    queries: int,
    seed: int,
    progress: Progress,
    asked: BlackBox | None = None,
) -> list[Row]:
    """All rows that can be measured.

    Args:
        subset: rows of `images` on which the queries are made.
        queries: most per image; 0 = no black-box row.
        asked: the queries to the intact model, where they were made already.
    """
    rows = [Row("replay", REPLAY, images, fixed.before, fixed.after, "the intact model", _pgd(settings, seed))]
    for place, surrogate in enumerate(surrogates):
        rows.append(_transfer(intact, repaired, images, surrogate, settings, seed + 2 + place, progress))
    tick = counting(progress, "attacking the repaired model", len(images))
    generator = torch.Generator().manual_seed(seed + 1)
    fresh = repaired.predict(white_box(repaired.logits, images, settings, generator, repaired.device, tick))
    made_on = "each model itself; before: the fixed set"
    rows.append(Row("white-box", WHITE_BOX, images, fixed.before, fresh, made_on, _pgd(settings, seed + 1)))
    if queries:
        few = images.subset(subset)
        rows.append(_black_box(intact, repaired, few, settings, queries, seed, progress, asked))
    return rows


def describe_rows(rows: Sequence[Row], seed: int, level: float) -> list[AttackRow]:
    """The rows of the report, in their fixed order, with what was not measured in its place."""
    by_kind = {kind: [r.to_json(seed, level) for r in rows if r.kind == kind] for kind in _ORDER}
    by_kind["transfer"] = by_kind["transfer"] or [missing_row("transfer", TRANSFER, NO_SURROGATE)]
    by_kind["black-box"] = by_kind["black-box"] or [missing_row("black-box", BLACK_BOX, NO_QUERIES)]
    return [row for kind in _ORDER for row in by_kind[kind]]


_ORDER = ("replay", "transfer", "white-box", "black-box")


def _transfer(
    intact: Victim,
    repaired: Victim,
    images: AttackImages,
    surrogate: Opened,
    settings: AttackSettings,
    seed: int,
    progress: Progress,
) -> Row:
    name = surrogate.spec.called
    tick = counting(progress, f"attacking the surrogate {name}", len(images))
    generator = torch.Generator().manual_seed(seed)
    made = white_box(surrogate.logits, images, settings, generator, intact.device, tick)
    twin = Victim(name, surrogate.module, surrogate.preprocessing, intact.device)
    how: How = {
        **_pgd(settings, seed),
        "surrogate": {
            "file": name,
            "sha256": surrogate.sha256,
            "architecture": surrogate.spec.architecture.name,
            "accuracy": float((twin.predict(images.pixels) == images.labels).mean()),
            "success_on_itself": float(images.success(twin.predict(made)).mean()),
        },
    }
    return Row("transfer", f"transfer from {name}", images, intact.predict(made), repaired.predict(made), name, how)


def _black_box(
    intact: Victim,
    repaired: Victim,
    images: AttackImages,
    settings: AttackSettings,
    queries: int,
    seed: int,
    progress: Progress,
    asked: BlackBox | None,
) -> Row:
    tick = counting(progress, "querying both models", len(images) * (1 if asked else 2))
    first = asked or black_box(intact, images, settings, queries, seed, tick)
    found = [first, black_box(repaired, images, settings, queries, seed, tick)]
    how: How = {
        "seed": seed,
        "norm": settings.norm,
        "epsilon": settings.epsilon,
        "queries": queries,
        "queries_used": {"before": float(found[0].queries.mean()), "after": float(found[1].queries.mean())},
    }
    return Row(
        "black-box", BLACK_BOX, images, found[0].predicted, found[1].predicted, "each model itself, by queries", how
    )


def _pgd(settings: AttackSettings, seed: int) -> How:
    return {
        "seed": seed,
        "norm": settings.norm,
        "epsilon": settings.epsilon,
        "step": settings.step,
        "steps": settings.steps,
        "targeted": settings.targeted,
        "random_start": settings.random_start,
        "restarts": settings.restarts,
    }
