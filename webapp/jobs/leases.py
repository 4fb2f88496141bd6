"""Who works on a shard: claim, renew, finish, give back, expire. Every step is one conditional UPDATE.

The claim, step by step:

1. read the shard: it must be pending, and its job active; remember `attempt`;
2. UPDATE shard SET state='leased', attempt=attempt+1, worker, lease_expires
   WHERE id AND state='pending' AND attempt is still what was read;
3. one row: the lease is ours, and `attempt` is our fencing token. No row: somebody else was faster.

From then on each write of ours says WHERE id AND state='leased' AND attempt=ours. If the lease expired and
went to another worker, or the job was cancelled, that matches no row: we learn it and throw our work away.
So a worker that was only slow can never overwrite what its successor wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from repair_engine.errors import Cancelled
from webapp.jobs.models import FINISH, PREPARE, Event, Job, Shard, Worker


@dataclass(frozen=True)
class Lease:
    """The right to work on a shard, until it expires."""

    shard_id: int
    job_id: str
    attempt: int
    worker: str
    seconds: int  # how long each renewal lasts


class LeaseLost(Cancelled):
    """The shard is no longer ours: cancelled, or expired and given to another worker."""


def _ours(lease: Lease):
    return Shard.objects.filter(pk=lease.shard_id, state=Shard.State.LEASED, attempt=lease.attempt)


def lease_seconds(phase: str) -> int:
    return settings.SLOW_LEASE_SECONDS if phase in (PREPARE, FINISH) else settings.LEASE_SECONDS


def claim(shard_id: int, worker: str, *, now: datetime | None = None) -> Lease | None:
    """None when there is nothing to do: taken, done, or the job has ended."""
    now = now or timezone.now()
    shard = (
        Shard.objects.filter(pk=shard_id, state=Shard.State.PENDING, job__state__in=Job.ACTIVE)
        .values("attempt", "phase", "job_id")
        .first()
    )
    if shard is None:
        return None
    attempt, seconds = shard["attempt"] + 1, lease_seconds(shard["phase"])
    won = Shard.objects.filter(pk=shard_id, state=Shard.State.PENDING, attempt=shard["attempt"]).update(
        state=Shard.State.LEASED,
        attempt=attempt,
        worker=worker,
        claimed_at=now,
        lease_expires=now + timedelta(seconds=seconds),
        done=0,
        note="",
    )
    return Lease(shard_id, str(shard["job_id"]), attempt, worker, seconds) if won else None


def renew(lease: Lease, *, done: int | None = None, note: str | None = None) -> None:
    """Keep the lease alive and say how far we are. Raises LeaseLost."""
    changes: dict = {"lease_expires": timezone.now() + timedelta(seconds=lease.seconds)}
    if done is not None:
        changes["done"] = done
    if note is not None:
        changes["note"] = note[:200]
    if not _ours(lease).update(**changes):
        raise LeaseLost


def finish(lease: Lease, *, result: str, done: int | None = None) -> None:
    """Record the result. Raises LeaseLost: then nothing was recorded."""
    changes: dict = {"state": Shard.State.DONE, "result": result, "finished_at": timezone.now(), "error": ""}
    if done is not None:
        changes["done"] = done
    if not _ours(lease).update(**changes, lease_expires=None, note=""):
        raise LeaseLost


def give_back(lease: Lease, *, error: str) -> bool:
    """After a failed attempt: to the next worker, or failed for good after the last. True: is retried."""
    return bool(_take_back(Q(pk=lease.shard_id, attempt=lease.attempt), error)) and (
        Shard.objects.filter(pk=lease.shard_id, state=Shard.State.PENDING).exists()
    )


def fail(lease: Lease, *, fault: str, problem: str, mend: str) -> bool:
    """Another attempt would end the same way. False: the lease was lost, somebody else decides."""
    return bool(
        _ours(lease).update(
            state=Shard.State.FAILED,
            failures=F("failures") + 1,
            fault=fault,
            problem=problem,
            mend=mend,
            lease_expires=None,
            finished_at=timezone.now(),
        )
    )


def expire(*, now: datetime | None = None) -> list[int]:
    """Take back the leases that ran out. Returns the shards that changed."""
    now = now or timezone.now()
    return _take_back(
        Q(lease_expires__lt=now),
        "The worker fell silent: it was killed (out of memory?), lost its machine, or hung.",
    )


def release_incarnations(worker: str, incarnation: str) -> list[int]:
    """A worker of this name has started anew: what its earlier life held will not be finished."""
    return _take_back(
        Q(worker__startswith=f"{worker}/") & ~Q(worker__startswith=f"{worker}/{incarnation}/"),
        "The worker process died (killed, or out of memory) and was started again.",
    )


def release_dead(shard_id: int, worker: str) -> list[int]:
    """The child process of `worker` that ran this shard is known to be dead."""
    return _take_back(
        Q(pk=shard_id, worker__startswith=f"{worker}/"), "The worker process died: killed, or out of memory."
    )


def release_stopping(worker: str) -> list[int]:
    """`worker` was told to stop: its shards go to others, and that is nobody's failure."""
    return _take_back(Q(worker__startswith=f"{worker}/"), "", failure=False)


