"""Doorbells: messages that say 'look at this row'. Losing one costs time, never work."""

from __future__ import annotations

from django.db import transaction

from webapp.jobs import leases
from webapp.jobs.models import Job, Shard
from webapp.library.tasks import send


def ring(shard: Shard) -> None:
    """Tell the workers of the job's kind of device that this shard waits."""
    if leases.mark_rung(shard):
        send("webapp.jobs.tasks.run_shard", str(shard.pk), queue=shard.job.queue)


def ring_on_commit(shards: list[Shard]) -> None:
    transaction.on_commit(lambda: [ring(shard) for shard in shards])


def ring_advance(job: Job) -> None:
    """Every shard of the round is done, yet the job stands still: whoever finished the last one died."""
    send("webapp.jobs.tasks.advance", str(job.pk), queue=job.queue)
