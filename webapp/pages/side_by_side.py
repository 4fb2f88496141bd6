"""Runs side by side: what each was asked, what it bought and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Job
from webapp.jobs.naming import metric_words

MOST = 12


@dataclass(frozen=True)
class Figures:
    """Of one run; None where it has no such figure.

    Attributes:
        before, after: its metric on the report images.
        clean_before, clean_after: plain accuracy on the report images.
        units: that it ablated; None of a run that repairs nothing.
        shared: of these, how many the first run ablated, too; None of the first.
    """

    job: Job
    metric: str
    before: float | None
    after: float | None
    clean_before: float | None
    clean_after: float | None
    units: int | None
    shared: int | None


def figures(jobs: Sequence[Job]) -> list[Figures]:
    """In the order of the runs, of which the first is what the others are set beside."""
    first = _ablated(jobs[0].result)
    return [_figures(job, first if place else None) for place, job in enumerate(jobs)]


def _figures(job: Job, first: set[str] | None) -> Figures:
    before, after = (job.result.get(when, {}).get("report", {}) for when in ("before", "after"))
    units = _ablated(job.result)
    return Figures(
        job=job,
        metric=metric_words(job.request.get("metric", "")),
        before=before.get("metric"),
        after=after.get("metric"),
        clean_before=before.get("accuracy"),
        clean_after=after.get("accuracy"),
        units=None if units is None else len(units),
        shared=None if units is None or first is None else len(units & first),
    )


def _ablated(result: dict[str, Any]) -> set[str] | None:
    """Names of units; None where the run repairs nothing."""
    if "culprits" not in result:
        return None
    return {row["id"] for row in result["culprits"] if row["ablated"]}