def _take_back(which: Q, error: str, *, failure: bool = True) -> list[int]:
    changed = []
    rows = Shard.objects.filter(which, state=Shard.State.LEASED)
    for row in list(rows.only("pk", "job_id", "phase", "attempt", "failures", "worker")):
        pk, attempt, failures, worker = row.pk, row.attempt, row.failures, row.worker
        changes: dict = {"lease_expires": None}
        if failure:
            failures += 1
            changes |= {"failures": failures, "error": f"Attempt {attempt} on {worker}:\n{error}"}
        if failures >= settings.MAX_ATTEMPTS:
            changes |= {"state": Shard.State.FAILED, "finished_at": timezone.now()}
        else:
            changes |= {"state": Shard.State.PENDING, "worker": "", "rung_at": None, "rings": 0, "done": 0}
        # Asked again in the UPDATE: a renewal in between keeps the lease.
        if Shard.objects.filter(which, pk=pk, state=Shard.State.LEASED, attempt=attempt).update(**changes):
            changed.append(pk)
            if failure:
                told = {"phase": row.phase, "attempt": attempt, "error": last_line(error)}
                Event.objects.create(
                    job_id=row.job_id, kind="retry" if failures < settings.MAX_ATTEMPTS else "gave_up", data=told
                )
    return changed


def last_line(text: str) -> str:
    """What a traceback comes down to."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no cause was recorded."


def pending_bells(*, now: datetime | None = None, limit: int = 500) -> list[Shard]:
    """Shards nobody took although their bell was rung a while ago: the message may be lost.

    The pause doubles each time, so a long queue is not filled with bells for the same work.
    """
    now = now or timezone.now()
    rows = Shard.objects.filter(state=Shard.State.PENDING, job__state__in=Job.ACTIVE).select_related("job")
    due = []
    for shard in rows.order_by("pk")[:limit]:
        pause = timedelta(seconds=settings.BELL_SECONDS * 2 ** min(max(shard.rings - 1, 0), 5))
        if shard.rung_at is None or shard.rung_at + pause <= now:
            due.append(shard)
    return due


def mark_rung(shard: Shard) -> bool:
    """Take the duty of ringing, so that two reapers do not both ring. False: another one does."""
    return bool(
        Shard.objects.filter(pk=shard.pk, state=Shard.State.PENDING, rung_at=shard.rung_at).update(
            rung_at=timezone.now(), rings=F("rings") + 1
        )
    )


def worker_seen(*, name: str, incarnation: str, queues: list[str], device: str) -> None:
    Worker.objects.update_or_create(
        name=name,
        defaults={"incarnation": incarnation, "queues": queues, "device": device, "seen_at": timezone.now()},
    )


def worker_gone(name: str) -> None:
    """It stopped in good order: nobody should count on it."""
    Worker.objects.filter(name=name).delete()
