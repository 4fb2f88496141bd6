"""A job that failed on our side goes on from its finished blocks when its owner asks for it."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from webapp.jobs import bells, files, webhooks
from webapp.jobs.models import FINISH, PREPARE, Delivery, Event, Job, Shard

AGAIN: dict = {
    "state": Shard.State.PENDING,
    "worker": "",
    "result": "",
    "fruitless": 0,
    "lost": 0,
    "not_before": None,
    "held": "",
    "note": "",
    "fault": "",
    "problem": "",
    "mend": "",
    "lease_expires": None,
    "finished_at": None,
    "rung_at": None,
    "done": F("saved"),
}


@transaction.atomic
def resume(job: Job) -> bool:
    """False: it is not one that failed on our side. `attempt` only grows: who worked on it before stays fenced off."""
    active = {"state": Job.State.PROCESSING if job.started_at else Job.State.STARTING, "finished_at": None}
    cleared = {
        "fault": "",
        "error": "",
        "mend": "",
        "detail": "",
        "held": "",
        "swept_at": None,
        "admitted_at": None,
        "paused_at": None,
    }
    if not Job.objects.filter(pk=job.pk, state=Job.State.FAILED, fault="server").update(**active, **cleared):
        return False
    job.refresh_from_db()
    kept = _files_are_there(job)
    if not kept:
        _from_the_beginning(job)
    here = job.shards.filter(phase=job.phase, round=job.round)
    lost = [one.pk for one in here.filter(state=Shard.State.DONE) if not _result_is_there(job, one)]
    (here.exclude(state=Shard.State.DONE) | here.filter(pk__in=lost)).update(**AGAIN)
    # The end that follows is told, too: of each event there is one delivery.
    Delivery.objects.filter(job=job, event__in=webhooks.LAST).delete()
    Event.objects.create(job=job, kind="resumed", data={"phase": job.phase, "from_the_beginning": not kept})
    bells.ring_on_commit(job.queue, here.filter(state=Shard.State.PENDING).count())
    transaction.on_commit(lambda: bells.ring_advance(job))  # where every block of the round is done
    return True


@transaction.atomic
def begin_anew(job: Job) -> None:
    """Of a run under way whose working files are gone, and whose workers are: after a restore."""
    _from_the_beginning(job)
    Job.objects.filter(pk=job.pk).update(held="")
    Event.objects.create(job=job, kind="resumed", data={"phase": job.phase, "from_the_beginning": True})


def _result_is_there(job: Job, shard: Shard) -> bool:
    if not files.intact(job, shard.result):
        return False
    if shard.phase not in (PREPARE, FINISH):
        return True
    written = files.get_json(job, shard.result)  # what it wrote lies in a directory of its own
    return files.has_directory(job, written["work" if shard.phase == PREPARE else "out"])


def _files_are_there(job: Job) -> bool:
    """The working files that the rest needs; they are swept some days after a failure."""
    if job.phase == PREPARE:
        return True
    # Of each phase only the latest state is kept; what was merged into it is gone.
    latest = {row.phase: row.sha256 for row in job.states.order_by("round")}
    return files.has_directory(job, job.work) and all(files.intact(job, name) for name in latest.values())


def _from_the_beginning(job: Job) -> None:
    job.shards.exclude(phase=PREPARE).delete()
    job.states.all().delete()
    job.shards.update(**{**AGAIN, "done": 0, "saved": 0, "parts": []})
    job.phase, job.round, job.work = PREPARE, 0, ""
    job.save(update_fields=["phase", "round", "work"])
