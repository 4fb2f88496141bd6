"""Two finished runs side by side, by the engine's `compare`: small enough to be made while a page is asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.db.models import QuerySet

from repair_engine.compare.document import compare
from repair_engine.compare.reading import FILES, TABLE, Place
from repair_engine.errors import BadInput
from webapp.jobs.models import Job
from webapp.library.errors import Refused

_OUTCOMES = (Job.Outcome.EXPLAINED, Job.Outcome.SCORED, Job.Outcome.REPAIRED, Job.Outcome.NO_REPAIR)


def comparable(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Those that valued all filters: not attacks, and not repairs with filters chosen by hand."""
    return jobs.filter(state=Job.State.SUCCEEDED, outcome__in=_OUTCOMES, request__filters__isnull=True)


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
    found = {a.name: a.blob.path for a in job.artifacts.select_related("blob").filter(name__in=(*FILES, TABLE))}
    document = next((found[name] for name in FILES if name in found), None)
    if document is None:
        raise Refused(
            f"The run {called} valued no filters.",
            "Compare runs that repair, explain a metric or value filters.",
            status=422,
        )
    return Place(document, found.get(TABLE))
