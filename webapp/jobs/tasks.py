"""What workers are called for. Each is short to describe: look at the row, act, ring for what follows."""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback

from celery import current_task, shared_task

from repair_engine.errors import BadInput, VerificationFailed
from webapp import logs
from webapp.jobs import baselines, bells, choice, coordinator, fair, leases, reaper, releases, runner, studies
from webapp.jobs.leases import Lease, LeaseLost
from webapp.jobs.models import Baseline, UnitStudy, WhatIf
from webapp.library import cache, on_demand
from webapp.steady import is_away, steadily, waits_for

log = logging.getLogger(__name__)


def worker_id() -> str:
    """Who computes: name, the life it is in, process and thread; marked where the process is the worker itself."""
    name = current_task.request.hostname if current_task else None
    pid = os.getpid()
    own = leases.OWN_PROCESS if os.environ.get("NR_WORKER_PID") == str(pid) else ""
    return f"{name or 'inline'}/{os.environ.get('NR_INCARNATION', '0')}/{pid}.{threading.get_native_id()}{own}"


@shared_task
def run_shard(queue: str) -> None:
    """Compute the shard whose turn it is, and move its job on."""
    if why := releases.refused():
        log.error("work of %s is left to others: %s", queue, why)
        return
    if queue not in fair.DEVICES:  # a message of an earlier release
        return
    if lease := begin(queue, worker_id()):
        began = time.monotonic()
        with logs.about(job=lease.job_id, shard=str(lease.shard_id)):
            compute(lease)
            end(queue, lease, time.monotonic() - began)


def begin(queue: str, worker: str) -> Lease | None:
    """What this worker is given, after it has rung for whoever is free, or comes to be."""
    lease = fair.take(queue, worker)
    if lease is not None:
        bells.ring(queue)
    return lease


def end(queue: str, lease: Lease, seconds: float) -> None:
    """Count what it took, and do what follows from it."""
    steadily(lambda: fair.settle(lease, seconds))
    steadily(lambda: coordinator.advance(lease.job_id))
    reaper.after_shard(queue)


def compute(lease: Lease) -> None:
    """The shard, to its result or to whatever kept it from one."""
    try:
        with cache.in_use():
            runner.run(lease)
    except LeaseLost:
        log.info("shard %s: no longer ours, dropped", lease.shard_id)
    except runner.Paused:
        leases.give_way(lease)
    except BadInput as error:
        # An engine may say in its own words that it could not write: that is not what the user sent.
        if held := waits_for(error):
            leases.put_off(lease, held=held)
        else:
            leases.fail(lease, fault="input", problem=error.whole, mend=error.mend)
    except VerificationFailed as error:
        leases.fail(lease, fault="server", problem=str(error), mend="Please tell the operator: this is a bug.")
    except Exception as error:
        _after_failure(lease, error)


def _after_failure(lease: Lease, error: Exception) -> None:
    if held := waits_for(error):
        log.warning("shard %s is put off: %s (%s)", lease.shard_id, held, error)
        leases.put_off(lease, held=held)
    elif is_away(error):
        log.warning("shard %s: the database was away for long (%s), put off", lease.shard_id, error)
        leases.put_off(lease, held="The database could not be reached; the work goes on by itself.")
    else:
        log.error("shard %s failed", lease.shard_id, exc_info=error)
        leases.give_back(lease, error=traceback.format_exc())


@shared_task(name="webapp.jobs.tasks.what_if")
def what_if(pk: int, attempt: int) -> None:
    """Answer a question about a set of units. `attempt` is how many had begun when it was asked: of many one acts."""
    on_demand.run(WhatIf.objects.filter(pk=pk), attempt, lambda asked: choice.answer(asked.select_related("job").get()))


@shared_task(name="webapp.jobs.tasks.advance")
def advance(job_id: str) -> None:
    with logs.about(job=job_id):
        steadily(lambda: coordinator.advance(job_id))


@shared_task
def study_unit(pk: int, attempt: int) -> None:
    """What a card shows, once for all."""
    on_demand.run(UnitStudy.objects.filter(pk=pk), attempt, studies.make)


@shared_task(name="webapp.jobs.tasks.look_before")
def look_before(pk: int, attempt: int, device: str) -> None:
    """At a model on a dataset, once for all runs."""
    on_demand.run(Baseline.objects.filter(pk=pk), attempt, lambda asked: baselines.make(asked, device))


@shared_task
def reap() -> None:
    reaper.reap(force=True)
