"""Reads: how far a job is, and who works."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.db.models import QuerySet, Sum
from django.utils import timezone

from webapp.accounts.models import User
from webapp.jobs.leases import SILENT
from webapp.jobs.models import FINISH, PREPARE, Artifact, Event, Job, Shard, Worker
from webapp.steady import NO_ROOM, no_room_left


def live_workers() -> list[Worker]:
    """Worker processes that said something lately."""
    return list(Worker.objects.filter(seen_at__gt=timezone.now() - SILENT).order_by("name"))


def results_of(owner: User) -> QuerySet:
    """The names of blobs that are results of the account's runs."""
    return Artifact.objects.filter(job__owner=owner).values("blob")


def expected_of(owner: User) -> int:
    """Bytes that runs under way will keep: a repaired checkpoint has its model's size."""
    under_way = Job.objects.filter(owner=owner, state__in=Job.ACTIVE)
    return under_way.aggregate(total=Sum("model__blob__size"))["total"] or 0


def evaluations_per_second(job: Job) -> float | None:
    """Of one worker, from the latest finished shards of sampling; None before there is one."""
    # Of a shard that was taken up again, part of the work was done before it was claimed.
    finished = job.shards.filter(state=Shard.State.DONE, attempt=1).exclude(phase__in=(PREPARE, FINISH))
    evaluations, seconds = 0, 0.0
    for shard in finished.order_by("-finished_at")[:20]:
        evaluations += shard.done
        seconds += (shard.finished_at - shard.claimed_at).total_seconds()
    return evaluations / seconds if evaluations and seconds > 0 else None


@dataclass(frozen=True)
class Progress:
    """Where a job is. What pages, API and client show.

    Attributes:
        state: starting, processing, succeeded, failed, canceled.
        phase: prepare, the engine's phases, finish.
        note: what is being done now, in words; empty while sampling.
        evaluations, evaluations_total: done in this phase, and at most.
        percent: of the whole job, 0 to 100, never falling.
        eta_seconds: until the phase's evaluations are used up at the present pace; it may end sooner.
        workers: how many work on the job now.
        held: why work waits that could go on: a full disk, a pause after a failed attempt; empty else.
        waiting: True when work is there and no worker has taken any of it.
        worker_alive: False when no worker for this kind of device has been heard of lately.
        retries: attempts that failed and were repeated so far.
    """

    state: str
    phase: str
    note: str
    round: int
    evaluations: int
    evaluations_total: int
    percent: float
    eta_seconds: float | None
    workers: int
    held: str
    waiting: bool
    worker_alive: bool
    retries: int
    elapsed_seconds: float | None

    def to_json(self) -> dict:
        return asdict(self)


def progress(job: Job) -> Progress:
    shards = list(job.shards.filter(phase=job.phase, round=job.round).values("state", "done", "total", "note", "held"))
    leased = [shard for shard in shards if shard["state"] == Shard.State.LEASED]
    pending = [shard for shard in shards if shard["state"] == Shard.State.PENDING]
    done = job.shards.filter(phase=job.phase).aggregate(done=Sum("done"))["done"] or 0
    point = job.states.filter(phase=job.phase).order_by("-round").first()
    total = (point.snapshot.get("budget") if point else None) or sum(shard["total"] for shard in shards)
    total = max(total, done)
    rate = evaluations_per_second(job) if leased else None
    sampling = job.phase not in (PREPARE, FINISH)
    eta = (total - done) / (rate * len(leased)) if rate and sampling and not job.ended else None
    return Progress(
        state=job.state,
        phase=job.phase,
        note=next((shard["note"] for shard in leased if shard["note"]), ""),
        round=job.round,
        evaluations=done if sampling else 0,
        evaluations_total=total if sampling else 0,
        percent=_percent(job, done / total if total and sampling else 0.0),
        eta_seconds=round(eta, 1) if eta is not None else None,
        workers=len(leased),
        held=_held(job, pending),
        waiting=bool(pending) and not leased,
        worker_alive=job.ended or any(job.queue in worker.queues for worker in live_workers()),
        retries=job.shards.aggregate(failures=Sum("failures"))["failures"] or 0,
        elapsed_seconds=_elapsed(job),
    )


def _held(job: Job, pending: list[dict]) -> str:
    if job.ended:
        return ""
    return NO_ROOM if no_room_left() else job.held or next((shard["held"] for shard in pending if shard["held"]), "")


SHARES = {PREPARE: (0, 5), "search": (5, 65), "confirm": (65, 90), FINISH: (90, 100)}  # percent of the whole


ATTACK_SHARES = {PREPARE: (0, 5), FINISH: (5, 100)}


def _percent(job: Job, part: float) -> float:
    if job.state == Job.State.SUCCEEDED:
        return 100.0
    low, high = ATTACK_SHARES[job.phase] if job.attacks else SHARES.get(job.phase, (5, 90))
    return round(low + (high - low) * min(part, 1.0), 1)


def _elapsed(job: Job) -> float | None:
    if job.started_at is None:
        return None
    return round(((job.finished_at or timezone.now()) - job.started_at).total_seconds(), 1)


def series(job: Job) -> list[dict]:
    """The convergence chart: one point per merged round, without the leaders."""
    return [
        {
            "phase": row.phase,
            "round": row.round,
            **{key: value for key, value in row.snapshot.items() if key != "leaders"},
        }
        for row in job.states.order_by("id")
    ]


def leaders(job: Job) -> list[dict]:
    """The present top culprits with their intervals, from the latest merged round."""
    row = job.states.order_by("-id").first()
    return row.snapshot.get("leaders", []) if row else []


def events(job: Job, *, after: int = 0, limit: int = 200) -> list[Event]:
    return list(job.events.filter(pk__gt=after).order_by("pk")[:limit])
