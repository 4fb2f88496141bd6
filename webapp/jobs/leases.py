"""Who works on a shard: claim, renew, finish, give back, expire. Every step is one conditional UPDATE.

The claim, step by step:

1. read the shard: it must be pending and due, and its job active; remember `attempt`;
2. UPDATE shard SET state='leased', attempt=attempt+1, worker, lease_expires
   WHERE id AND state='pending' AND attempt is still what was read;
3. one row: the lease is ours, and `attempt` is our fencing token. No row: somebody else was faster.

From then on each write of ours says WHERE id AND state='leased' AND attempt=ours. If the lease expired and
went to another worker, or the job was cancelled, that matches no row: we learn it and throw our work away.
So a worker that was only slow can never overwrite what its successor wrote.

Each step may meet a database connection that was cut, and is then made again on a new one (`steadily`): asked
twice, it answers as it did the first time.

Blocks that are done stay done (`keep`). So what counts against a shard is attempts in a row that did not finish
one more block: three, where something it did may have ended them; ten, where each time the whole worker went
away. After each it rests a while (`not_before`); the reaper rings when that is over.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from repair_engine.errors import Cancelled
from webapp import clock
from webapp.jobs.models import FINISH, PREPARE, Event, Job, Shard, Worker
from webapp.steady import steadily

OWN_PROCESS = ".own"  # ends the name of a worker that computes in its main process: its shard may have killed it
LONGEST_REST = 300.0  # seconds
SILENT = timedelta(seconds=45)  # a worker that has not been heard of for longer is gone


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
    """None when there is nothing to do: taken, done, resting, or the job has ended."""
    return _claim(Q(pk=shard_id), worker, now or clock.now())


def claim_of(job_id: str, worker: str, *, now: datetime) -> Lease | None:
    """The first shard of a job that waits; None when none does, or somebody else took it."""
    return _claim(Q(job=job_id), worker, now)


def _claim(which: Q, worker: str, now: datetime) -> Lease | None:
    waiting = Shard.objects.filter(which, due(now), state=Shard.State.PENDING)
    asked = waiting.filter(job__state__in=Job.ACTIVE).values("pk", "attempt", "phase", "job_id")
    shard = steadily(lambda: asked.order_by("pk").first())
    if shard is None:
        return None
    attempt, seconds = shard["attempt"] + 1, lease_seconds(shard["phase"])
    changes = {
        "state": Shard.State.LEASED,
        "attempt": attempt,
        "worker": worker,
        "claimed_at": now,
        "lease_expires": now + timedelta(seconds=seconds),
        "done": F("saved"),
        "not_before": None,
        "held": "",
        "note": "",
    }
    lease = Lease(shard["pk"], str(shard["job_id"]), attempt, worker, seconds)
    won = _once(
        lambda: waiting.filter(pk=shard["pk"], attempt=shard["attempt"]).update(**changes),
        lambda: _ours(lease).filter(worker=worker, claimed_at=now).exists(),
    )
    return lease if won else None


def held_since(worker: str, moment: datetime) -> Lease | None:
    """What this worker was given at that moment, and has still."""
    held = Shard.objects.filter(state=Shard.State.LEASED, worker=worker, claimed_at=moment)
    row = held.values("pk", "job_id", "attempt", "phase").first()
    return Lease(row["pk"], str(row["job_id"]), row["attempt"], worker, lease_seconds(row["phase"])) if row else None


def due(now: datetime) -> Q:
    return Q(not_before=None) | Q(not_before__lte=now)


def _once(write: Callable[[], int], written: Callable[[], bool]) -> bool:
    """A conditional UPDATE. When the connection was cut, it may have been made all the same: then it was ours."""
    tries = 0

    def again() -> bool:
        nonlocal tries
        tries += 1
        return bool(write()) or (tries > 1 and written())

    return steadily(again)


def renew(lease: Lease, *, done: int | None = None, note: str | None = None) -> None:
    """Keep the lease alive and say how far we are. Raises LeaseLost."""
    changes: dict = {"lease_expires": clock.now() + timedelta(seconds=lease.seconds)}
    if done is not None:
        changes["done"] = done
    if note is not None:
        changes["note"] = note[:200]
    if not steadily(lambda: _ours(lease).update(**changes)):
        raise LeaseLost


def keep(lease: Lease, *, parts: list[str], saved: int) -> None:
    """One more block is done for good: the shard makes progress. Raises LeaseLost."""
    expires = clock.now() + timedelta(seconds=lease.seconds)
    changes = {"parts": parts, "saved": saved, "done": saved, "fruitless": 0, "lost": 0, "lease_expires": expires}
    if not steadily(lambda: _ours(lease).update(**changes)):
        raise LeaseLost


def finish(lease: Lease, *, result: str, done: int | None = None) -> None:
    """Record the result. Raises LeaseLost: then nothing was recorded."""
    changes: dict = {"state": Shard.State.DONE, "result": result, "finished_at": clock.now(), "error": ""}
    if done is not None:
        changes["done"] = done
    mine = Shard.objects.filter(pk=lease.shard_id, state=Shard.State.DONE, attempt=lease.attempt, result=result)
    if not _once(lambda: _ours(lease).update(**changes, lease_expires=None, note=""), mine.exists):
        raise LeaseLost


def give_back(lease: Lease, *, error: str) -> bool:
    """After a failed attempt: to the next worker, or failed for good after the last. True: is retried."""
    changed = _take_back(Q(pk=lease.shard_id, attempt=lease.attempt), error)
    waits = Shard.objects.filter(pk=lease.shard_id, state=Shard.State.PENDING)
    return bool(changed) and steadily(waits.exists)


def put_off(lease: Lease, *, held: str) -> bool:
    """Nothing is wrong with the shard: something it needs is away, such as room on the disk. Counts as no attempt."""
    changes = {**_BACK, "done": F("saved"), "held": held[:300], "not_before": clock.now() + rest(2)}
    return _once(lambda: _ours(lease).update(**changes), lambda: _left(lease, Shard.State.PENDING))


def paused(lease: Lease) -> bool:
    """Whether somebody has paused the job: then the shard is given back at the end of its block."""
    return steadily(Job.objects.filter(pk=lease.job_id, paused_at__isnull=False).exists)


def give_way(lease: Lease) -> bool:
    """The job was paused: its shard waits with the blocks that it has. Nothing is wrong, and nobody is rung for."""
    changes = {**_BACK, "done": F("saved"), "rung_at": clock.now()}
    return _once(lambda: _ours(lease).update(**changes), lambda: _left(lease, Shard.State.PENDING))


def fail(lease: Lease, *, fault: str, problem: str, mend: str) -> bool:
    """Another attempt would end the same way. False: the lease was lost, somebody else decides."""
    changes: dict = {
        "state": Shard.State.FAILED,
        "failures": F("failures") + 1,
        "fault": fault,
        "problem": problem,
        "mend": mend,
        "lease_expires": None,
        "finished_at": clock.now(),
    }
    return _once(lambda: _ours(lease).update(**changes), lambda: _left(lease, Shard.State.FAILED))


def _left(lease: Lease, state: str) -> bool:
    """The shard is as we meant to leave it, and nobody has claimed it since."""
    return Shard.objects.filter(pk=lease.shard_id, attempt=lease.attempt, state=state).exists()


def expire() -> list[int]:
    """Take back the leases that ran out. Returns the shards that changed.

    A worker that still says that it lives has hung in this shard; one that does not has gone, whatever it did.
    """
    now = clock.now()
    heard = set(Worker.objects.filter(seen_at__gt=now - SILENT).values_list("name", flat=True))
    return _take_back(
        Q(lease_expires__lt=now),
        "The worker fell silent: it was killed (out of memory?), lost its machine, or hung.",
        lost=lambda worker: worker.partition("/")[0] not in heard,
    )


def release_incarnations(worker: str, incarnation: str) -> list[int]:
    """A worker of this name has started anew: what its earlier life held will not be finished."""
    return _take_back(
        Q(worker__startswith=f"{worker}/") & ~Q(worker__startswith=f"{worker}/{incarnation}/"),
        "The worker process died (killed, or out of memory) and was started again.",
        lost=lambda name: not name.endswith(OWN_PROCESS),
    )


def release_dead(worker: str, alive: Callable[[int], bool] | None = None) -> list[int]:
    """A child process of `worker`, on this machine, is known to be dead: what it held.

    Args:
        worker: its name, and the life that it is in: "cpu1@host/1a2b3c4d".
        alive: whether there is a process of this number.
    """
    mine = Shard.objects.filter(state=Shard.State.LEASED, worker__startswith=f"{worker}/")
    names = set(steadily(lambda: list(mine.values_list("worker", flat=True))))
    dead = [name for name in names if not (alive or _alive)(int(name.split("/")[2].partition(".")[0]))]
    if not dead:
        return []
    return _take_back(Q(worker__in=dead), "The worker process died: killed, or out of memory.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def release_stopping(worker: str) -> list[int]:
    """`worker` was told to stop: its shards go to others, and that is nobody's failure."""
    return _take_back(Q(worker__startswith=f"{worker}/"), "", failure=False)


