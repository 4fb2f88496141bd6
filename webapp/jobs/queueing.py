"""What people say about their runs while they wait or work: priority, pause, resume; and how many may wait."""

from __future__ import annotations

from django.db import transaction

from webapp import clock
from webapp.accounts.models import User
from webapp.jobs import bells, fair
from webapp.jobs.models import Allowance, Event, Job, Shard
from webapp.library.errors import Refused

PRIORITIES = {"low": Job.Priority.LOW, "normal": Job.Priority.NORMAL, "high": Job.Priority.HIGH}
BY_STAFF = {**PRIORITIES, "urgent": Job.Priority.URGENT}
WORDS = {number: word for word, number in BY_STAFF.items()}


def check(user: User, priority: int) -> int:
    """Before a run is started: behind how many of the person's own it will wait; 0 where it waits for workers alone.

    Raises Refused: as many wait as may; or only staff may give this priority.
    """
    _check_priority(user, priority)
    limits = fair.limits_of(user)
    waiting = fair.queued(user)
    if limits.queued and waiting >= limits.queued:
        raise Refused(
            f"{waiting} of your runs wait already, and no more than {limits.queued} may.",
            "Start it when one of them has begun, or cancel one; staff can raise the limit.",
            status=409,
        )
    begun = fair.running(user)
    return begun if 0 < limits.running <= begun else 0


def _check_priority(user: User, priority: int) -> None:
    if priority == Job.Priority.URGENT and not user.is_staff:
        raise Refused(
            "Only staff can make a run urgent: it comes before other people's.",
            f"Yours can be {', '.join(PRIORITIES)}.",
            status=403,
        )


def offered(user: User, job: Job) -> list[str]:
    """The priorities that this person may give it, with the one that it has."""
    return [word for word, number in BY_STAFF.items() if word in PRIORITIES or user.is_staff or job.priority == number]


def prioritize(*, by: User, job: Job, priority: int) -> None:
    """Its place among the runs of whoever started it; at once, also of a run under way.

    Raises Refused: it has ended; only staff may give this priority, or take it away.
    """
    _check_priority(by, priority)
    if job.priority == Job.Priority.URGENT:
        _check_priority(by, job.priority)
    with transaction.atomic():
        same = Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE)
        if not same.exclude(priority=priority).update(priority=priority):
            if not same.exists():
                raise Refused(f"This {job.word} has ended: there is nothing left to do.", status=409)
            return
        Event.objects.create(job=job, kind="priority", data={"priority": WORDS[priority], "by": by.username})
    job.priority = priority


def pause(*, by: User, job: Job) -> bool:
    """No further shard of it is begun. Those under way are given back at the end of their block, with what they have.

    False: it was paused. Raises Refused: it has ended.
    """
    with transaction.atomic():
        active = Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE)
        changed = active.filter(paused_at=None).update(paused_at=clock.now(), admitted_at=None)
        if changed:
            Event.objects.create(job=job, kind="paused", data={"by": by.username})
            bells.ring_on_commit(job.queue)  # another of the person's runs may begin in its place
        elif not active.exists():
            raise Refused(f"This {job.word} has ended: there is nothing left to pause.", status=409)
    job.refresh_from_db()
    return bool(changed)


def resume(*, by: User, job: Job) -> bool:
    """It goes on from the blocks that are done, when its turn comes.

    False: it was not paused. Raises Refused: it has ended.
    """
    with transaction.atomic():
        active = Job.objects.filter(pk=job.pk, state__in=Job.ACTIVE)
        changed = active.filter(paused_at__isnull=False).update(paused_at=None)
        if changed:
            Event.objects.create(job=job, kind="unpaused", data={"by": by.username})
            bells.ring_on_commit(job.queue, job.shards.filter(state=Shard.State.PENDING).count())
        elif not active.exists():
            raise Refused(f"This {job.word} has ended: there is nothing left to resume.", status=409)
    job.refresh_from_db()
    return bool(changed)


def allow(
    *, user: User, weight: float = 1.0, running: int | None = None, queued: int | None = None,
    workers: int | None = None,
) -> None:  # fmt: skip
    """By staff, for one person. None: as the settings say; 0: no limit."""
    said = {"weight": weight, "running": running, "queued": queued, "workers": workers}
    Allowance.objects.update_or_create(user=user, defaults=said)
    for queue in fair.DEVICES:  # what they could not begin before they may be able to now
        bells.ring_on_commit(queue)
