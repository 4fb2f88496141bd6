"""What is found out about one unit of a finished run when somebody looks at it: made by a worker, kept with the run."""

from __future__ import annotations

import time

from django.db.models import QuerySet

from repair_engine.support.process import prepare_process
from webapp.jobs import requests
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job, UnitStudy
from webapp.library import on_demand
from webapp.library.tasks import send

TOLD = 1.0  # seconds between two words on how far it is


def found(job: Job, unit: str) -> dict[str, UnitStudy]:
    """What was asked about a unit so far, by what it is."""
    return {one.what: one for one in job.unit_studies.filter(unit=unit)}


def wanted(job: Job, unit: str, what: str, constant: float) -> UnitStudy:
    """The study; where it is not made, a worker of the run's kind of device is asked for it.

    Args:
        constant: what ablation puts in the unit's place.
    """
    one, _ = UnitStudy.objects.get_or_create(job=job, unit=unit, what=what, defaults={"constant": constant})
    if one.result is None and not one.error:
        on_demand.ring(one, lambda: send("webapp.jobs.tasks.study_unit", one.pk, one.attempts, queue=job.queue))
    return one


def again(job: Job, unit: str, what: str) -> None:
    """It is wanted once more, if it has failed."""
    on_demand.again(UnitStudy.objects.filter(job=job, unit=unit, what=what, result__isnull=True))


def make(asked: QuerySet[UnitStudy]) -> None:
    """In a worker. Raises BadInput, or UnitStudy.DoesNotExist where the run was deleted meanwhile."""
    prepare_process()
    one = asked.select_related("job__model__blob", "job__dataset__blob", "job__guard__blob").get()
    told, stage = 0.0, ""

    def note(now: str, share: float = 0.0) -> None:
        nonlocal told, stage
        if now == stage and time.monotonic() - told < TOLD:
            return
        told, stage = time.monotonic(), now
        if not UnitStudy.objects.filter(pk=one.pk).update(note=now[:200], done=share):
            raise UnitStudy.DoesNotExist

    result = get_engine().study(requests.for_engine(one.job), one.unit, one.what, one.constant, note)
    asked.update(result=result, note="", detail="")
