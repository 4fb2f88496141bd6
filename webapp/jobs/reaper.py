"""Puts right what nobody else will: leases that ran out, bells that were lost; and removes what is kept no longer.

Runs after shards, on status polls and from beat; at most every few seconds in one process. Everything in it
is conditional, so any number may run at once.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.conf import settings
from django.db import Error, connection
from django.db.models import F, Q

from webapp import clock
from webapp.jobs import bells, cleanup, leases, webhooks
from webapp.jobs.models import Job, Lane, Shard
from webapp.library import quota
from webapp.library import services as library
from webapp.library.models import DatasetUpload, ModelUpload, Upload
from webapp.steady import steadily

log = logging.getLogger(__name__)
_last = 0.0


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


def after_shard(queue: str) -> None:
    """Of all workers of a queue one, every few seconds: beat may have died."""
    now = clock.now()
    due = Q(reaped_at=None) | Q(reaped_at__lt=now - timedelta(seconds=settings.REAP_EVERY))
    if steadily(lambda: Lane.objects.filter(due, pk=queue).update(reaped_at=now)):
        reap()


def _reap(*, force: bool) -> None:
    if expired := leases.expire():
        log.warning("took back %d expired leases: shards %s", len(expired), expired)
    bells.ring_again()
    for job in _standing_still():
        bells.ring_advance(job)
    for delivery in webhooks.due():
        webhooks.ring(delivery)
    _ring_uploads()
    quota.release_stale()
    cleanup.often()
    if force:  # by beat, not by a page that is waited for
        cleanup.sometimes()


def _standing_still() -> list[Job]:
    """Active jobs whose round is complete, or has failed, and that nobody moved on."""
    waiting = (Shard.State.PENDING, Shard.State.LEASED)
    busy = Shard.objects.filter(state__in=waiting, job__state__in=Job.ACTIVE).values("job")
    ago = clock.now() - timedelta(seconds=settings.REAP_EVERY)
    stuck = Job.objects.filter(state__in=Job.ACTIVE).exclude(pk__in=busy)
    failed = Job.objects.filter(state__in=Job.ACTIVE, shards__state=Shard.State.FAILED)
    just_moved = Shard.objects.filter(
        job__state__in=Job.ACTIVE, finished_at__gt=ago, phase=F("job__phase"), round=F("job__round")
    ).values("job")
    return list((stuck | failed).distinct().exclude(pk__in=just_moved)[:50])


def _ring_uploads() -> None:
    ago = clock.now() - timedelta(seconds=settings.LEASE_SECONDS)
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
