"""Puts right what nobody else will: leases that ran out, bells that were lost, files of ended jobs.

Runs after shards, on status polls and from beat; at most every few seconds in one process. Everything in it
is conditional, so any number may run at once.
"""

from __future__ import annotations

import logging
import shutil
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import Error, connection
from django.db.models import F, Q
from django.utils import timezone

from webapp.jobs import bells, leases, removal, storage, webhooks
from webapp.jobs.models import Job, Shard
from webapp.library import quota
from webapp.library import services as library
from webapp.library.models import DatasetUpload, ModelUpload, Upload

log = logging.getLogger(__name__)
_last = 0.0
LEFTOVERS = timedelta(days=2)
SILENT = timedelta(hours=1)  # an upload to which nothing was written for so long
KEEP_FILES = timedelta(minutes=10)  # a worker that has not yet noticed a cancel may still write
KEEP_CASES = timedelta(hours=2)  # what was made ready for questions about other sets of units, after the last of them
KEEP_FAILED = timedelta(days=7)  # a job that failed on our side goes on from its finished blocks when asked to


def reap(*, force: bool = False) -> None:
    """A database that is away, or has no room, is no reason to fail: whoever looks at a page did not ask for this."""
    global _last
    now = time.monotonic()
    if not force and now - _last < settings.REAP_EVERY:
        return
    _last = now
    try:
        _reap(force=force)
    except Error as error:
        if connection.in_atomic_block:
            raise
        log.warning("the reaper stopped half-way and will begin again: %s", str(error).strip())
        connection.close()


def _reap(*, force: bool) -> None:
    if expired := leases.expire():
        log.warning("took back %d expired leases: shards %s", len(expired), expired)
    for shard in leases.pending_bells():
        bells.ring(shard)
    for job in _standing_still():
        bells.ring_advance(job)
    for delivery in webhooks.due():
        webhooks.ring(delivery)
    _ring_uploads()
    _sweep()
    if force:  # by beat, not by a page that is waited for
        storage.sweep_sometimes()


def _standing_still() -> list[Job]:
    """Active jobs whose round is complete, or has failed, and that nobody moved on."""
    waiting = (Shard.State.PENDING, Shard.State.LEASED)
    busy = Shard.objects.filter(state__in=waiting, job__state__in=Job.ACTIVE).values("job")
    ago = timezone.now() - timedelta(seconds=settings.REAP_EVERY)
    stuck = Job.objects.filter(state__in=Job.ACTIVE).exclude(pk__in=busy)
    failed = Job.objects.filter(state__in=Job.ACTIVE, shards__state=Shard.State.FAILED)
    just_moved = Shard.objects.filter(
        job__state__in=Job.ACTIVE, finished_at__gt=ago, phase=F("job__phase"), round=F("job__round")
    ).values("job")
    return list((stuck | failed).distinct().exclude(pk__in=just_moved)[:50])


def _ring_uploads() -> None:
    ago = timezone.now() - timedelta(seconds=settings.LEASE_SECONDS)
    lost = Q(rung_at=None) | Q(rung_at__lt=ago)
    for kind in (ModelUpload, DatasetUpload):
        for upload in kind.objects.filter(lost, state=Upload.State.VALIDATING)[:50]:
            if upload.attempts >= settings.MAX_ATTEMPTS:
                kind.objects.filter(pk=upload.pk, state=Upload.State.VALIDATING).update(
                    state=Upload.State.REJECTED,
                    error="The check of this file did not come to an end.",
                    mend="Upload it again; if that does not help, ask the operator to look at the log.",
                )
            else:
                library.ring(upload)


def _sweep() -> None:
    """Remove the working files of jobs that ended a while ago, and what crashes left. Results are blobs and stay."""
    now = timezone.now()
    removal.purge_due()
    rows = Job.objects.exclude(state__in=Job.ACTIVE).filter(swept_at=None, finished_at__lt=now - KEEP_FILES)
    rows = rows.exclude(state=Job.State.FAILED, fault="server", finished_at__gt=now - KEEP_FAILED)
    for job in rows[:20]:
        shutil.rmtree(job.directory, ignore_errors=True)
        Job.objects.filter(pk=job.pk).update(swept_at=timezone.now())
    _sweep_leftovers()
    resting = time.time() - KEEP_CASES.total_seconds()
    for path in (settings.JOB_DIR / "what-if").glob("*"):
        if _age(path) < resting:
            shutil.rmtree(path, ignore_errors=True)


def _sweep_leftovers() -> None:
    """Uploads that were cut off by a crash, and folders of jobs that were deleted while a worker wrote to them."""
    quota.release_stale()
    before = time.time() - LEFTOVERS.total_seconds()
    silent = time.time() - SILENT.total_seconds()
    for path in settings.INCOMING_DIR.glob("*"):
        if _age(path) < (silent if path.name.startswith("up-") else before):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    folders = [path for path in settings.JOB_DIR.glob("????????-????-????-????-????????????") if _age(path) < before]
    known = {str(pk) for pk in Job.objects.filter(pk__in=[path.name for path in folders]).values_list("pk", flat=True)}
    for path in folders:
        if path.name not in known:
            shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
