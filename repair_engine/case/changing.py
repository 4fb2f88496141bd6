"""Images that are changed before anything is valued: with a trigger that is known or reconstructed, or corrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from repair_engine.data.images import Images
from repair_engine.data.patches import Paste, Patch, read_patch
from repair_engine.errors import BadInput
from repair_engine.network import predictions
from repair_engine.network.network import two_dimensional
from repair_engine.network.subject import Subject
from repair_engine.question.attacked import AttackedSplit
from repair_engine.question.corrupted import CorruptionRecord, corrupted_splits
from repair_engine.question.objectives import Metric
from repair_engine.question.question import Question
from repair_engine.question.reconstruction import Reconstruction, reconstruct
from repair_engine.question.request import RepairRequest
from repair_engine.question.triggers import TriggerRecord, does_nothing, trigger_record, triggered_splits
from repair_engine.support.progress import Progress

RECONSTRUCTED, KNOWN = "reconstructed from clean images", "known"


@dataclass(frozen=True)
class Changed:
    """What was made of the images, none of it where the metric is of clean ones (or an adversary's, made later).

    Attributes:
        metric: with the class that was found, of a trigger that nobody knows.
        attacked: the changed images of each split.
        trigger, corruption: what documents say of them.
        known: report images with the trigger that a reconstructed one stands for.
    """

    metric: Metric
    attacked: Mapping[str, AttackedSplit] = field(default_factory=dict)
    trigger: TriggerRecord | None = None
    known: AttackedSplit | None = None
    corruption: CorruptionRecord | None = None


def changed_images(
    request: RepairRequest,
    images: Images,
    module: torch.nn.Module,
    subject: Subject,
    patch: Patch | None,
    given: bool,
    folder: Path,
    progress: Progress,
) -> Changed:
    """Makes them; their pixels are left in `folder`.

    Args:
        patch: a trigger's, where it is at hand already.
        given: a trigger is given, as a patch or as images that carry it.

    Raises:
        BadInput: see `corrupted_splits`, `reconstruct` and `triggered_splits`.
    """
    metric = request.metric
    if metric.corrupted:
        progress("corrupting the images", 0.0)
        attacked, corruption = corrupted_splits(metric, images, request.severity, request.seed, folder)
        return Changed(metric, attacked, corruption=corruption)
    if metric.hidden:
        found = _reconstruct(request, images, module, subject, progress)
        metric = replace(metric, argument=found.name)
        whole = Paste(found.patch, 0, 0, 1.0)
        trigger = trigger_record(metric, images, whole, RECONSTRUCTED) | {"reconstructed": found.record}
        attacked = triggered_splits(metric, images, whole, folder)
        if not given:
            return Changed(metric, attacked, trigger)
        paste = _paste(request, images, patch)
        trigger["known"] = request.name_of("trigger" if paste else "triggered")
        known = triggered_splits(metric, images, paste, folder / KNOWN, ("report",))["report"]
        return Changed(metric, attacked, trigger, known)
    if metric.triggered:
        paste = _paste(request, images, patch)
        trigger = trigger_record(metric, images, paste, request.name_of("trigger" if paste else "triggered"))
        return Changed(metric, triggered_splits(metric, images, paste, folder), trigger)
    return Changed(metric)


def _reconstruct(
    request: RepairRequest, images: Images, module: torch.nn.Module, subject: Subject, progress: Progress
) -> Reconstruction:
    """The trigger that nobody knows, from the score images. Raises BadInput: no such class, or too many."""
    metric = request.metric
    named = metric.class_index(images.class_names) if metric.argument else None
    return reconstruct(
        module, images.dataset, images.splits.score, named, request.seed, subject.device,
        max(subject.room.backward, 2), progress,
    )  # fmt: skip


def _paste(request: RepairRequest, images: Images, patch: Patch | None) -> Paste | None:
    """The patch on its place; None where images that carry the trigger are given. Raises BadInput."""
    if images.triggered is not None:
        return None
    if images.dataset.preprocessing.normalized:
        raise BadInput(
            "A trigger's patch is pasted on pixels in [0, 1]; these images are normalized already.",
            "Give pixels (uint8, or floating point in [0, 1]), and mean= and std= as the model needs them; or images "
            "that carry the trigger (triggered=).",
        )
    if patch is None:
        assert request.trigger is not None
        patch = read_patch(request.trigger, images.shape[0], request.name_of("trigger"), request.apart)
    return Paste.at(patch, request.trigger_at, request.trigger_opacity, images.shape)


def nothing_done(question: Question, module: torch.nn.Module, subject: Subject, intact: np.ndarray) -> list[str]:
    """A warning where the trigger does nothing to the intact network, by the score images."""
    target = question.metric.class_index(question.images.class_names)
    rows, step = question.images.splits.score, subject.room.plain
    clean = intact[rows][question.images.labels[rows] != target]
    with torch.inference_mode():
        inputs = question.images.inputs(question.objective("score").pixels, step, subject.device)
        found = torch.cat([two_dimensional(module(images)).cpu() for images in inputs])
    said = does_nothing(question.metric.argument, predictions(found).numpy(), clean, target)
    return [said] if said else []
