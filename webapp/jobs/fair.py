"""Which shard a worker is given: people take turns by weighted fair share, whatever bell it heard.

It is start-time fair queueing (Goyal, Vin & Cheng, 1996) over people, one lane for each kind of device:

1. lock the lane's row: workers of one kind are given shards one after the other (SQLite has one writer anyway);
2. of the people with a shard that may be worked on now, take the one whose `Share.virtual` is least, of their runs the
   one of the highest priority and of these the oldest, and its first shard; lease it (`leases.claim_of`);
3. charge its person: virtual = max(virtual, lane.virtual) + SHARD_SECONDS / weight, and the lane's becomes what stands
   before the +. So work under way counts from its beginning, and who comes back after a pause starts level with the
   others, with neither a debt nor a store of turns;
4. when the shard has ended, what it took in the place of SHARD_SECONDS (`settle`).

`virtual` of whoever waits stands still while that of all who are served grows: nobody starves. Somebody new waits for
no more than the next worker that ends its shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Count, Exists, F, FloatField, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce, Greatest

from webapp import clock
from webapp.accounts.models import User
from webapp.jobs import leases
from webapp.jobs.leases import Lease
from webapp.jobs.models import Allowance, Job, Lane, Shard, Share
from webapp.steady import steadily

DEVICES = {"cpu": "cpu", "gpu": "cuda"}  # of a run, by the queue of its workers
RUNNING = Q(state__in=Job.ACTIVE, paused_at=None, admitted_at__isnull=False)
_LEAST = 0.01  # weight
_FEW = 16


@dataclass(frozen=True)
class Limits:
    """Of one person; 0: none."""

    running: int
    queued: int
    workers: int


def limits_of(user: User) -> Limits:
    return limits_by(Allowance.objects.filter(user=user).first())


def limits_by(own: Allowance | None) -> Limits:
    """Of whoever has this allowance, or none."""
    usual = {"running": settings.USER_RUNNING, "queued": settings.USER_QUEUED, "workers": settings.USER_WORKERS}
    given = {name: getattr(own, name, None) for name in usual}
    return Limits(**{name: number if given[name] is None else given[name] for name, number in usual.items()})


def running(user: User) -> int:
    """Runs of a person that have been begun, and are not paused."""
    return Job.objects.filter(RUNNING, share__user=user).count()


def queued(user: User) -> int:
    """Runs of a person that have not ended and do not run."""
    return Job.objects.filter(share__user=user, state__in=Job.ACTIVE).exclude(RUNNING).count()


def take(queue: str, worker: str) -> Lease | None:
    """The shard whose turn it is among those that wait for workers of this queue; None where none may be begun."""
    device, tries, now = DEVICES[queue], 0, clock.now()

    def again() -> Lease | None:
        nonlocal tries
        tries += 1
        # When the connection was cut, it may have been given to us all the same.
        held = leases.held_since(worker, now) if tries > 1 else None
        return held or _take(queue, device, worker, now)

    return steadily(again)


@transaction.atomic
def _take(queue: str, device: str, worker: str, now: datetime) -> Lease | None:
    if (lane := Lane.objects.select_for_update().filter(pk=queue).first()) is None:
        Lane.objects.get_or_create(queue=queue)
        lane = Lane.objects.select_for_update().get(pk=queue)
    for chosen in _in_turn(within_limits(device), leases.due(now)):
        if lease := leases.claim_of(chosen["pk"], worker, now=now):
            _charge(lane, chosen, now)
            return lease
        # It was cancelled, or put off, since it was read: another one's turn.
    return None


def _charge(lane: Lane, chosen: dict, now: datetime) -> None:
    share = chosen["share"] or _given_share(chosen["pk"])
    begins = max(lane.virtual, chosen["virtual"])
    Share.objects.filter(pk=share).update(virtual=begins + settings.SHARD_SECONDS / chosen["weight"])
    # What comes before its turn moves nobody else's.
    stands = lane.virtual if chosen["priority"] == Job.Priority.URGENT else begins
    Lane.objects.filter(pk=lane.pk).update(virtual=stands, taken_at=now, rings=0)
    if chosen["admitted_at"] is None:
        Job.objects.filter(pk=chosen["pk"]).update(admitted_at=now)


def _given_share(pk: UUID) -> int:
    """Of a run from before there were shares."""
    job = Job.objects.select_related("made_by", "owner", "team__payer").get(pk=pk)
    share = job.own_share()
    Job.objects.filter(pk=pk).update(share=share)
    return share.pk


def settle(lease: Lease, seconds: float) -> None:
    """The shard was worked on for so long, not for SHARD_SECONDS."""
    weight = Share.objects.filter(jobs=lease.job_id).values_list(_weight("user__allowance__weight"), flat=True).first()
    if weight is not None:
        more = (seconds - settings.SHARD_SECONDS) / weight
        served = F("served") + seconds
        Share.objects.filter(jobs=lease.job_id).update(virtual=F("virtual") + more, served=served)


def waits(queue: str, rung_before: datetime) -> bool:
    """Whether a worker would be given something for which the last bell was rung before then."""
    due = leases.due(clock.now()) & Q(rung_at__lte=rung_before)
    return _with_shards(within_limits(DEVICES[queue]), due).exists()


def _with_shards(runs: QuerySet[Job], due: Q) -> QuerySet[Job]:
    return runs.filter(Exists(Shard.objects.filter(due, job=OuterRef("pk"), state=Shard.State.PENDING)))


def within_limits(device: str) -> QuerySet[Job]:
    """Runs that are under way or may be begun: none that are paused or wait behind their own people's others."""
    full, occupied = _over(device)
    runs = Job.objects.filter(device=device, state__in=Job.ACTIVE, paused_at=None)
    if full:
        runs = runs.filter(Q(admitted_at__isnull=False) | Q(share__user=None) | ~Q(share__user__in=full))
    if occupied:
        runs = runs.filter(Q(share__user=None) | ~Q(share__user__in=occupied))
    return runs


