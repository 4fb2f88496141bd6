"""Runs of several people, and workers that take and end shards without computing anything."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from repair_engine.settings import Repair
from webapp.accounts.models import User
from webapp.jobs import fair, leases, services
from webapp.jobs.leases import Lease
from webapp.jobs.models import Job, Shard


def start(person, *, shards: int = 0, name: str = "", **more) -> Job:
    """A run; with `shards` it samples, and so many wait."""
    job, _ = services.create_job(
        owner=person.user,
        model=person.model,
        dataset=person.dataset,
        asked=Repair(metric="accuracy"),
        name=name,
        **more,
    )
    if shards:
        job.shards.all().delete()
        Job.objects.filter(pk=job.pk).update(state=Job.State.PROCESSING, phase="search", started_at=timezone.now())
        rows = [Shard(job=job, phase="search", first_block=i, rung_at=timezone.now()) for i in range(shards)]
        Shard.objects.bulk_create(rows)
        job.refresh_from_db()
    return job


def take(queue: str = "cpu", worker: str = "w/1/1") -> Lease | None:
    return fair.take(queue, worker)


def ended(lease: Lease, seconds: float = 60.0) -> None:
    leases.finish(lease, result="0" * 64)
    fair.settle(lease, seconds)


def served(count: int, queue: str = "cpu", seconds: dict[str, float] | None = None) -> list[str]:
    """Whose shards one worker is given, one after the other, by name; `seconds` that each of a person's takes."""
    found = []
    for _ in range(count):
        lease = take(queue)
        if lease is None:
            break
        found.append(owner_of(lease).username)
        ended(lease, (seconds or {}).get(found[-1], 60.0))
    return found


def owner_of(lease: Lease) -> User:
    return Job.objects.select_related("made_by").get(pk=lease.job_id).made_by


def jobs_of(taken: Sequence[Lease]) -> list[str]:
    return [Job.objects.get(pk=lease.job_id).name for lease in taken]
