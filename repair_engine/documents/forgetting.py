"""The section on forgetting of a repair's report: what the forgotten images are called, and what a linear probe finds.

probe.csv has what every probe says of every report image, so that the section can be derived from it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from repair_engine.case.case import Case
from repair_engine.data import SPLITS
from repair_engine.documents.trigger import RateRecord, rate
from repair_engine.edits.kinds import CONTROLS
from repair_engine.edits.model import Tensors, changed
from repair_engine.edits.probe import MOST, Probed, Probing
from repair_engine.edits.workshop import Made, Workshop
from repair_engine.network.tunable import Head
from repair_engine.question.question import ForgetQuestion
from repair_engine.support import tables
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import IntervalRecord, paired_bootstrap

FILE = "probe.csv"
HEADER = ("file_name", "label", "set", "features", "predicted")
INTACT, REPAIRED, SHIFT, PIXELS = "intact model", "this repair", "logit shift", "pixels"
SAME, UNTOLD, HIDDEN, LESS, NOT_FOUND = "same features", "cannot tell", "hidden", "less", "not found"  # verdicts
_MOST_CALLED = 20
_NAMES = ("retain", "forget")


class CalledRow(TypedDict):
    """How many report images of the forget set are said to be of a class."""

    name: str
    before: int
    after: int


class ProbeRow(TypedDict):
    """One probe on the report images; `same`: its features are the intact model's, and so is the probe.

    `forget`, `retain`: accuracy by the probe; `change`: of the first, against the probe on the intact model's features.
    """

    name: str
    same: bool
    forget: RateRecord
    retain: RateRecord
    change: IntervalRecord | None
    ridge: float


class ProbeRecord(TypedDict):
    """`reference`: what is found without the network's features: by chance, or by a probe on the pixels, the larger.

    `verdict`: what the probe says of the repair, "" where nothing was changed. `not_made`: why there is no probe.
    """

    rows: list[ProbeRow]
    learned_from: int
    reference: float
    verdict: str
    not_made: NotRequired[str]


class ForgettingSection(TypedDict):
    """`left_out`: classes that are not listed in `called`; `below_chance`: accuracy on the forget set is lower after
    the repair than by chance, with its whole 95% interval (Wilson)."""

    called: list[CalledRow]
    left_out: int
    below_chance: bool
    probe: ProbeRecord


def forgetting_section(
    case: Case,
    workshop: Workshop,
    used: str | None,
    edited: Tensors,
    predicted: tuple[np.ndarray, np.ndarray],
    progress: Progress,
) -> tuple[ForgettingSection, dict[str, Probed]]:
    """The section, and what each probe says of the report images.

    Args:
        used: the edit that the repair makes; None: nothing was changed.
        edited: the repaired checkpoint's tensors.
        predicted: of all images by the intact and by the repaired model, int64 [N].
    """
    question = case.question
    assert isinstance(question, ForgetQuestion)
    rows = question.indices("report")
    names = case.images.class_names
    before, after = (Counter(one[rows].tolist()) for one in predicted)
    said = sorted(before | after, key=lambda c: (-after[c], -before[c], c))
    called: list[CalledRow] = [{"name": names[c], "before": before[c], "after": after[c]} for c in said[:_MOST_CALLED]]
    probes = _probes(case, question, workshop, used, edited, progress)
    record = _not_made(probes) if isinstance(probes, str) else _record(case, question, probes)
    found = {} if isinstance(probes, str) else {name: probed for name, (probed, _) in probes.items()}
    accuracy = rate((predicted[1] == case.images.labels)[rows].mean(), len(rows))
    section: ForgettingSection = {
        "called": called,
        "left_out": max(0, len(said) - _MOST_CALLED),
        "below_chance": accuracy["upper"] < question.chance("report"),
        "probe": record,
    }
    return section, found


def probe_forwards(case: Case) -> int:
    """Forward passes that the probes take at most, of single images: intact, repaired, and what tunes features."""
    return (len(CONTROLS) + 1) * len(case.images)


def _probes(
    case: Case, question: ForgetQuestion, workshop: Workshop, used: str | None, edited: Tensors, progress: Progress
) -> dict[str, tuple[Probed, bool]] | str:
    """Name -> probe, and whether its features are the intact model's; or why there is none."""
    head, intact = case.subject.network.tunable.head, case.subject.checkpoint.tensors
    if not isinstance(head, Head):
        return f"No linear probe was made: {head}."
    parts = {part: case.images.indices(part) for part in SPLITS}
    probing = Probing.of(
        case.images.pixels, case.images.labels, parts, len(case.images.class_names), case.settings.seed
    )
    models: dict[str, Tensors] = {REPAIRED: edited} if used else {}
    models[SHIFT] = intact
    for kind, name in CONTROLS.items():
        if kind != used and isinstance(made := workshop.make(kind), Made):  # else the control is the model as it is
            models[name] = made.tensors
    progress("fitting linear probes", 0.0)
    features = probing.features(workshop.model, intact, head.weight)
    if features is None:
        return f"No linear probe was made: what {head.weight} reads cannot be told."
    found = {INTACT: (probing.probe(features), True)}
    for done, (name, tensors) in enumerate(models.items(), 1):
        progress("fitting linear probes", done / (len(models) + 1))
        if set(changed(intact, tensors)) <= set(head.keys):
            found[name] = found[INTACT][0], True
            continue
        own = probing.features(workshop.model, tensors, head.weight)
        assert own is not None
        found[name] = probing.probe(own), False
    found[PIXELS] = probing.probe(probing.plain(workshop.model)), False
    return found


