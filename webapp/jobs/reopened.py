"""A finished run made ready again for questions about it, by who asks a worker and by the worker that answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet

from webapp.jobs.models import Job
from webapp.jobs.requests import for_engine

TOLD = 0.5  # seconds between two words on how far it is


def folder(job: Job) -> Path:
    """Where the run's network and images are kept ready for such questions; `reaper` removes what rests."""
    return settings.JOB_DIR / "what-if" / str(job.pk)


def request_of(job: Job) -> dict:
    """The engine's request, of the run as it was: what its preparing chose is fixed."""
    same = {"budget": job.summary.get("budget"), "attack_images": job.summary.get("attack_images"), "values": None}
    return {**for_engine(job), "parent": same}


def queue_of(job: Job) -> str:
    """Not among the shards of runs under way: somebody waits for the answer before a page."""
    return "gpu" if job.queue == "gpu" else "light"


def telling(asked: QuerySet) -> Callable[..., None]:
    """Says in a row what is done and what share of it. Raises its DoesNotExist where none is `asked` any more."""
    told, stage = 0.0, ""

    def note(words: str, share: float = 0.0) -> None:
        nonlocal told, stage
        if words == stage and time.monotonic() - told < TOLD:
            return
        told, stage = time.monotonic(), words
        if not asked.update(note=words[:200], share=min(max(share, 0.0), 1.0)):
            raise asked.model.DoesNotExist

    return note
