"""Making the thumbnails of a dataset, in a worker; a one-shot child process decodes the images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from django.conf import settings
from django.db import transaction

from webapp.library import blobs, quota
from webapp.library.models import Thumbnails

TOLD = 2.0  # seconds between two words on how far it is


def make(found: Thumbnails) -> None:
    """In a worker. Raises BadInput, Refused (no room in the quota), Thumbnails.DoesNotExist (deleted meanwhile)."""
    from repair_engine.data import thumbnails

    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TOLD:
            told = time.monotonic()
            if not Thumbnails.objects.filter(pk=found.pk).update(done=done):
                raise Thumbnails.DoesNotExist

    dataset = found.dataset
    with tempfile.TemporaryDirectory(dir=settings.INCOMING_DIR, prefix="thumbnails-") as folder:
        target = Path(folder) / "pack"
        thumbnails.make(dataset.blob.path, target, dataset.file_name, dataset.split_folder, progress)
        ready = blobs.ready(target)
        with blobs.or_given_up(ready), transaction.atomic():
            quota.lock(dataset.payer)
            row = Thumbnails.objects.select_for_update().get(pk=found.pk)
            if row.blob_id is not None:
                return
            quota.check(dataset.payer, ready.size, f"the thumbnails of {dataset.name}")
            row.blob = blobs.put(ready)
            row.done, row.detail = dataset.facts.get("images", 0), ""
            row.save(update_fields=["blob", "done", "detail"])
