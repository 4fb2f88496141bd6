"""Deleting runs: they are out of sight at once, and gone with their files some minutes later, until when they can
come back. Until they are gone they count in the quota of whose they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from webapp import clock
from webapp.jobs import services
from webapp.jobs.models import Job
from webapp.library import blobs
from webapp.library import services as library
from webapp.library.errors import Refused
from webapp.library.models import Upload
from webapp.library.store import get_store

UNDO = timedelta(minutes=10)


@transaction.atomic
def delete_jobs(jobs: Sequence[Job]) -> tuple[list[Job], list[Refused]]:
    """Those that were deleted, and for each other one why it is kept.

    A run is kept while it works, while a repair that goes on from it does, and while an attack measures its checkpoint,
    unless that is deleted with it.
    """
    rows = list(Job.objects.select_for_update().filter(pk__in=[job.pk for job in jobs], deleted_at=None))
    now = clock.now()
    kept: list[Refused] = []
    going: dict[object, Job] = {}
    for row in sorted(rows, key=lambda row: row.audited_id is None):  # attacks first
        if why := _keeps(row, going):
            kept.append(why)
        else:
            going[row.pk] = row
    # Its key may start another run at once, as after any deletion.
    Job.objects.filter(pk__in=going).update(deleted_at=now, idempotency_key=None)
    return list(going.values()), kept


def _keeps(row: Job, going: dict[object, Job]) -> Refused | None:
    if not row.ended:
        return Refused(f"{row.title}: this {row.word} is still running.", "Cancel it first.", status=409)
    if (going_on := row.followups.filter(state__in=Job.ACTIVE).first()) is not None:
        return Refused(
            f"{row.title}: a repair that goes on from this one is still running ({going_on.pk}).",
            "Wait for it, or cancel it.",
            status=409,
        )
    if audits := [str(one) for one in row.audits.filter(deleted_at=None).exclude(pk__in=going)[:5]]:
        return Refused(
            f"{row.title}: the attack {', '.join(audits)} measures this repair's checkpoint.",
            "Delete that first.",
            status=409,
        )
    return None


def delete_job(job: Job) -> None:
    """Raises Refused where it is kept: see `delete_jobs`."""
    if kept := delete_jobs([job])[1]:
        raise kept[0]


@transaction.atomic
def restore(jobs: Iterable[Job]) -> None:
    """Take deletions back; of an attack on a repair's checkpoint that of the repair, too."""
    for job in jobs:
        Job.objects.filter(pk__in=[job.pk, job.audited_id]).update(deleted_at=None)


def latest(deleted: QuerySet[Job]) -> list[Job]:
    """Of deleted runs those of the latest deletion."""
    rows = deleted.order_by("-deleted_at")
    last = rows.values_list("deleted_at", flat=True).first()
    return [] if last is None else list(rows.filter(deleted_at=last))


@transaction.atomic
def purge(job: Job) -> None:
    """Remove a deleted run for good, with its files and with the attacks on its checkpoint, which are deleted, too."""
    row = Job.objects.select_for_update().filter(pk=job.pk).exclude(deleted_at=None).first()
    if row is None:
        return  # it came back, or somebody else was faster
    for audit in row.audits.all():
        purge(audit)
    used = sorted(set(row.artifacts.values_list("blob_id", flat=True)))
    row.delete()
    for sha256 in used:
        blobs.drop(sha256)
    transaction.on_commit(partial(get_store().delete_folder, f"jobs/{job.pk}"), robust=True)
    ready = settings.JOB_DIR / "what-if" / str(job.pk)
    transaction.on_commit(partial(shutil.rmtree, ready, ignore_errors=True))


@transaction.atomic
def delete_upload(upload: Upload) -> None:
    """With the deleted runs that used it: none of them can come back then.

    Raises:
        InUse: a run refers to it.
    """
    uses = library.runs_with(upload)
    if not any(jobs.filter(deleted_at=None).exists() for jobs in uses):
        for job in {job.pk: job for jobs in uses for job in jobs.all()}.values():
            purge(job)
    library.delete_upload(upload=upload)


@transaction.atomic
def erase(jobs: Sequence[Job], uploads: Sequence[Upload]) -> None:
    """All that belongs to an account or a team that is closed, with everything derived. What runs is stopped first."""
    for job in jobs:
        services.cancel_job(job=job)
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(deleted_at=clock.now(), idempotency_key=None)
    for job in jobs:
        purge(job)
    for upload in uploads:
        delete_upload(upload)
