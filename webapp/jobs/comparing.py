"""Two finished runs side by side, by the engine's `compare`: small enough to be made while a page is asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.db.models import QuerySet

from repair_engine.compare.document import compare
from repair_engine.errors import BadInput
from webapp.jobs.models import Artifact, Job
from webapp.library.errors import Refused

DOCUMENTS = ("explain.json", "score.json")


def comparable(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Those that hold the values of all filters with their errors."""
    return jobs.filter(state=Job.State.SUCCEEDED, outcome__in=(Job.Outcome.EXPLAINED, Job.Outcome.SCORED))


def compare_runs(a: Job, b: Job, names: tuple[str, str]) -> dict[str, Any]:
    """The engine's document about both, in which they are called by `names`.

    Raises:
        Refused: one has not finished, is a repair, or has other filters than the other.
    """
    first, second = _document_of(a, names[0]), _document_of(b, names[1])
    try:
        return _compared(str(first.blob.path), str(second.blob.path), names)
    except BadInput as error:
        raise Refused(error.problem, error.mend, status=422) from None


@lru_cache(maxsize=16)
def _compared(first: str, second: str, names: tuple[str, str]) -> dict[str, Any]:
    """Files are named by their content, so what was compared once stays true."""
    return compare(first, second, names)


def _document_of(job: Job, called: str) -> Artifact:
    if job.state != Job.State.SUCCEEDED:
        raise Refused(f"The run {called} has not finished ({job.state}).", "Compare finished runs.", status=409)
    artifact = job.artifacts.select_related("blob").filter(name__in=DOCUMENTS).first()
    if artifact is None:
        raise Refused(
            f"The run {called} is a repair, which keeps no errors of all filters' values.",
            "Compare runs that explain a metric or value filters (kind explain or score).",
            status=422,
        )
    return artifact
