"""Two finished runs side by side, by the engine's `compare`: small enough to be made while a page is asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from django.db.models import Prefetch, QuerySet

from repair_engine.documents.compare import compare
from repair_engine.documents.reading import FILES, TABLE, Place, read_result
from repair_engine.errors import BadInput
from webapp.jobs.live import HEAVY
from webapp.jobs.models import Artifact, Job
from webapp.library.errors import Refused

MOST = 100  # runs that are offered, the newest
_OUTCOMES = (Job.Outcome.EXPLAINED, Job.Outcome.SCORED, Job.Outcome.REPAIRED, Job.Outcome.NO_REPAIR)


def comparable(jobs: QuerySet[Job], beside: Job | None = None) -> list[Job]:
    """Those of which another one has the same filters, valued with their errors, newest first; of the newest MOST.

    Attacks, repairs with filters chosen by hand, and those of versions that kept no errors are left out.

    Args:
        beside: only those that can be compared with this run; of one that itself cannot be, nothing follows.
    """
    ended = jobs.filter(state=Job.State.SUCCEEDED, outcome__in=_OUTCOMES, request__filters__isnull=True)
    files = Prefetch("artifacts", Artifact.objects.filter(name__in=(*FILES, TABLE)).select_related("blob"), "compared")
    rows = ended.select_related(None).select_related("model").defer(*HEAVY).prefetch_related(files)[:MOST]
    found = [(job, _filters_of(_place_in(job.compared))) for job in rows]
    asked = None if beside is None else _filters_of(_place_in(_files_of(beside)))
    if asked is not None:
        return [job for job, filters in found if filters == asked]
    several = Counter(filters for _, filters in found)
    return [job for job, filters in found if filters is not None and several[filters] > 1]


def _files_of(job: Job) -> QuerySet[Artifact]:
    return job.artifacts.select_related("blob").filter(name__in=(*FILES, TABLE))


def _place_in(artifacts: Iterable[Artifact]) -> Place | None:
    found = {a.name: a.blob.path for a in artifacts}
    document = next((found[name] for name in FILES if name in found), None)
    return None if document is None else Place(document, found.get(TABLE))


@lru_cache(maxsize=4096)
def _filters_of(place: Place | None) -> str | None:
    """What stands for the filters that a result is about; None where it cannot be compared. Files never change."""
    if place is None:
        return None
    try:
        ids = sorted(read_result(place).ids)
    except BadInput:
        return None
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def compare_runs(a: Job, b: Job, names: tuple[str, str]) -> dict[str, Any]:
    """The engine's document about both, in which they are called by `names`.

    Raises:
        Refused: one has not finished, does not hold the values of all filters with their errors, or has other filters
            than the other.
    """
    first, second = _place_of(a, names[0]), _place_of(b, names[1])
    try:
        return _compared(first, second, names)
    except BadInput as error:
        raise Refused(error.problem, error.mend, status=422) from None


@lru_cache(maxsize=16)
def _compared(first: Place, second: Place, names: tuple[str, str]) -> dict[str, Any]:
    """Files are named by their content, so what was compared once stays true."""
    return compare(first, second, names)


def _place_of(job: Job, called: str) -> Place:
    if job.state != Job.State.SUCCEEDED:
        raise Refused(f"The run {called} has not finished ({job.state}).", "Compare finished runs.", status=409)
    place = _place_in(_files_of(job))
    if place is None:
        raise Refused(
            f"The run {called} valued no filters.",
            "Compare runs that repair, explain a metric or value filters.",
            status=422,
        )
    return place
