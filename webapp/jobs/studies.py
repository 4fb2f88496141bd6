"""What is found out about one unit of a finished run when somebody looks at it: made by a worker, kept with the run."""

from __future__ import annotations

from django.db.models import QuerySet

from repair_engine.support.process import prepare_process
from webapp.jobs import reopened
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job, UnitStudy
from webapp.library import on_demand
from webapp.library.tasks import send


def found(job: Job, unit: str) -> dict[str, UnitStudy]:
    """What was asked about a unit so far, by what it is."""
    return {one.what: one for one in job.unit_studies.filter(unit=unit)}


def wanted(job: Job, unit: str, what: str) -> UnitStudy:
    """The study; where it is not made, a worker is asked for it."""
    one, _ = UnitStudy.objects.get_or_create(job=job, unit=unit, what=what)
    if one.result is None and not one.error:
        task, queue = "webapp.jobs.tasks.study_unit", reopened.queue_of(job)
        on_demand.ring(one, lambda: send(task, one.pk, one.attempts, queue=queue))
    return one


def again(job: Job, unit: str, what: str) -> None:
    """It is wanted once more, if it has failed."""
    on_demand.again(UnitStudy.objects.filter(job=job, unit=unit, what=what, result__isnull=True))


def make(asked: QuerySet[UnitStudy]) -> None:
    """In a worker. Raises BadInput, or UnitStudy.DoesNotExist where the run was deleted meanwhile."""
    prepare_process()
    uploads = ("model", "dataset", "guard", "triggered")
    one = asked.select_related(*(f"job__{role}__blob" for role in uploads)).get()
    note = reopened.telling(UnitStudy.objects.filter(pk=one.pk, job__deleted_at=None))
    note("reading the model")
    result = get_engine().study(reopened.request_of(one.job), reopened.folder(one.job), one.unit, one.what, note)
    asked.update(result=result, share=1.0, note="", detail="")
