"""The end of a job: its result files, named by hash, and the headline in the row."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from django.db import transaction

from webapp import clock
from webapp.jobs import bells, files, receipts, webhooks
from webapp.jobs.models import Artifact, Event, Job, Shard, gain_of
from webapp.library import blobs

MEDIA_TYPES = {
    ".safetensors": "application/octet-stream",
    ".onnx": "application/octet-stream",
    ".pth": "application/octet-stream",
    ".pt": "application/octet-stream",
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".npz": "application/octet-stream",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}

REPAIRS = (Job.Outcome.REPAIRED, Job.Outcome.NO_REPAIR, Job.Outcome.NOT_SHOWN)  # get a receipt


def work_directory(job: Job) -> Path:
    """What preparing wrote; read-only from then on."""
    return files.directory(job, job.work)


def media_type(name: str) -> str:
    suffix = Path(name).suffix
    return MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def succeed(job: Job, shard: Shard) -> bool:
    """Record the files and the outcome. True: the job had moved meanwhile, look again."""
    finished = files.get_json(job, shard.result)
    directory, result = files.directory(job, finished["out"]), finished["result"]
    copies: list[tuple[str, blobs.Ready]] = []
    moved = True
    try:
        for name in finished["files"]:
            copies.append((name, blobs.ready_copy(directory / name)))
        moved = _record(job, result, copies)
        return moved
    finally:
        for _, copy in copies:  # what was stored has moved
            copy.path.unlink(missing_ok=True)
        if moved:
            blobs.give_up(*(copy for _, copy in copies))


def _record(job: Job, result: dict, copies: list[tuple[str, blobs.Ready]]) -> bool:
    if result.get("attacked"):
        outcome = Job.Outcome.ATTACKED
    elif result.get("explained"):
        outcome = Job.Outcome.EXPLAINED
    elif result.get("scored"):
        outcome = Job.Outcome.SCORED
    else:
        outcome = Job.Outcome(result.get("outcome") or ("repaired" if result["repaired"] else "no_repair_found"))
    gain, lower, upper = gain_of(result)
    with transaction.atomic():
        won = Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE, phase=job.phase).update(
            state=Job.State.SUCCEEDED,
            outcome=outcome,
            result=result,
            gain=gain,
            gain_lower=lower,
            gain_upper=upper,
            warnings=result.get("warnings", job.warnings),
            held="",
            finished_at=clock.now(),
        )
        if not won:
            return True
        for name, copy in sorted(copies, key=lambda item: item[1].sha256):  # two ends lock in the same order
            blob = blobs.put(copy)
            Artifact.objects.create(job=job, name=name, media_type=media_type(name), blob=blob)
        if outcome in REPAIRS:
            job.refresh_from_db(fields=["finished_at"])
            receipts.give(job, outcome, result, {name: copy.sha256 for name, copy in copies})
        Event.objects.create(job=job, kind=Job.State.SUCCEEDED, data={"outcome": outcome})
        bells.ring_on_commit(job.queue)  # another of the person's runs may begin in its place
        webhooks.announce(job, "repair.finished")
    return False
