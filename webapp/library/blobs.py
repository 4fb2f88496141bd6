"""Files on disk named by their content. A blob's row and its file appear and vanish together.

Every write locks the blob's row first (SQLite: the IMMEDIATE transaction does), so that storing a file and
dropping the last use of the same file cannot interleave.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import ProtectedError

from webapp.library.models import Blob

CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def store(path: Path, *, sha256: str | None = None) -> Blob:
    """Move a file into the store. `sha256` is given when it was computed on the way in."""
    sha256 = sha256 or sha256_of(path)
    with transaction.atomic():
        blob, _ = Blob.objects.get_or_create(sha256=sha256, defaults={"size": path.stat().st_size})
        Blob.objects.select_for_update().get(pk=sha256)
        blob.path.parent.mkdir(parents=True, exist_ok=True)
        if blob.path.exists():
            path.unlink()
        else:
            path.chmod(0o640)
            os.replace(path, blob.path)
    return blob


def copy_in(path: Path) -> Blob:
    """Store a copy of a file that stays where it is."""
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    digest, target = hashlib.sha256(), settings.INCOMING_DIR / f"copy-{os.getpid()}-{path.name}"
    with path.open("rb") as source, target.open("wb") as copy:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    return store(target, sha256=digest.hexdigest())


@transaction.atomic
def drop(sha256: str) -> bool:
    """Delete the blob if nothing uses it any more."""
    blob = Blob.objects.select_for_update().filter(pk=sha256).first()
    if blob is None:
        return False
    path = blob.path
    try:
        with transaction.atomic():
            blob.delete()
    except ProtectedError:
        return False
    path.unlink(missing_ok=True)
    return True
