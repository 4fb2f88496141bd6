"""Doorbells: messages that say 'there is work for your kind of device'. Losing one costs time, never work.

What is done is chosen by who hears it (`fair.take`). For new work as many are rung as there are workers; each worker
that was given something rings once more for the next, so as many bells go round as are needed, however long the queue.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from webapp import clock
from webapp.jobs import fair, leases
from webapp.jobs.models import Job, Lane, Shard
from webapp.jobs.sharding import workers_alive
from webapp.library.tasks import send

_AT_ONCE = 500
_DOUBLINGS = 5  # of the pause between two bells for the same work


def ring(queue: str, shards: int = 1) -> None:
    """Tell workers of this queue that so many shards wait."""
    for _ in range(min(shards, workers_alive(queue)) if shards > 1 else shards):
        send("webapp.jobs.tasks.run_shard", queue, queue=queue)


def ring_on_commit(queue: str, shards: int = 1) -> None:
    transaction.on_commit(lambda: ring(queue, shards))


def ring_advance(job: Job) -> None:
    """Every shard of the round is done, yet the job stands still: whoever finished the last one died."""
    send("webapp.jobs.tasks.advance", str(job.pk), queue=job.queue)


def ring_again() -> None:
    """For shards that wait anew, and for what waits though nobody may have been told: messages get lost."""
    for queue, device in fair.DEVICES.items():
        _ring_for_those_back(queue, device)
        _ring_for_the_lost(queue, device, clock.now())


def _ring_for_those_back(queue: str, device: str) -> None:
    """They were taken back, or their pause is over."""
    here = Q(job__device=device, job__state__in=Job.ACTIVE, job__paused_at=None)
    back = Shard.objects.filter(here, leases.due(clock.now()), state=Shard.State.PENDING, rung_at=None)
    if pks := list(back.values_list("pk", flat=True)[:_AT_ONCE]):
        mine = Shard.objects.filter(pk__in=pks, state=Shard.State.PENDING, rung_at=None).update(rung_at=clock.now())
        ring(queue, mine)


def _ring_for_the_lost(queue: str, device: str, now: datetime) -> None:
    """Where workers stand idle beside work, for each of them; where none does, more and more rarely."""
    lane, _ = Lane.objects.get_or_create(queue=queue)
    pause = timedelta(seconds=settings.BELL_SECONDS * 2 ** min(lane.rings, _DOUBLINGS))
    busy = Shard.objects.filter(job__device=device, job__state__in=Job.ACTIVE, state=Shard.State.LEASED).count()
    idle = workers_alive(queue) - busy
    last = max((at for at in (lane.rung_at, None if idle > 0 else lane.taken_at) if at), default=None)
    if (last and last + pause > now) or not fair.waits(queue, now - pause):
        return
    # The duty of ringing is taken, so that two reapers do not both ring.
    if Lane.objects.filter(pk=queue, rung_at=lane.rung_at).update(rung_at=now, rings=F("rings") + 1):
        ring(queue, max(1, idle))