def _not_made(why: str) -> ProbeRecord:
    return {"rows": [], "learned_from": 0, "reference": 0.0, "verdict": "", "not_made": why}


def _record(case: Case, question: ForgetQuestion, probes: Mapping[str, tuple[Probed, bool]]) -> ProbeRecord:
    report, settings = case.images.indices("report"), case.settings
    labels, mask = case.images.labels[report], question.forgotten.mask[report]
    objective = question.objective("report")
    right = {name: probed.predicted == labels for name, (probed, _) in probes.items()}
    rows: list[ProbeRow] = []
    for name, (probed, same) in probes.items():
        change: IntervalRecord | None = None
        if name not in (INTACT, PIXELS):
            found = paired_bootstrap(
                right[INTACT][mask], right[name][mask], objective.weights, objective.cells, settings.seed,
                level=settings.level,
            )  # fmt: skip
            change = {"value": found.estimate, "lower": found.lower, "upper": found.upper, "level": found.level}
        rows.append(
            {
                "name": name,
                "same": same,
                "forget": rate(right[name][mask].mean(), int(mask.sum())),
                "retain": rate(right[name][~mask].mean(), int((~mask).sum())),
                "change": change,
                "ridge": probed.ridge,
            }
        )
    reference = max(question.chance("report"), float(right[PIXELS][mask].mean()))
    learned = min(len(case.images.indices("score")), MOST)
    mine = next((row for row in rows if row["name"] == REPAIRED), None)
    verdict = "" if mine is None else verdict_of(mine, rows[0], reference)
    return {"rows": rows, "learned_from": learned, "reference": reference, "verdict": verdict}


def verdict_of(row: ProbeRow, intact: ProbeRow, reference: float) -> str:
    """What a probe on the repair's features says: the same, that it cannot tell, hidden, less, or not found.

    It cannot tell where the intact model's features are not shown to give more than is found without (`reference`), or
    where the repair's are told apart from neither. Hidden: more than the reference, not told apart from the probe on
    the intact model's features. Not found: less than that, and its interval reaches down to the reference.
    """
    if row["same"]:
        return SAME
    if intact["forget"]["lower"] <= reference:
        return UNTOLD
    assert row["change"] is not None
    there, fell = row["forget"]["lower"] > reference, row["change"]["upper"] < 0
    if fell:
        return LESS if there else NOT_FOUND
    return HIDDEN if there else UNTOLD


def write_probe(case: Case, probes: Mapping[str, Probed], path: Path) -> None:
    """One row per report image and probe, the images in the set's order."""
    question, dataset = case.question, case.images.dataset
    assert isinstance(question, ForgetQuestion)
    report: Sequence[int] = case.images.indices("report").tolist()
    with tables.writing(path, HEADER) as out:
        for name, probed in probes.items():
            for index, predicted in zip(report, probed.predicted.tolist(), strict=True):
                which = _NAMES[int(question.forgotten.mask[index])]
                label = dataset.class_names[dataset.labels[index]]
                out.writerow((dataset.file_names[index], label, which, name, dataset.class_names[predicted]))