def _in_turn(runs: QuerySet[Job], due: Q) -> Iterator[dict]:
    """Those with a shard that may be begun, the next one first. The first few are looked at for shards, then more: with
    thousands of runs it matters that not all are."""
    rows, begin, size = _ordered(runs), 0, _FEW
    while found := list(rows[begin : begin + size]):
        few = Job.objects.filter(pk__in=[row["pk"] for row in found])
        able = set(_with_shards(few, due).order_by().values_list("pk", flat=True))
        yield from (row for row in found if row["pk"] in able)
        begin, size = begin + size, 4 * size


def _ordered(runs: QuerySet[Job]) -> QuerySet[Job, dict]:
    urgent = Case(When(priority=Job.Priority.URGENT, then=0), default=1)
    virtual = Coalesce("share__virtual", 0.0)
    order = (urgent, virtual, "share", "-priority", "created_at", "pk")
    return runs.order_by(*order).values(
        "pk", "share", "priority", "admitted_at", virtual=virtual, weight=_weight("share__user__allowance__weight")
    )


def _weight(at: str) -> Greatest:
    return Greatest(Coalesce(F(at), 1.0), Value(_LEAST), output_field=FloatField())


def _over(device: str) -> tuple[list[int], list[int]]:
    """People who may begin no further run, and who have all the workers of this kind that they may have."""
    began = Job.objects.filter(RUNNING).order_by().values("share__user", most=_most("running")).annotate(n=Count("pk"))
    full = [row["share__user"] for row in began if row["share__user"] and 0 < row["most"] <= row["n"]]
    if not settings.USER_WORKERS and not Allowance.objects.filter(workers__gt=0).exists():
        return full, []
    held = Job.objects.filter(device=device, state__in=Job.ACTIVE, shards__state=Shard.State.LEASED).order_by()
    rows = held.values("share__user", most=_most("workers")).annotate(n=Count("shards"))
    return full, [row["share__user"] for row in rows if row["share__user"] and 0 < row["most"] <= row["n"]]


def _most(name: str) -> Coalesce:
    usual = {"running": settings.USER_RUNNING, "workers": settings.USER_WORKERS}[name]
    return Coalesce(f"share__user__allowance__{name}", usual)
