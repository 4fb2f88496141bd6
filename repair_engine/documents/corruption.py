"""The corruptions of a repair's report: accuracy by kind and severity, and corrupted.csv, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.data import SPLITS
from repair_engine.documents.trigger import RateRecord, rate
from repair_engine.models.formats import Checkpoint
from repair_engine.network import predictions
from repair_engine.network.network import two_dimensional
from repair_engine.question.corrupted import corrupted_as
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.settings import SEVERITIES
from repair_engine.support import tables
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import IntervalRecord, paired_bootstrap

FILE = "corrupted.csv"
HEADER = ("file_name", "split", "label", "kind", "severity", "predicted_before", "predicted_after")
_MOST, _LEAST = 1_000, 50  # images of the table, where nothing else is asked
_SHARE = 20  # of the budget, in forward passes, that the table may take: one in so many
_STREAM = 0xC0EE


class CorruptionRow(TypedDict):
    """Accuracy of the intact model and, where it was changed, of the repair on the same images; severity 0: clean.

    `parameter`: see `data.corruptions.PARAMETERS`.
    """

    kind: str
    severity: int
    parameter: float | None
    before: RateRecord
    after: RateRecord | None
    change: IntervalRecord | None


class CorruptionSection(TypedDict):
    """`images`: split -> corrupted images that the metric is taken over; `shown`: report images of the rows."""

    images: dict[str, int]
    shown: int
    rows: list[CorruptionRow]


def table_images(case: Case, budget: int) -> int:
    """Report images of each row: as asked, else by the budget."""
    report = len(case.images.indices("report"))
    most = case.settings.corrupted_images
    if most is None:
        most = int(np.clip(budget // (_SHARE * _passes(case)), _LEAST, _MOST))
    return min(most, report)


def table_forwards(case: Case, budget: int) -> int:
    """Forward passes that the table takes, of single images."""
    return _passes(case) * table_images(case, budget)


def _passes(case: Case) -> int:
    return 2 * (1 + len(case.settings.metric.corruptions) * SEVERITIES[1])


def corruption_section(case: Case, edited: Checkpoint | None, budget: int, progress: Progress) -> CorruptionSection:
    """Each kind of the metric at all severities, a few images at a time: no two severities are held at once.

    Args:
        edited: the repaired checkpoint; None: nothing was changed.
        budget: evaluations of the run.
    """
    dataset, settings = case.images.dataset, case.settings
    corruption = case.question.describe()["corruption"]
    rows = _spread(case, table_images(case, budget))
    device = case.subject.device
    models = [one.module().to(device).eval() for one in (case.subject.checkpoint, edited) if one is not None]
    asked = [("", 0), *((kind, s) for kind in settings.metric.corruptions for s in range(1, SEVERITIES[1] + 1))]
    found: list[CorruptionRow] = []
    for done, (kind, severity) in enumerate(asked):
        progress("measuring every kind and severity", done / len(asked))
        right: list[list[np.ndarray]] = [[] for _ in models]
        for i in range(0, len(rows), case.subject.room.plain):
            some = rows[i : i + case.subject.room.plain]
            pixels = np.array(dataset.images[some])
            if severity:
                pixels = corrupted_as(dataset, some, np.array([kind] * len(some)), severity, corruption["seed"])
            inputs = case.images.normalize(torch.from_numpy(pixels).to(device))
            with torch.inference_mode():
                for model, parts in zip(models, right, strict=True):
                    said = predictions(two_dimensional(model(inputs)).cpu()).numpy()
                    parts.append(said == dataset.labels[some])
        before, *after = (np.concatenate(parts) for parts in right)
        found.append(
            {
                "kind": kind or "clean",
                "severity": severity,
                "parameter": corruption["parameters"][kind][severity - 1] if severity else None,
                "before": rate(before.mean(), len(rows)),
                "after": rate(after[0].mean(), len(rows)) if after else None,
                "change": _change(case, rows, before, after[0]) if after else None,
            }
        )
    images = {part: len(one.labels) for part, one in case.question.attacked.items()}
    return {"images": images, "shown": len(rows), "rows": found}


def _spread(case: Case, n: int) -> np.ndarray:
    """n of the report images at random, int64, sorted; the same for the same seed."""
    report = case.images.indices("report")
    rng = np.random.default_rng([case.settings.seed, _STREAM])
    return np.sort(rng.choice(report, n, replace=False))


def _change(case: Case, rows: np.ndarray, before: np.ndarray, after: np.ndarray) -> IntervalRecord:
    labels, settings = case.images.labels[rows], case.settings
    found = paired_bootstrap(before, after, accuracy_weights(len(rows)), labels, settings.seed, level=settings.level)
    return {"value": found.estimate, "lower": found.lower, "upper": found.upper, "level": found.level}


def write_corrupted(case: Case, before: dict[str, np.ndarray], after: dict[str, np.ndarray], path: Path) -> None:
    """One row per corrupted image that units were valued, chosen or judged by; in the set's order within a split.

    Args:
        before, after: split -> predictions, int64 [N].
    """
    dataset, severity = case.images.dataset, case.question.describe()["corruption"]["severity"]
    names = dataset.class_names
    with tables.writing(path, HEADER) as rows:
        for part in SPLITS:
            of = case.question.attacked[part]
            assert of.kinds is not None
            for i, index in enumerate(of.indices.tolist()):
                rows.writerow(
                    (
                        dataset.file_names[index], part, names[of.labels[i]], str(of.kinds[i]), severity,
                        names[before[part][i]], names[after[part][i]],
                    )
                )  # fmt: skip
