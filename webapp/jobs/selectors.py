"""Reads: who works, at what pace, and what runs keep."""

from __future__ import annotations

from django.db.models import Q, QuerySet, Sum

from webapp import clock
from webapp.jobs.leases import SILENT
from webapp.jobs.models import FINISH, PREPARE, Artifact, Event, Job, Shard, Worker


def live_workers() -> list[Worker]:
    """Worker processes that said something lately."""
    return list(Worker.objects.filter(seen_at__gt=clock.now() - SILENT).order_by("name"))


def live_count() -> int:
    return Worker.objects.filter(seen_at__gt=clock.now() - SILENT).count()


def results_of(kept: Q) -> QuerySet:
    """The names of blobs that are results of these runs."""
    return Artifact.objects.filter(kept).values("blob")


def expected_of(kept: Q) -> int:
    """Bytes that those of these runs will keep that are under way: a repaired checkpoint has its model's size."""
    under_way = Job.objects.filter(kept, state__in=Job.ACTIVE)
    return under_way.aggregate(total=Sum("model__blob__size"))["total"] or 0


_EVENTS_AT_ONCE = 200
RECENT = 20  # shards from which the pace is taken


def recent(shards: QuerySet[Shard]) -> QuerySet[Shard]:
    """The latest of them that were sampled from beginning to end by one worker."""
    # Of a shard that was taken up again, part of the work was done before it was claimed.
    finished = shards.filter(state=Shard.State.DONE, attempt=1).exclude(phase__in=(PREPARE, FINISH))
    return finished.order_by("-finished_at")[:RECENT]


def evaluations_per_second(job: Job) -> float | None:
    """Of one worker, from the latest finished shards of sampling; None before there is one."""
    evaluations, seconds = 0, 0.0
    for shard in recent(job.shards.all()):
        evaluations += shard.done
        seconds += (shard.finished_at - shard.claimed_at).total_seconds()
    return evaluations / seconds if evaluations and seconds > 0 else None


def events(job: Job, *, after: int = 0) -> list[Event]:
    """The first of those that came later than one."""
    return list(job.events.filter(pk__gt=after).order_by("pk")[:_EVENTS_AT_ONCE])
