"""The attack section of a repair's report: the four rows, and what they say about masked gradients."""

from __future__ import annotations

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.documents.records import AttackSection
from repair_engine.models.formats import Checkpoint
from repair_engine.question.surrogates import open_surrogates
from repair_engine.question.victims import AttackImages, BlackBox, Victim
from repair_engine.studies import masking
from repair_engine.studies.attack_rows import Fixed, Row, describe_rows, measure_rows
from repair_engine.support.progress import Progress

_MOST, _LEAST = 100, 10  # images that are queried
_SHARE = 20  # of the budget, in forward passes, that the queries to each of the two models may take: one in so many


def subset_size(case: Case, budget: int) -> int:
    """Most images on which queries are made: as asked, else by the budget."""
    if case.settings.subset is not None:
        return case.settings.subset
    return int(np.clip(budget // (_SHARE * max(case.settings.queries, 1)), _LEAST, _MOST))


def measure_attack(
    case: Case,
    edited: Checkpoint,
    before: np.ndarray,
    after: np.ndarray,
    budget: int,
    section: AttackSection,
    progress: Progress,
) -> list[Row]:
    """Fills the document's section with rows and self-tests; the rows with every image's predictions.

    Args:
        edited: the repaired checkpoint.
        before, after: predictions on the fixed set of *report*, by both files in fresh processes, int64 [N].
        budget: evaluations of the run.

    Raises:
        BadInput: a surrogate that does not fit.
    """
    settings, part = case.settings, case.question.attacked["report"]
    device, preprocessing = case.subject.device, case.images.dataset.preprocessing
    victims = [
        Victim(name, checkpoint.module().to(device), preprocessing, device)
        for name, checkpoint in (
            ("the intact model", case.subject.checkpoint),
            ("the repaired model", edited),
        )
    ]
    labels = case.images.labels[part.indices]
    clean = torch.from_numpy(np.array(case.images.dataset.images[part.indices]))
    images = AttackImages(part.indices, clean, labels, part.targets, settings.attack.targeted)
    surrogates = open_surrogates(
        case.sources.surrogates, preprocessing, case.images.shape, case.subject.network.classes, device
    )
    subset = images.spread(subset_size(case, budget))
    fixed = Fixed(part.pixels, before, after)
    rows = measure_rows(
        victims[0], victims[1], images, fixed, settings.attack, surrogates, subset, settings.queries, settings.seed,
        progress,
    )  # fmt: skip
    section["rows"] = describe_rows(rows, settings.seed, settings.level)
    section["self_tests"] = _self_tests(rows, subset, settings.queries)
    return rows


def _self_tests(rows: list[Row], subset: np.ndarray, queries: int) -> list[masking.CheckRecord]:
    """Queries against gradients, on both models; the other self-tests are those of the attack verb."""
    kinds = {row.kind: row for row in rows}
    if "black-box" not in kinds:
        return []
    white, black = kinds["white-box"], kinds["black-box"]
    out = []
    for model, by_white, by_black in (
        ("intact", white.before[subset], black.before),
        ("repaired", white.after[subset], black.after),
    ):
        found = BlackBox(by_black, np.empty(0, np.int64))
        check = masking.black_box_is_not_better(black.images, by_white, found, queries)
        out.append(check.to_json(model))
    return out
