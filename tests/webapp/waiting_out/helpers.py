"""Workers that die, and what came of a job."""

from __future__ import annotations

import pytest

from tests.webapp.helpers import rested
from webapp.jobs import coordinator, leases, runner
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job, Shard


class Killed(BaseException):
    """The process is gone: nothing of it handles this."""


def what_came_of(job: Job) -> dict:
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.detail or job.error
    return {one.name: one.blob_id for one in job.artifacts.all()} | {"values": job.result["values"]}


def die_in(monkeypatch, block: int, times: int = 1, error: BaseException | None = None) -> None:
    """Whoever works on this block of the first round dies of it, so many times."""
    engine, left = get_engine(), [times]
    plain = engine.run_block

    def deadly(work, phase, state, task, count):
        if (phase, task["round"], task["block"]) == ("search", 0, block) and left[0]:
            left[0] -= 1
            raise error or Killed
        return plain(work, phase, state, task, count)

    monkeypatch.setattr(engine, "run_block", deadly)


def killed_at_work(shard: Shard, worker: str = "cpu1@host/aa/7") -> None:
    """A child process takes the shard and is killed in it; its worker sees that."""
    lease = leases.claim(shard.pk, worker)
    with pytest.raises(Killed):
        runner.run(lease)
    assert leases.release_dead("cpu1@host/aa", lambda pid: False) == [shard.pk]
    rested()


def fail_at(job: Job, block: int, monkeypatch) -> Shard:
    shard = job.shards.get(phase="search")
    die_in(monkeypatch, block, times=3)
    for _ in range(3):
        killed_at_work(shard)
    coordinator.advance(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.fault) == (Job.State.FAILED, "server")
    return shard
