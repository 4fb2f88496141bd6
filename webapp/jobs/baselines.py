"""A look at a model and a dataset before any run: made by a worker once for the pair, kept while both are there.

Preprocessing belongs to the model, so a model with another one is another pair.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet

from repair_engine.support.process import prepare_process
from webapp.jobs import reopened
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Baseline
from webapp.jobs.requests import of_pair
from webapp.jobs.services import choose_device
from webapp.library import on_demand
from webapp.library.models import DatasetUpload, ModelUpload, Upload
from webapp.library.tasks import send

TASK = "webapp.jobs.tasks.look_before"


def wanted(model: ModelUpload, dataset: DatasetUpload, asks: bool = True) -> Baseline | None:
    """The baseline; where it is not made, a worker is asked for it. None: one of the two is not ready.

    Args:
        asks: whether who looks may ask; else None stands for what nobody has asked for, too.
    """
    if not model.state == dataset.state == Upload.State.READY:
        return None
    if not asks:
        return Baseline.objects.filter(model=model, dataset=dataset).first()
    one, _ = Baseline.objects.get_or_create(model=model, dataset=dataset)
    if one.speed is None and not one.error:
        device = choose_device("auto")
        queue = "gpu" if device == "cuda" else "light"
        on_demand.ring(one, lambda: send(TASK, one.pk, one.attempts, device, queue=queue))
    return one


def again(model: ModelUpload, dataset: DatasetUpload) -> None:
    """It is wanted once more, if it has failed."""
    on_demand.again(Baseline.objects.filter(model=model, dataset=dataset, speed__isnull=True))


def make(asked: QuerySet[Baseline], device: str) -> None:
    """In a worker. Raises BadInput, or Baseline.DoesNotExist where an upload was deleted meanwhile."""
    prepare_process()
    one = asked.select_related("model__blob", "dataset__blob").get()
    note = reopened.telling(Baseline.objects.filter(pk=one.pk))
    note("reading the model")
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.INCOMING_DIR, prefix="baseline-") as folder:
        request = of_pair(one.model, one.dataset, device)
        speed = get_engine().baseline(request, Path(folder), note, lambda found: _keep(asked, figures=found))
    _keep(asked, speed=speed, share=1.0, note="", detail="")


def _keep(asked: QuerySet[Baseline], **found: object) -> None:
    if not asked.update(**found):
        raise Baseline.DoesNotExist
