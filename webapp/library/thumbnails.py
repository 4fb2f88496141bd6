"""The thumbnails of a dataset: asked for by who wants to see them, made by a worker, kept as one blob."""

from __future__ import annotations

from webapp.library import on_demand
from webapp.library.models import DatasetUpload, Thumbnails, Upload


def wanted(dataset: DatasetUpload) -> Thumbnails | None:
    """Its thumbnails; where there are none yet, a worker is asked for them. None: the dataset is not ready."""
    if dataset.state != Upload.State.READY:
        return None
    found, _ = Thumbnails.objects.select_related("blob").get_or_create(dataset=dataset)
    if found.blob is not None and not found.blob.is_there:  # lost: they can be made again
        Thumbnails.objects.filter(pk=found.pk, blob=found.blob).update(blob=None, attempts=0, rung_at=None)
        found.refresh_from_db()
    if found.blob is None and not found.error:
        _ring(found)
    return found


def again(dataset: DatasetUpload) -> None:
    """Try once more what has failed."""
    on_demand.again(Thumbnails.objects.filter(dataset=dataset, blob=None))
    wanted(dataset)


def _ring(found: Thumbnails) -> None:
    from webapp.library import tasks

    on_demand.ring(found, lambda: tasks.send(tasks.make_thumbnails.name, found.pk, found.attempts))
