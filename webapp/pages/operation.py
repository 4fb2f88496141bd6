"""What the operator sees: who works on what, what waits, whose files fill the disk, and what failed."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, F, Min, Q, Window, prefetch_related_objects
from django.db.models.functions import Coalesce, RowNumber

from webapp import clock
from webapp.accounts.models import User
from webapp.jobs import fair
from webapp.jobs.leases import SILENT
from webapp.jobs.models import Artifact, Delivery, Job, Shard, Worker
from webapp.library.models import DatasetUpload, ModelUpload, Thumbnails, Upload

GONE = timedelta(days=1)  # a worker that fell silent longer ago is not shown
FAILED = 30  # failed runs that are shown, the latest
ACCOUNTS = 50  # that are shown, the largest
SHOWN = 5  # runs of one person


@dataclass(frozen=True)
class Station:
    """A worker, and the shards that it holds."""

    worker: Worker
    alive: bool
    shards: list[Shard]


@dataclass(frozen=True)
class Queue:
    """What waits for workers that listen to `name`: pieces of runs, or checks of uploads and webhooks.

    Attributes:
        since: when the one that has waited longest was asked for.
        workers: that listen now.
    """

    name: str
    waiting: int
    runs: int
    since: datetime | None
    workers: int


@dataclass(frozen=True)
class Account:
    """Bytes; a file that is there twice counts once."""

    user: User
    uploads: int
    results: int
    runs: int
    active: int

    @property
    def kept(self) -> int:
        return self.uploads + self.results

    @property
    def share(self) -> float:
        """Of its quota."""
        return self.kept / settings.USER_QUOTA_BYTES if settings.USER_QUOTA_BYTES else 0.0


@dataclass(frozen=True)
class Disk:
    """Bytes of the file system that holds the data directory."""

    total: int
    used: int
    free: int


def stations() -> list[Station]:
    now = clock.now()
    held: dict[str, list[Shard]] = defaultdict(list)
    leased = Shard.objects.filter(state=Shard.State.LEASED).select_related("job__model", "job__owner", "job__team")
    for shard in leased.defer("tasks", "parts", "error", *_unread("job")).order_by("claimed_at"):
        held[shard.worker.partition("/")[0]].append(shard)
    workers = Worker.objects.filter(seen_at__gt=now - GONE).order_by("name")
    return [Station(one, one.seen_at > now - SILENT, held.pop(one.name, [])) for one in workers]


def _unread(prefix: str = "") -> list[str]:
    names = ("summary", "result", "warnings")
    return [f"{prefix}__{name}" if prefix else name for name in names]


def queues(found: list[Station]) -> list[Queue]:
    """One for each kind of device, and `light` for all else."""
    rows = []
    for device, name in (("cpu", "cpu"), ("cuda", "gpu")):
        runs = fair.within_limits(device)  # who waits behind their own runs does not wait for workers
        pending = Shard.objects.filter(state=Shard.State.PENDING, job__in=runs.order_by().values("pk"))
        now = pending.aggregate(n=Count("pk"), runs=Count("job", distinct=True), since=Min("rung_at"))
        rows.append(Queue(name, now["n"], now["runs"], now["since"], _listening(found, name)))
    checks = [kind.objects.filter(state=Upload.State.VALIDATING) for kind in (ModelUpload, DatasetUpload)]
    calls = Delivery.objects.filter(state=Delivery.State.PENDING)
    counts = [one.aggregate(n=Count("pk"), since=Min("created_at")) for one in (*checks, calls)]
    since = min((one["since"] for one in counts if one["since"]), default=None)
    rows.append(Queue("light", sum(one["n"] for one in counts), 0, since, _listening(found, "light")))
    return rows


@dataclass(frozen=True)
class PersonsShare:
    """What one person has had of the workers, and has now."""

    user: User
    hours: dict[str, float]  # of workers, by queue
    weight: float
    limits: fair.Limits
    running: int
    waiting: int
    runs: list[Job]  # that have not ended, in the order of their turns


def shares() -> list[PersonsShare]:
    """Of people with runs under way or a rule of their own: who runs most first."""
    active = Job.objects.filter(state__in=Job.ACTIVE).exclude(share__user=None).order_by()
    counted = active.values("share__user").annotate(n=Count("pk"), begun=Count("pk", filter=fair.RUNNING))
    counts = {row["share__user"]: (row["begun"], row["n"] - row["begun"]) for row in counted}
    people = User.objects.filter(Q(pk__in=counts) | Q(allowance__isnull=False)).select_related("allowance")
    by_runs = sorted(people, key=lambda user: (*(-n for n in counts.get(user.pk, (0, 0))), user.username))[:ACCOUNTS]
    prefetch_related_objects(by_runs, "shares")
    order = F("priority").desc(), F("created_at").asc()
    place = Window(RowNumber(), partition_by="share__user", order_by=order)
    first = active.filter(share__user__in=by_runs).annotate(place=place).filter(place__lte=SHOWN).order_by("place")
    jobs: dict[int, list[Job]] = defaultdict(list)
    for job in first.select_related("model", "share", "owner", "team").defer(*_unread()):
        jobs[job.share.user_id].append(job)
    found = []
    for user in by_runs:
        hours = {share.queue: share.served / 3600 for share in user.shares.all()}
        rule = getattr(user, "allowance", None)
        weight = rule.weight if rule else 1.0
        begun, waiting = counts.get(user.pk, (0, 0))
        found.append(PersonsShare(user, hours, weight, fair.limits_by(rule), begun, waiting, jobs[user.pk]))
    return found


def _listening(found: list[Station], queue: str) -> int:
    return sum(queue in one.worker.queues for one in found if one.alive)


def disk() -> Disk | None:
    try:
        now = shutil.disk_usage(settings.DATA_DIR)
    except OSError:
        return None
    return Disk(now.total, now.used, now.free)


def _payer(at: str = "") -> Coalesce:
    """In whose quota a thing counts."""
    return Coalesce(f"{at}owner", f"{at}team__payer")


def accounts() -> list[Account]:
    """Those that keep most."""
    uploads: dict[int, dict[str, int]] = defaultdict(dict)
    results: dict[int, dict[str, int]] = defaultdict(dict)
    for kind in (ModelUpload, DatasetUpload):
        for owner, blob, size in kind.objects.order_by().values_list(_payer(), "blob", "blob__size"):
            uploads[owner][blob] = size
    made = Thumbnails.objects.exclude(blob=None).order_by()
    for owner, blob, size in made.values_list(_payer("dataset__"), "blob", "blob__size"):
        uploads[owner][blob] = size
    rows = Artifact.objects.order_by().values_list(_payer("job__"), "blob", "blob__size").distinct()
    for owner, blob, size in rows:
        if blob not in uploads[owner]:
            results[owner][blob] = size
    active = Count("jobs", filter=Q(jobs__state__in=Job.ACTIVE))
    people = User.objects.annotate(runs=Count("jobs", filter=Q(jobs__deleted_at=None)), active=active)
    found = [
        Account(user, sum(uploads[user.pk].values()), sum(results[user.pk].values()), user.runs, user.active)
        for user in people
    ]
    return sorted(found, key=lambda one: (-one.kept, one.user.username))[:ACCOUNTS]


def failed() -> list[Job]:
    """Runs that failed on our side, the latest first."""
    rows = Job.objects.filter(state=Job.State.FAILED, fault="server", deleted_at=None)
    ordered = rows.order_by(F("finished_at").desc(nulls_last=True))
    return list(ordered.select_related("model", "owner", "team").defer(*_unread())[:FAILED])