def _take_back(
    which: Q, error: str, *, failure: bool = True, lost: Callable[[str], bool] = lambda worker: False
) -> list[int]:
    """Leased shards wait again, with the blocks they have. `lost`: whether this worker went away as a whole."""
    held = Shard.objects.filter(which, state=Shard.State.LEASED)
    fields = ("pk", "job_id", "phase", "attempt", "failures", "fruitless", "lost", "worker")
    changed = []
    for row in steadily(lambda: list(held.only(*fields))):
        changes: dict = {**_BACK, "done": F("saved")}
        if failure:
            changes |= _counted(row, error, lost(row.worker))
        if _record(which, row, changes, last_line(error) if failure else ""):
            changed.append(row.pk)
    return changed


_BACK: dict = {
    "state": Shard.State.PENDING,
    "worker": "",
    "lease_expires": None,
    "rung_at": None,
    "note": "",
}


def _counted(row: Shard, error: str, lost: bool) -> dict:
    """What one more failed attempt changes."""
    counts = {"fruitless": row.fruitless + (not lost), "lost": row.lost + lost}
    changes = {**counts, "failures": row.failures + 1, "error": f"Attempt {row.attempt} on {row.worker}:\n{error}"}
    if counts["fruitless"] >= settings.MAX_ATTEMPTS or counts["lost"] >= settings.MAX_LOSSES:
        return {**changes, "state": Shard.State.FAILED, "worker": row.worker, "finished_at": clock.now()}
    # Another machine takes over at once from one that died; what failed by itself rests before it is tried again.
    pause = rest(sum(counts.values()) - lost)
    return {**changes, "not_before": clock.now() + pause, "held": _resting(last_line(error)) if pause else ""}


