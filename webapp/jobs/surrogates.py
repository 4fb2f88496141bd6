"""Surrogates of a job: other models of its owner, on which an adversary without access makes transfer attacks."""

from __future__ import annotations

from collections.abc import Sequence

from webapp.jobs.models import Job
from webapp.library.errors import Refused
from webapp.library.models import ModelUpload

MOST = 8  # each is attacked on all images


def check(model: ModelUpload, surrogates: Sequence[ModelUpload]) -> None:
    """What the checks of the uploads have found already; that the images' size fits only a worker can tell.

    Raises Refused: too many, one twice, the attacked model itself, or other images or classes.
    """
    if len(surrogates) > MOST:
        raise Refused(f"There are {len(surrogates)} surrogates; at most {MOST} are attacked.", "Choose fewer.")
    for place, one in enumerate(surrogates):
        if one in surrogates[:place]:
            raise Refused(f"The surrogate {one.name} is given twice.")
        if one.pk == model.pk:
            raise Refused(
                f"The surrogate {one.name} is the attacked model itself.",
                "Attacks that are made on it are measured in any case; choose another model.",
            )
        _fits(model, one)


def _fits(model: ModelUpload, one: ModelUpload) -> None:
    for fact, what, mend in (
        ("in_channels", "takes images of {} channels; the attacked model's have {}", "of the same images"),
        ("outputs", "puts out {} logits; the attacked model has {}", "that knows the same classes in the same order"),
    ):
        theirs, ours = one.facts.get(fact), model.facts.get(fact)
        if theirs and ours and theirs != ours:
            raise Refused(f"The surrogate {one.name} {what.format(theirs, ours)}.", f"Choose a model {mend}.")
    theirs, ours = one.class_names, model.class_names
    if theirs != ours and sorted(theirs) == sorted(ours):
        at = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
        raise Refused(
            f"The surrogate {one.name} has the same classes in another order: its class {at} is {theirs[at]}, that of "
            f"the attacked model is {ours[at]}.",
            "Upload it with the class names in the order in which it was trained, or choose another model.",
        )


def of(job: Job) -> list[ModelUpload]:
    """In the order in which they were given, which decides the seeds."""
    found = {str(one.pk): one for one in job.surrogates.select_related("blob")}
    return [found[pk] for pk in job.request.get("surrogates", []) if pk in found]


def normalization(model: ModelUpload) -> dict[str, list[float]]:
    """Its own mean and standard deviation, as the check of the upload found them: {} where that is not known."""
    read = model.facts.get("preprocessing") or model.preprocessing or {}
    if not read.get("mean") and not read.get("std") and not model.facts.get("preprocessing"):
        return {}
    channels = model.facts.get("in_channels") or len(read.get("mean") or read.get("std") or [])
    return {
        "mean": list(read.get("mean") or [0.0] * channels),
        "std": list(read.get("std") or [1.0] * channels),
    }
