"""What workers are called for. Each is short to describe: look at the row, act, ring for what follows."""

from __future__ import annotations

import logging
import os
import traceback

from celery import current_task, shared_task

from repair_engine.errors import BadInput, VerificationFailed
from webapp.jobs import coordinator, leases, reaper, runner, webhooks
from webapp.jobs.leases import LeaseLost

log = logging.getLogger(__name__)


def worker_id() -> str:
    """Which process this is: name, the life it is in, process id."""
    name = current_task.request.hostname if current_task else None
    return f"{name or 'inline'}/{os.environ.get('NR_INCARNATION', '0')}/{os.getpid()}"


@shared_task
def run_shard(pk: str) -> None:
    """Lease the shard if it still waits, compute it, move the job on."""
    lease = leases.claim(int(pk), worker_id())
    if lease is None:
        return
    try:
        runner.run(lease)
    except LeaseLost:
        log.info("shard %s: no longer ours, dropped", pk)
    except BadInput as error:
        leases.fail(lease, fault="input", problem=error.problem, mend=error.mend)
    except VerificationFailed as error:
        leases.fail(lease, fault="server", problem=str(error), mend="Please tell the operator: this is a bug.")
    except Exception:
        log.exception("shard %s failed", pk)
        leases.give_back(lease, error=traceback.format_exc())
    coordinator.advance(lease.job_id)
    reaper.reap()


@shared_task(name="webapp.jobs.tasks.advance")
def advance(job_id: str) -> None:
    coordinator.advance(job_id)


@shared_task
def reap() -> None:
    reaper.reap(force=True)


@shared_task
def deliver(pk: str) -> None:
    webhooks.deliver(pk)
