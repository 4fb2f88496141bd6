"""How a round's blocks are handed out. Has no effect on any result: blocks merge in block order."""

from __future__ import annotations

import math

from django.conf import settings

from webapp.jobs.models import Job, Shard
from webapp.jobs.selectors import evaluations_per_second, live_workers


def cut(job: Job, phase: str, round_: int, tasks: list[dict]) -> list[Shard]:
    """Consecutive blocks to shards of about a minute, and enough of them to keep every worker busy."""
    per_shard = min(_blocks_in_a_minute(job, tasks), math.ceil(len(tasks) / workers_alive(job.queue)))
    shards = []
    for first in range(0, len(tasks), per_shard):
        part = tasks[first : first + per_shard]
        total = sum(task["evaluations"] for task in part)
        shards.append(Shard(job=job, phase=phase, round=round_, first_block=first, tasks=part, total=total))
    return shards


def workers_alive(queue: str) -> int:
    """Worker processes that listen to this queue; at least one, for it may be about to start."""
    return max(1, sum(1 for worker in live_workers() if queue in worker.queues))


def _blocks_in_a_minute(job: Job, tasks: list[dict]) -> int:
    rate = evaluations_per_second(job)
    if rate is None:
        return 1
    largest = max(1, max(task["evaluations"] for task in tasks))
    return max(1, int(rate * settings.SHARD_SECONDS / largest))
