"""What a worker does with a shard that it has leased."""

from __future__ import annotations

from django.db import transaction

from repair_engine.support.process import prepare_process
from webapp import clock
from webapp.jobs import files, leases, requests, results, webhooks
from webapp.jobs.engine import get_engine
from webapp.jobs.leases import Lease
from webapp.jobs.models import FINISH, PREPARE, Event, Job, PhaseState, Shard
from webapp.jobs.progress import Progress
from webapp.steady import steadily


class Paused(Exception):
    """Somebody has paused the job; the blocks that are done are kept."""


def run(lease: Lease) -> None:
    """Compute the shard and record its result. Raises LeaseLost, Paused, BadInput or whatever went wrong."""
    prepare_process()
    shard = steadily(lambda: Shard.objects.select_related("job").get(pk=lease.shard_id))
    progress = Progress(lease)
    steps = {PREPARE: _prepare, FINISH: _finish}
    result = steps.get(shard.phase, _sample)(shard, lease, progress)
    leases.finish(lease, result=result, done=progress.done)


def _prepare(shard: Shard, lease: Lease, progress: Progress) -> str:
    job = shard.job
    steadily(lambda: _begin(job))
    request = steadily(lambda: requests.for_engine(job))
    with files.fresh_directory(job, "prepare", lease.attempt) as work:
        summary = get_engine().prepare(request, work, progress.note)
        return files.put_json(job, {"work": files.keep_directory(job, work, progress.note), "summary": summary})


@transaction.atomic
def _begin(job: Job) -> None:
    now = clock.now()
    if Job.objects.filter(pk=job.pk, state=Job.State.STARTING).update(
        state=Job.State.PROCESSING, started_at=now, phase_started_at=now
    ):
        Event.objects.create(job=job, kind=Job.State.PROCESSING)
        webhooks.announce(job, "repair.started")


def _sample(shard: Shard, lease: Lease, progress: Progress) -> str:
    """Block by block; each is kept as soon as it is done, so that whoever comes after us goes on from there."""
    job, engine = shard.job, get_engine()
    row = steadily(lambda: PhaseState.objects.get(job=job, phase=shard.phase, round=shard.round))
    state, work = files.get(job, row.sha256), results.work_directory(job)
    blocks = files.leading(job, shard.parts)
    names = shard.parts[: len(blocks)]
    # A file that got lost is computed again; then what its blocks cost is known from the plan only.
    progress.done = shard.saved if len(names) == len(shard.parts) else _planned(shard, len(names))
    progress.evaluations(0)  # loading the network comes first and may take a while
    for task in shard.tasks[len(blocks) :]:
        blocks.append(engine.run_block(work, shard.phase, state, task, progress.evaluations))
        if len(blocks) < len(shard.tasks):  # the last one is kept by finishing
            names = [*names, files.put(job, blocks[-1])]
            leases.keep(lease, parts=names, saved=progress.done)
            if leases.paused(lease):
                raise Paused
    return files.put(job, files.pack(blocks))


def _planned(shard: Shard, blocks: int) -> int:
    return sum(task["evaluations"] for task in shard.tasks[:blocks])


def _finish(shard: Shard, lease: Lease, progress: Progress) -> str:
    job = shard.job
    rows = steadily(lambda: list(job.states.order_by("round")))
    states = {row.phase: row.sha256 for row in rows}
    with files.fresh_directory(job, "finish", lease.attempt) as out:
        result = get_engine().finish(
            results.work_directory(job),
            {phase: files.get(job, sha256) for phase, sha256 in states.items()},
            out,
            progress.note,
        )
        names = sorted(path.name for path in out.iterdir() if path.is_file())
        return files.put_json(
            job, {"out": files.keep_directory(job, out, progress.note), "result": result, "files": names}
        )
