"""The thumbnails of a dataset: asked for by who wants to see them, made by a worker, kept as one blob."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webapp.library.models import DatasetUpload, Thumbnails, Upload


def wanted(dataset: DatasetUpload) -> Thumbnails | None:
    """Its thumbnails; where there are none yet, a worker is asked for them. None: the dataset is not ready.

    Whoever looks, rings: a lost message or a dead worker costs as long as a lease.
    """
    if dataset.state != Upload.State.READY:
        return None
    found, _ = Thumbnails.objects.select_related("blob").get_or_create(dataset=dataset)
    if found.blob is not None and not found.blob.path.exists():  # lost: they can be made again
        Thumbnails.objects.filter(pk=found.pk, blob=found.blob).update(blob=None, attempts=0, rung_at=None)
        found.refresh_from_db()
    if found.blob is None and not found.error:
        _ring(found)
    return found


def again(dataset: DatasetUpload) -> None:
    """Try once more what has failed."""
    Thumbnails.objects.filter(dataset=dataset, blob=None).exclude(error="").update(
        error="", mend="", detail="", attempts=0, rung_at=None
    )
    wanted(dataset)


def _ring(found: Thumbnails) -> None:
    from webapp.library import tasks

    now = timezone.now()
    if found.rung_at and (now - found.rung_at).total_seconds() < settings.LEASE_SECONDS:
        return
    rows = Thumbnails.objects.filter(pk=found.pk, blob=None, error="", attempts=found.attempts, rung_at=found.rung_at)
    if found.attempts >= settings.MAX_ATTEMPTS:
        rows.update(
            error="The thumbnails could not be made.",
            mend="Try again; if that does not help, ask the operator to look at the log.",
        )
        found.refresh_from_db()
    elif rows.update(rung_at=now):
        transaction.on_commit(lambda: tasks.send(tasks.make_thumbnails.name, found.pk, found.attempts))
