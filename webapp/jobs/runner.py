"""What a worker does with a shard that it has leased."""

from __future__ import annotations

from django.utils import timezone

from webapp.jobs import files, leases, requests, results, webhooks
from webapp.jobs.engine import get_engine
from webapp.jobs.leases import Lease
from webapp.jobs.models import FINISH, PREPARE, Event, Job, PhaseState, Shard
from webapp.jobs.progress import Progress


def run(lease: Lease) -> None:
    """Compute the shard and record its result. Raises LeaseLost, BadInput or whatever went wrong."""
    shard = Shard.objects.select_related("job").get(pk=lease.shard_id)
    progress = Progress(lease)
    steps = {PREPARE: _prepare, FINISH: _finish}
    result = steps.get(shard.phase, _sample)(shard, lease, progress)
    leases.finish(lease, result=result, done=progress.done)


def _prepare(shard: Shard, lease: Lease, progress: Progress) -> str:
    job = shard.job
    now = timezone.now()
    if Job.objects.filter(pk=job.pk, state=Job.State.STARTING).update(
        state=Job.State.PROCESSING, started_at=now, phase_started_at=now
    ):
        Event.objects.create(job=job, kind=Job.State.PROCESSING)
        webhooks.announce(job, "repair.started")
    name = f"prepare-{lease.attempt}"
    work = files.fresh_directory(job, name)
    summary = get_engine().prepare(requests.for_engine(job), work, progress.note)
    return files.put_json(job, {"work": name, "summary": summary})


def _sample(shard: Shard, lease: Lease, progress: Progress) -> str:
    job, engine = shard.job, get_engine()
    row = PhaseState.objects.get(job=job, phase=shard.phase, round=shard.round)
    state, work = files.get(job, row.sha256), results.work_directory(job)
    progress.evaluations(0)  # loading the network comes first and may take a while
    blocks = [engine.run_block(work, shard.phase, state, task, progress.evaluations) for task in shard.tasks]
    return files.put(job, files.pack(blocks))


def _finish(shard: Shard, lease: Lease, progress: Progress) -> str:
    job = shard.job
    states = {row.phase: row.sha256 for row in job.states.order_by("round")}
    name = f"finish-{lease.attempt}"
    out = files.fresh_directory(job, name)
    result = get_engine().finish(
        results.work_directory(job),
        {phase: files.get(job, sha256) for phase, sha256 in states.items()},
        out,
        progress.note,
    )
    names = sorted(path.name for path in out.iterdir() if path.is_file())
    return files.put_json(job, {"out": name, "result": result, "files": names})
