"""What may be asked of a job (`repair_engine.settings`), as it is kept in its row, and as the worker gets it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from repair_engine.errors import BadInput
from repair_engine.settings import ASKED, Attack, Further, Repair, Settings, option, options
from webapp.jobs import surrogates, triggers
from webapp.jobs.models import Baseline, Job
from webapp.library.models import Blob, DatasetUpload, ModelUpload

KINDS = tuple(kind for kind in ASKED if kind != Attack.verb)  # of runs under /repairs/
VALUES = "objectives.npz"  # the file of values that a repair may start from
KEPT_VALUES = (VALUES, "values.npz")  # as `score` leaves it, and a repair
_HASH = re.compile(r"[0-9a-f]{64}")
_REPAIRS_NOTHING = {"explain": "An explanation", "score": "A run that values filters", "attack": "An attack"}


@dataclass(frozen=True, kw_only=True)
class Followed(Further, Repair):
    """A repair as rows keep it; one that goes on from a run has that run's `also`, which had a part in the splits."""

    stored: bool = option(False, "The values of the run that it goes on from stand for a search.")
    report_uses: int = option(
        0, "Reports on the same report images that were made before.", label="Reports on the same images before", low=0
    )


def asked(values: Mapping[str, Any], kind: str = "") -> Settings:
    """The record of what somebody asks for; None, empty texts and empty lists say nothing.

    Args:
        kind: of ASKED; by default the one that `values` name, else a repair.

    Raises:
        BadInput: with its field: what cannot be, or belongs to another kind, or is more than a server takes.
    """
    kind = kind or values.get("kind") or Repair.verb
    if kind not in ASKED:
        raise BadInput(f"{kind!r} is not one of {', '.join(KINDS)}.", field="kind")
    given = {name: value for name, value in values.items() if name != "kind" and value not in (None, "", [])}
    for name in [*given]:
        if name not in options(ASKED[kind]):
            if given[name] is False:  # a switch that is off asks for nothing
                del given[name]
                continue
            takes = [other for other, record in ASKED.items() if name in options(record)]
            why = f" {_REPAIRS_NOTHING[kind]} repairs nothing." if kind != Repair.verb and Repair.verb in takes else ""
            raise BadInput(f"Only a run of kind {' or '.join(takes)} takes this.{why}", field=name)
    made = ASKED[kind].from_record(given)
    made.check_served()
    return made


def stored(row: Mapping[str, Any]) -> Settings:
    """The record of a job's `request`. Raises BadInput."""
    kind = row.get("kind") or Repair.verb
    return (Followed if kind == Repair.verb else ASKED[kind]).from_record(row)


def to_row(record: Settings) -> dict[str, Any]:
    """As `Job.request` keeps it: without defaults."""
    kind = {} if record.verb == Repair.verb else {"kind": record.verb}
    return kind | ({"metric": record.metric} if isinstance(record, Attack) else {}) | record.to_record()


def new_secret() -> str:
    return "whsec_" + secrets.token_urlsafe(24)


def _model(model: ModelUpload) -> dict:
    return {
        "path": str(model.blob.path),
        "file_name": model.file_name,
        "sha256": model.blob_id,
        "architecture": model.architecture,
        "num_classes": model.num_classes,
        "options": model.options,
        "weights": model.weights or None,
        "key": model.key,
        "strip_prefix": model.strip_prefix,
        "register": settings.ARCHITECTURES,
        "classes_text": model.classes_text,
        "preprocessing": model.preprocessing,
    }


def _images(images: DatasetUpload | None) -> dict | None:
    if images is None:
        return None
    return {
        "path": str(images.blob.path),
        "file_name": images.file_name,
        "split_folder": images.split_folder,
        "sha256": images.blob_id,
    }


def _trigger(job: Job) -> dict | None:
    found = triggers.file_of(job)
    return None if found is None else {"path": str(found.blob.path), "file_name": found.name}


def _repaired(repair: Job | None) -> dict | None:
    """The checkpoint of the repair that an attack is also made on."""
    if repair is None:
        return None
    found = repair.checkpoint
    return None if found is None else {"path": str(found.blob.path), "file_name": found.name}


def for_engine(job: Job) -> dict:
    """Everything the engine's request is built from, as JSON."""
    return {
        **job.request,
        "model": _model(job.model),
        "surrogates": [{**_model(one), **surrogates.normalization(one)} for one in surrogates.of(job)],
        "data": _images(job.dataset),
        "guard": _images(job.guard),
        "triggered": _images(job.triggered),
        "trigger": _trigger(job),
        "repaired": _repaired(job.audited),
        "device": job.device,
        "threads": settings.WORKER_THREADS,
        "parent": _of_parent(job),
        "looked_before": Baseline.objects.filter(
            model__blob=job.model.blob_id, dataset=job.dataset_id, figures__isnull=False
        ).exists(),
    }


def at_hand(asked: dict[str, Any]) -> dict[str, Any]:
    """A request that was kept, with its files where they are on this machine now."""
    roles = [role for role in ("model", "data", "guard", "triggered", "trigger", "repaired") if asked.get(role)]
    found = {role: {**asked[role], "path": place_of(asked[role]["path"])} for role in roles}
    others = [{**one, "path": place_of(one["path"])} for one in asked.get("surrogates", [])]
    return {**asked, **found, "surrogates": others}


def place_of(path: str) -> str:
    """Where the file is now that was here, or on another machine, at `path`: stored files are called by their hash."""
    name = Path(path).name
    return str(Blob(sha256=name).path) if _HASH.fullmatch(name) else path


def of_pair(model: ModelUpload, dataset: DatasetUpload, device: str) -> dict:
    """The engine's request of a repair for accuracy that is asked for by no run."""
    row = to_row(Repair(metric="accuracy"))
    pair = {"model": _model(model), "data": _images(dataset), "guard": None, "surrogates": []}
    return {**row, **pair, "device": device, "threads": settings.WORKER_THREADS}


def _of_parent(job: Job) -> dict | None:
    """What a follow-up takes from its parent: the budget and the images that were used there, and its values."""
    if job.searches or job.parent is None:
        return None
    values = job.parent.artifacts.select_related("blob").filter(name__in=KEPT_VALUES).first()
    return {
        "budget": job.parent.summary.get("budget"),
        "attack_images": job.parent.summary.get("attack_images"),
        "values": str(values.blob.path) if values is not None and job.request.get("stored") else None,
    }