def _record(which: Q, row: Shard, changes: dict, error: str) -> bool:
    """The change and its event, together or not at all."""

    @transaction.atomic
    def write() -> bool:
        # Asked again in the UPDATE: a renewal in between keeps the lease.
        same = Shard.objects.filter(which, pk=row.pk, state=Shard.State.LEASED, attempt=row.attempt)
        if not same.update(**changes):
            return False
        if error:
            kind = "gave_up" if changes["state"] == Shard.State.FAILED else "retry"
            told = {"phase": row.phase, "attempt": row.attempt, "error": error}
            Event.objects.create(job_id=row.job_id, kind=kind, data=told)
        return True

    after = Shard.objects.filter(pk=row.pk, attempt=row.attempt, state=changes["state"])
    return _once(write, after.exists)


def rest(tries: int) -> timedelta:
    """Before the attempt that follows so many: seconds at first, minutes at last."""
    seconds = settings.RETRY_SECONDS * 4 ** min(tries - 1, 8) if tries > 0 else 0
    return timedelta(seconds=min(seconds, LONGEST_REST))


def _resting(error: str) -> str:
    return f"An attempt failed; it is repeated after a pause. ({error})"[:300]


def last_line(text: str) -> str:
    """What a traceback comes down to."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no cause was recorded."


def worker_seen(*, name: str, incarnation: str, queues: list[str], device: str) -> None:
    Worker.objects.update_or_create(
        name=name,
        defaults={"incarnation": incarnation, "queues": queues, "device": device, "seen_at": clock.now()},
    )


def worker_gone(name: str) -> None:
    """It stopped in good order: nobody should count on it."""
    Worker.objects.filter(name=name).delete()
